"""What a reader may colour the map by, and the colour and shape of an area or a station."""

from collections.abc import Iterable

from velib.page.state import Counts, Station

MEASURES = ("fill", "bikes", "ebike", "docks")

COLOURS = ["#fde725", "#7ad151", "#22a884", "#2a788e", "#414487", "#440154"]
"""Viridis, from few to many: it also reads well without telling red from green, and in grey."""

NO_TOTAL = "#9aa0a6"
FILL_LIMITS = [0.15, 0.30, 0.45, 0.60, 0.75]


def share(part: int, whole: int) -> float | None:
    """The part of the whole, from 0 to 1; None of nothing."""
    return part / whole if whole else None


def value(measure: str, counts: Counts | Station | None) -> float | None:
    """What an area or a station has of a measure; None if nothing is known, or it has no docks."""
    if counts is None:
        return None
    bikes, docks = counts.num_bikes_available, counts.num_docks_available
    if measure == "fill":
        return share(bikes, bikes + docks)
    return {"bikes": bikes, "ebike": counts.ebike, "docks": docks}[measure]


def limits(measure: str, all_counts: Iterable[Counts | Station]) -> list[float]:
    """The lower limits of the classes above the first, of which there is one fewer than COLOURS.

    They are shares, or the greatest of the numbers 1, 2, 5, 10, 20, 50, … that any value reaches.
    """
    if measure == "fill":
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


def shape(station: Station) -> str:
    """How a station's dot is shaped, so that not only its colour tells what it has."""
    if not station.is_open:
        return "closed"
    if station.num_bikes_available == 0:
        return "empty"
    return "full" if station.num_docks_available == 0 else "open"
