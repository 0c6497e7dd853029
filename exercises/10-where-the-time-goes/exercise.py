"""Exercise 10: read Spark's web UI."""

LONGEST_PHASE = None
"""The phase that takes most of a batch's time: addBatch, commitOffsets, getBatch, latestOffset,
queryPlanning or walCommit.
"""

INPUT_ROWS = None
"""The input rows that Spark shows for a batch with one snapshot, which has 1,485 stations."""

SCANS = None
"""How many times the plan of a batch reads the topic."""
