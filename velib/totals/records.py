"""The records that the job writes: totals and dead letters."""

import json
import math
import re
from typing import Annotated, Any, NamedTuple, get_type_hints

from velib.runtime import log

POSTAL_CODE = re.compile("[0-9]{5}")
YEAR_9999 = 253_370_764_800  # epoch seconds; Python knows no later date
MAX_NUMBER = 2**53  # JSON numbers are exact below
DEAD_LETTER = ("reason", "topic", "partition", "offset", "key", "value")


class Count(NamedTuple):
    """How a count is taken from an open station of the feed, and its name on the page.

    It is the station's `field`, or its bikes of this `kind`, or 1 if both are empty.
    """

    english: str
    french: str
    field: str = ""
    kind: str = ""
    """A key in the field `num_bikes_available_types`."""


class Counts(NamedTuple):
    """What is summed by postal code, by its name in the topic.

    To add a count of what `station_status.json` contains, add a line here. The job and the
    consumer's --json and --csv follow. Everything else that shows counts has a list of its own:
    `as_text` in consumer.py, COLUMNS in velib/totals/table.py, and in velib/page LINES (chart),
    MEASURES (colours), COLUMNS (table), Numbers (header) and `metrics` (endpoints). A station
    without the new `field` becomes a dead letter. The job then needs a new checkpoint, because its
    state contains the counts, and readers ignore the totals that lack it.
    """

    stations: Annotated[int, Count("Stations", "Stations")]
    num_bikes_available: Annotated[int, Count("Bikes", "Vélos", field="num_bikes_available")]
    mechanical: Annotated[int, Count("Mechanical", "Mécaniques", kind="mechanical")]
    ebike: Annotated[int, Count("Electric", "Électriques", kind="ebike")]
    num_docks_available: Annotated[
        int, Count("Free docks", "Places libres", field="num_docks_available")
    ]


COUNTS: dict[str, Count] = {
    name: hint.__metadata__[0] for name, hint in get_type_hints(Counts, include_extras=True).items()
}
NUMBERS = (*COUNTS, "last_updated")


def _finite(text: str) -> float:
    """The number; raises ValueError for NaN and Infinity, which JSON does not have, and 1e999."""
    number = float(text)
    if not math.isfinite(number):
        raise ValueError
    return number


DECODER = json.JSONDecoder(parse_float=_finite, parse_constant=_finite)


def parse_total(value: bytes | None) -> dict[str, Any] | None:
    """The total in a record's value; None if it is not one, with a log line unless it is empty."""
    if value is None:
        return None
    try:
        total = DECODER.decode(value.decode())
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
    """The fields of a dead letter as text; a byte that is not UTF-8 is escaped, as in \\xff."""
    fields = dict(record.headers) | {"key": record.key, "value": record.value}
    raw = {name: fields.get(name, b"") for name in DEAD_LETTER}
    return {
        name: None if field is None else field.decode(errors="backslashreplace")
        for name, field in raw.items()
    }
