"""The colours of the map: which class a number is in, and what shape a station has."""

import pytest

from velib.page import colours
from velib.page.colours import CHANGE, CHANGE_COLOURS, COLOURS, NO_TOTAL
from velib.totals.records import Counts


def counts(bikes: int, ebike: int = 0, docks: int = 0) -> Counts:
    return Counts(1, bikes, bikes - ebike, ebike, docks)


@pytest.mark.parametrize(
    ("most", "expected"),
    [
        (1155, [50, 100, 200, 500, 1000]),
        (1000, [50, 100, 200, 500, 1000]),
        (999, [20, 50, 100, 200, 500]),
        (35, [1, 2, 5, 10, 20]),
        (3, [1, 2, 5, 10, 20]),
        (0, [1, 2, 5, 10, 20]),
    ],
)
def test_the_limits_are_round_numbers_below_the_most(most: int, expected: list[float]) -> None:
    assert colours.limits("num_bikes_available", [counts(0), counts(most)]) == expected
    assert colours.limits("num_docks_available", [counts(1, docks=most)]) == expected


def test_each_class_has_a_colour() -> None:
    limits = colours.limits("num_bikes_available", [counts(1155)])
    for amount, number in ((0, 0), (49, 0), (50, 1), (999, 4), (1000, 5), (1155, 5)):
        assert colours.colour("num_bikes_available", amount, limits) == COLOURS[number]
    assert colours.colour("num_bikes_available", None, limits) == NO_TOTAL


def test_how_full_is_a_share_and_unknown_without_docks() -> None:
    assert colours.value("fill", counts(3, docks=9)) == 0.25
    assert colours.value("fill", counts(0)) is None
    assert colours.value("ebike", counts(5, ebike=2)) == 2
    assert colours.value("num_bikes_available", None) is None


@pytest.mark.parametrize(
    ("bikes", "before", "number"),
    [(10, 15, 0), (10, 12, 1), (10, 11, 2), (10, 10, 3), (11, 10, 4), (12, 10, 5), (15, 10, 6)],
)
def test_a_change_has_a_colour_on_its_side_of_the_scale(
    bikes: int, before: int, number: int
) -> None:
    amount = colours.value(CHANGE, counts(bikes, docks=25 - bikes), counts(before))
    limits = colours.limits(CHANGE, [])
    assert colours.colour(CHANGE, amount, limits) == CHANGE_COLOURS[number]
    assert colours.value(CHANGE, counts(5), None) is None, "nothing to compare with"


@pytest.mark.parametrize(
    ("is_open", "bikes", "docks", "shape"),
    [
        (True, 3, 4, "open"),
        (True, 0, 4, "empty"),
        (True, 3, 0, "full"),
        (True, 0, 0, "open"),  # no docks at all: neither empty nor full
        (False, 0, 4, "closed"),
    ],
)
def test_a_station_has_a_shape_that_shows_its_state(
    is_open: bool, bikes: int, docks: int, shape: str
) -> None:
    assert colours.shape(is_open, counts(bikes, docks=docks)) == shape
