"""What the records of the topics hold that the job writes: totals and dead letters."""

import json
import re
from typing import Any, NamedTuple

from velib.runtime import log

POSTAL_CODE = re.compile("[0-9]{5}")
YEAR_9999 = 253_370_764_800  # epoch seconds; Python knows no later date
MAX_NUMBER = 2**53  # JSON numbers are exact below
DEAD_LETTER = ("reason", "topic", "partition", "offset", "key", "value")


class Counts(NamedTuple):
    """The counts of a total, by their names in the topic.

    To add a count, name it here, say in `counts` (velib/job/columns.py) what a station adds to it
    and in `parse_station` (velib/page/state.py) what a single station has, and give it a label in
    velib/page/text.py. Totals without it are then ignored, and the job needs a new checkpoint: its
    state keeps the counts.
    """

    stations: int
    num_bikes_available: int
    mechanical: int
    ebike: int
    num_docks_available: int


COUNTS = Counts._fields
NUMBERS = (*COUNTS, "last_updated")


def parse_total(value: bytes | None) -> dict[str, Any] | None:
    """The total in a record's value; None if it is not one, with a log line unless it is empty."""
    if value is None:
        return None
    try:
        total = json.loads(value.decode())  # of bytes, it would take UTF-16 as well
        numbers = [total[name] for name in NUMBERS]
        has_numbers = all(type(n) is int and abs(n) < MAX_NUMBER for n in numbers)
        has_postal_code = POSTAL_CODE.fullmatch(total["postal_code"])
        if has_numbers and has_postal_code and 0 <= total["last_updated"] < YEAR_9999:
            return dict(total)
    except (ValueError, TypeError, KeyError, RecursionError):
        pass
    log.warning("Not a total, so ignored: %s", ascii(value[:80]))
    return None


def parse_dead_letter(record: Any) -> dict[str, str | None]:
    """The fields of a dead letter as text; a byte that is not UTF-8 is written as in \\xff."""
    fields = dict(record.headers) | {"key": record.key, "value": record.value}
    raw = {name: fields.get(name, b"") for name in DEAD_LETTER}
    return {
        name: None if field is None else field.decode(errors="backslashreplace")
        for name, field in raw.items()
    }
