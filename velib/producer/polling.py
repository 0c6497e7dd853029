"""Asks the feed for its snapshots: once, again and again, or for a recording without Kafka."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event

from config import Settings
from velib.errors import Failure
from velib.feed.api import FeedError
from velib.feed.snapshot import Backoff, Feed, Snapshot
from velib.last_poll import LastPoll
from velib.producer import metrics
from velib.producer.recording import Recording
from velib.runtime import in_thread

QUIET_START = 5.0  # seconds that Kafka has to answer before the feed is polled without it


def read_once(feed: Feed) -> list[Snapshot]:
    """The snapshot that the feed has now; raises Failure if it has none."""
    try:
        return [feed.snapshot()]
    except FeedError as error:
        raise Failure(str(error)) from None


def poll(
    feed: Feed,
    poll_seconds: float,
    note: Callable[[LastPoll], None],
    wait: Callable[[float], bool | None] = time.sleep,
) -> Iterator[Snapshot]:
    """Read the feed; yields the snapshot of every poll, whether it is new or not.

    Calls `note` after each poll, when the caller is done with its snapshot, and then `wait` with
    the seconds until the next poll. If that returns true, as an Event does that is set, it ends.

    After a new snapshot the next poll comes `poll_seconds` later, else a twelfth of that, so that a
    snapshot is read soon after the feed has it. The first one may already be old, so it does not
    start the poll period.
    """
    backoff = Backoff(poll_seconds / 12)
    newest = 0
    while True:
        started, polled_at, problem = time.monotonic(), time.time(), ""
        try:
            snapshot = feed.snapshot()
        except FeedError as error:
            problem = str(error)
            metrics.poll_failed(error.kind)
            pause = backoff.failed(error)
        else:
            backoff.recovered()
            yield snapshot
            is_new = 0 < newest < snapshot.last_updated
            pause = poll_seconds if is_new else poll_seconds / 12
            newest = max(newest, snapshot.last_updated)
        note(LastPoll(polled_at, polled_at + pause, problem))
        if wait(max(0.0, started + pause - time.monotonic())):
            return


@contextmanager
def record_meanwhile(settings: Settings, recording: Recording | None) -> Iterator[None]:
    """If there is a recording, have a thread poll for it while the caller waits for Kafka."""
    kafka_answers = Event()

    def record() -> None:
        if recording is None or kafka_answers.wait(QUIET_START):
            return
        feed, note_nothing = Feed(settings), lambda last_poll: None
        for snapshot in poll(feed, settings.poll_seconds, note_nothing, kafka_answers.wait):
            recording.keep(snapshot)

    in_thread(record)
    try:
        yield
    finally:
        kafka_answers.set()
