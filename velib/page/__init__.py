"""The page of dashboard.py: what it knows (state, follower), and a module for each part of it."""
