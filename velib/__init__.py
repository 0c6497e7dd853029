"""The parts of the scripts: one module for each subject."""
