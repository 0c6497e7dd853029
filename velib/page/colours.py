"""What the map may be coloured by, and the colour and shape of an area or a station."""

from collections.abc import Iterable

from velib.totals.records import Counts

FILL = "fill"
MEASURES = (FILL, "num_bikes_available", "ebike", "num_docks_available")
"""How full a place is, or one of its counts."""

COLOURS = ["#fde725", "#7ad151", "#22a884", "#2a788e", "#414487", "#440154"]
"""Viridis, from few to many: it also reads well without telling red from green, and in grey."""

NO_TOTAL = "#9aa0a6"
FILL_LIMITS = [0.15, 0.30, 0.45, 0.60, 0.75]


def share(part: int, whole: int) -> float | None:
    """The part of the whole, from 0 to 1; None if the whole is 0."""
    return part / whole if whole else None


def value(measure: str, counts: Counts | None) -> float | None:
    """The value of a measure for these counts; None if they are unknown or have no docks."""
    if counts is None:
        return None
    if measure == FILL:
        bikes = counts.num_bikes_available
        return share(bikes, bikes + counts.num_docks_available)
    return float(getattr(counts, measure))


def limits(measure: str, all_counts: Iterable[Counts]) -> list[float]:
    """The lower limits of the classes above the first, of which there is one fewer than COLOURS.

    They are shares, or the greatest of the numbers 1, 2, 5, 10, 20, 50, … that any value reaches.
    """
    if measure == FILL:
        return FILL_LIMITS
    most = max((value(measure, counts) or 0 for counts in all_counts), default=0)
    round_numbers = [n * 10**power for power in range(7) for n in (1, 2, 5)]
    number = len(COLOURS) - 1
    reached = sum(round_number <= most for round_number in round_numbers)
    first = max(0, reached - number)
    return [float(limit) for limit in round_numbers[first : first + number]]


def colour(amount: float | None, class_limits: list[float]) -> str:
    """The colour of the class that a value is in; NO_TOTAL for None."""
    if amount is None:
        return NO_TOTAL
    return COLOURS[sum(amount >= limit for limit in class_limits)]


def shape(is_open: bool, counts: Counts) -> str:
    """The shape of a station's dot, so that its state shows without colours, too.

    A station with neither bikes nor docks is neither empty nor full.
    """
    if not is_open:
        return "closed"
    if bool(counts.num_bikes_available) == bool(counts.num_docks_available):
        return "open"
    return "full" if counts.num_bikes_available else "empty"
