"""Exercise 6, solved: how many records does each output mode write?"""

RECORDS = {
    # What a batch changed: 2 + 2 + 1 + 2. Of 08:50, the total of 75016 is written twice.
    "update": 7,
    # All that is in the state, again and again: 2 + 4 + 4 + 6.
    "complete": 16,
    # A total that cannot change any more, once: those of 08:45 and 08:50, when 09:10 closes them.
    "append": 4,
}
