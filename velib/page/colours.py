"""The measures that colour the map, and the colour and shape of an area or a station."""

from collections.abc import Iterable

from velib.totals.records import Counts

FILL = "fill"
CHANGE = "bikes_change"
MEASURES = (FILL, "num_bikes_available", "ebike", "num_docks_available", CHANGE)
"""How full a place is, one of its counts, or how much the number of bikes rose or fell: the last as
a share of its docks.
"""

COLOURS = [f"var(--few-many-{number})" for number in range(6)]
"""From few to many, as velib/page/page.css defines them for light and dark."""

CHANGE_COLOURS = [f"var(--left-came-{number})" for number in range(7)]
"""From bikes that left to bikes that came."""

NO_TOTAL = "var(--no-total)"
FILL_LIMITS = [0.15, 0.30, 0.45, 0.60, 0.75]
CHANGE_LIMITS = [-0.10, -0.05, -0.02, 0.02, 0.05, 0.10]


def share(part: int, whole: int) -> float | None:
    """The part of the whole, from 0 to 1; None if the whole is 0."""
    return part / whole if whole else None


def value(measure: str, counts: Counts | None, before: Counts | None = None) -> float | None:
    """The value of a measure for these counts; None if they are unknown or have no docks.

    `before` are the earlier counts for CHANGE.
    """
    if counts is None:
        return None
    bikes, docks = counts.num_bikes_available, counts.num_docks_available
    if measure == FILL:
        return share(bikes, bikes + docks)
    if measure == CHANGE:
        return share(bikes - before.num_bikes_available, bikes + docks) if before else None
    return float(getattr(counts, measure))


def limits(measure: str, all_counts: Iterable[Counts]) -> list[float]:
    """The lower limit of each class except the first: one fewer than there are colours.

    For a share they are fixed. For a count they are the largest of 1, 2, 5, 10, 20, 50, … that do
    not exceed the highest value.
    """
    if measure == FILL:
        return FILL_LIMITS
    if measure == CHANGE:
        return CHANGE_LIMITS
    most = max((value(measure, counts) or 0 for counts in all_counts), default=0)
    round_numbers = [n * 10**power for power in range(7) for n in (1, 2, 5)]
    number = len(COLOURS) - 1
    reached = sum(round_number <= most for round_number in round_numbers)
    first = max(0, reached - number)
    return [float(limit) for limit in round_numbers[first : first + number]]


def palette(measure: str) -> list[str]:
    """The colour of each class, as a CSS value."""
    return CHANGE_COLOURS if measure == CHANGE else COLOURS


def colour(measure: str, amount: float | None, class_limits: list[float]) -> str:
    """The colour of the class that a value is in; NO_TOTAL for None."""
    if amount is None:
        return NO_TOTAL
    return palette(measure)[sum(amount >= limit for limit in class_limits)]


def shape(is_open: bool, counts: Counts) -> str:
    """The shape of a station's dot, which shows its state even without colours.

    A station with neither bikes nor docks is neither empty nor full.
    """
    if not is_open:
        return "closed"
    if bool(counts.num_bikes_available) == bool(counts.num_docks_available):
        return "open"
    return "full" if counts.num_bikes_available else "empty"
