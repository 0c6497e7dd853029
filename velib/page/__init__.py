"""The parts of the page of dashboard.py, a room each: it builds its elements and shows a `Live`."""
