"""Exercise 10, solved: read Spark's web UI."""

LONGEST_PHASE = "addBatch"

INPUT_ROWS = 2_970

SCANS = 2  # one for the totals, one for the dead letters
