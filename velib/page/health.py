"""Which part of the pipeline stands still, told from the times and offsets of its topics."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum

from velib.page.state import DAY, Live, commonest_reason

OVERDUE = 15  # seconds after which a producer that has not polled as it announced stands still
JOB_PAUSE = 20  # seconds without a total after which a job that has records to read stands still


class Level(IntEnum):
    """How bad a finding is."""

    GOOD = 0
    WARNING = 1
    BAD = 2


@dataclass(frozen=True)
class Finding:
    """What is known of a part: the name of a sentence (page/text.py), and what is put into it.

    Values whose names end in `_at` are epoch seconds.
    """

    part: str
    level: Level
    sentence: str
    values: Mapping[str, float | str] = field(default_factory=dict)


def findings(live: Live, now: float) -> list[Finding]:
    """A finding for each part, in the order of the data; `now` in epoch seconds."""
    if not live.is_kafka_up:
        unknown = [Finding(part, Level.WARNING, "unknown") for part in ("feed", "producer", "job")]
        return [Finding("kafka", Level.BAD, "kafka_away"), *unknown, _dead_letters(live, now)]
    kafka = Finding("kafka", Level.GOOD, "kafka_up")
    return [
        kafka,
        _feed(live, now),
        _producer(live, now),
        _job(live, now),
        _dead_letters(live, now),
    ]


def worst(found: list[Finding]) -> Finding:
    """The first of the worst findings: what is before it in the pipeline is better."""
    return max(found, key=lambda finding: finding.level)


def age_level(live: Live, age: float) -> Level:
    """How bad an age of the newest snapshot is, in seconds."""
    if age < max(20, 3 * live.interval()):
        return Level.GOOD
    return Level.WARNING if age < max(60, 10 * live.interval()) else Level.BAD


def _feed(live: Live, now: float) -> Finding:
    level, since = age_level(live, now - live.raw_snapshot), {"since_at": live.raw_snapshot}
    is_read = _producer(live, now).level is Level.GOOD
    if is_read and live.last_poll is not None and live.last_poll.error:
        return Finding("feed", Level.BAD, "feed_fails", {"error": live.last_poll.error})
    if not live.raw_snapshot:
        return Finding("feed", Level.WARNING, "feed_empty")
    if level is not Level.GOOD and not is_read:
        return Finding("feed", Level.WARNING, "feed_unread", since)
    if level is not Level.GOOD:
        return Finding("feed", level, "feed_still", since)
    return Finding("feed", Level.GOOD, "feed_moves", {"seconds": live.interval()})


def _producer(live: Live, now: float) -> Finding:
    poll = live.last_poll
    if poll is not None and now > poll.next_poll_at + OVERDUE:
        return Finding("producer", Level.BAD, "producer_still", {"since_at": poll.polled_at})
    if poll is not None:
        return Finding("producer", Level.GOOD, "producer_polls", {"poll_at": poll.polled_at})
    if live.raw_published_at == 0:
        return Finding("producer", Level.WARNING, "producer_unseen")
    level = age_level(live, now - live.raw_published_at)
    values = {"published_at": live.raw_published_at}
    return Finding("producer", level, "producer_published", values)


def _job(live: Live, now: float) -> Finding:
    waiting = live.waiting()
    pause = now - live.waiting_since if waiting and live.waiting_since else 0.0
    # Of a snapshot without a selected station there are no totals.
    if pause > JOB_PAUSE and live.selected_stations():
        values = {"records": waiting, "since_at": live.waiting_since}
        return Finding("job", Level.BAD, "job_still", values)
    if not live.newest_snapshot:
        return Finding("job", Level.WARNING, "job_unseen")
    values = {"records": waiting, "written_at": live.total_written_at}
    is_behind = waiting > 2 * max(len(live.stations), 1)
    return Finding("job", Level.WARNING if is_behind else Level.GOOD, "job_runs", values)


def _dead_letters(live: Live, now: float) -> Finding:
    letters = live.dead_letters_since(now - DAY)
    if not letters:
        return Finding("dead_letters", Level.GOOD, "dead_letters_none")
    return Finding(
        "dead_letters",
        Level.WARNING,
        "dead_letters_some",
        {"number": len(letters), "reason": commonest_reason(letters)},
    )
