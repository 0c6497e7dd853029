"""What the scripts are made of: one module for each subject."""
