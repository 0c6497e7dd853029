"""The page of dashboard.py: its data (state, follower), and a module for each part of it."""
