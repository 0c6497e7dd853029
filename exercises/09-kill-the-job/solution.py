"""Exercise 9, solved: what is in the totals topic after a `kill -9` of the job?"""

from typing import Any

RECORDS = {
    "08:45": 2,
    "08:50": 4,  # the restarted job repeats the batch without a commit
    "08:55": 2,
}

DIFFERENT = {
    "08:45": 2,
    "08:50": 2,  # the repeated batch has the same input and the same state
    "08:55": 2,
}


def is_new(total: dict[str, Any], printed: list[dict[str, Any]]) -> bool:
    return total not in printed
