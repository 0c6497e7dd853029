"""Looking back: what a page shows at a moment, against sums computed by hand."""

from typing import Any

import pytest

import config
from tests.unit.test_state import FINAL, RAW, SNAPSHOT, raw, record, total
from velib.page.moment import Moment
from velib.page.state import MAX_SNAPSHOTS, PipelineState, parse_recorded_at
from velib.totals.records import Counts

TIMES = [SNAPSHOT + seconds for seconds in (0, 600, 1200, 4200)]


@pytest.fixture
def state() -> PipelineState:
    """Four snapshots of two places: 75001 has 1, 2, 3 and 4 bikes, 75002 always 10."""
    state = PipelineState(config.load().model_copy(update={"stations": config.ALL}))
    for bikes, snapshot in enumerate(TIMES, start=1):
        add(state, snapshot, bikes)
    return state


def add(state: PipelineState, snapshot: int, bikes: int) -> None:
    state.add(record(FINAL, total("75001", snapshot, bikes, docks=20)))
    state.add(record(FINAL, total("75002", snapshot, 10, ebike=4, docks=5)))


def test_a_moment_has_the_totals_of_its_snapshot(state: PipelineState) -> None:
    moment = Moment(state, TIMES[1])
    assert not moment.is_live
    assert moment.totals()["75001"] == Counts(1, 2, 2, 0, 20)
    assert moment.sum() == Counts(2, 12, 8, 4, 25)
    assert (moment.snapshot, moment.previous()) == (TIMES[1], TIMES[0])
    assert Moment(state).sum() == Counts(2, 14, 10, 4, 25), "the newest without a choice"


@pytest.mark.parametrize(
    ("chosen", "snapshot"),
    [(TIMES[1] + 599, 1), (TIMES[2], 2), (TIMES[0] - 9, 0), (TIMES[3] + 9, 3), (10**12, 3)],
)
def test_a_time_without_a_snapshot_shows_the_previous_one(
    state: PipelineState, chosen: int, snapshot: int
) -> None:
    assert Moment(state, chosen).snapshot == TIMES[snapshot]


def test_a_paused_moment_stays_and_a_live_one_follows(state: PipelineState) -> None:
    paused, live = Moment(state), Moment(state)
    paused.play(0, now=0)
    add(state, TIMES[3] + 60, 5)
    assert (paused.snapshot, paused.is_live) == (TIMES[3], False)
    assert (live.snapshot, live.is_live) == (TIMES[3] + 60, True)
    paused.go_to(4)
    assert paused.is_live, "the end of the slider"


def test_playing_shows_one_snapshot_after_the_other_until_it_is_live(state: PipelineState) -> None:
    moment = Moment(state)
    moment.play(2, now=100.0)
    assert moment.snapshot == TIMES[0], "from the oldest"
    shown = [(moment.advance(now), moment.snapshot) for now in (100.4, 100.6, 100.9, 101.1)]
    assert shown == [(False, TIMES[0]), (True, TIMES[1]), (False, TIMES[1]), (True, TIMES[2])]
    moment.advance(109.0)
    assert (moment.is_live, moment.speed, moment.snapshot) == (True, 0, TIMES[3])


def test_the_snapshot_of_an_hour_before_goes_by_the_clock_of_the_feed(
    state: PipelineState,
) -> None:
    assert Moment(state).hour_before() == TIMES[1], "exactly an hour"
    assert Moment(state, TIMES[2]).hour_before() == TIMES[0], "the oldest"
    assert Moment(state, TIMES[0]).hour_before() == 0
    # A recorded day, ten minutes of which pass in ten seconds, begins again.
    clock = ["17:10", "08:00", "08:50", "09:00", "09:50"]
    for number, time in enumerate(clock):
        snapshot = TIMES[3] + 10 * (number + 1)
        recorded = raw("16107", snapshot) | {"recorded_at": f"2024-11-07T{time}:00+01:00"}
        state.add(record(RAW, recorded))
        add(state, snapshot, number)
    assert Moment(state).hour_before() == TIMES[3] + 20 + 10, "08:50"
    assert Moment(state, TIMES[3] + 40).hour_before() == TIMES[3] + 20, "08:00"
    assert Moment(state, TIMES[3] + 30).hour_before() == TIMES[3] + 20, "the first of its day"
    assert Moment(state, TIMES[3] + 20).hour_before() == 0, "not the evening before"


@pytest.mark.parametrize(
    "value",
    [{}, [], {"recorded_at": 5}, {"recorded_at": "x"}, {"recorded_at": "2024-11-07T09:10:00"}],
)
def test_a_record_may_not_say_when_it_was_recorded(value: Any) -> None:
    assert parse_recorded_at(record(RAW, value).value) is None


def test_times_of_recording_are_bounded(state: PipelineState) -> None:
    for number in range(MAX_SNAPSHOTS + 10):
        recorded = raw("1", SNAPSHOT + number) | {"recorded_at": "2024-11-07T09:10:00+01:00"}
        state.add(record(RAW, recorded))
    assert len(state.recorded) == MAX_SNAPSHOTS
