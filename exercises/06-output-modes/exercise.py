"""Exercise 6: how many records does each output mode write?"""

RECORDS = {
    "update": None,
    "complete": None,
    "append": None,
}
"""For each output mode, how many records the job has written after the four transactions."""
