"""The producer: publishes every new snapshot of the Vélib' feed to the topic `velib-projet`.

    python kafka_project.py                poll the feed until stopped
    python kafka_project.py --once         publish one snapshot, then stop
    python kafka_project.py --record DIR   also keep every snapshot in a file, unchanged
    python kafka_project.py --replay PATH  publish what was recorded, at its original pace

To try it without the internet, with a Kafka and a feed on this machine, run each of these in its
own terminal:

    python -m local.broker
    python -m local.simulator
    VELIB_API_URL=http://localhost:8000 python kafka_project.py

Each station of a snapshot is one record. Its key is the station code; its value is the station as
in the feed, plus the time of the snapshot:

    16107  {"station_id":213688169,"num_bikes_available":1,...,"last_updated":1732004538}

The records of a snapshot are one transaction, so a reader sees the whole snapshot or none of it.
Any number of producers may run on one feed: each snapshot is published once.
"""

import argparse
import time
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from queue import Empty, Queue
from threading import Event

import config
from velib import metrics, runtime
from velib.feed.snapshot import Feed, Snapshot
from velib.feed.watch import FeedWatch
from velib.kafka import membership
from velib.producer.polling import poll, poll_once
from velib.producer.positions import Positions
from velib.producer.publisher import Publisher
from velib.producer.recording import Recording
from velib.producer.replay import Replay, parse_speed
from velib.runtime import in_background, in_thread, local_time, log


def main(stop: Event) -> None:
    arguments = parse_arguments()
    settings = config.load()
    metrics.serve(arguments.metrics_port)
    publisher = Publisher(settings, stop)
    if arguments.replay:
        replay(publisher, arguments)
        return
    recording = Recording(arguments.record) if arguments.record else None
    if arguments.once:
        publish_once(publisher, recording)
    else:
        publish_feed(publisher, recording)


def publish_feed(publisher: Publisher, recording: Recording | None) -> None:
    """Poll the feed and publish each new snapshot, until stopped; raises Failure.

    Another thread publishes, so that a recording misses nothing while Kafka is away.
    """
    settings, stop = publisher.settings, publisher.stop
    watch = FeedWatch(settings)
    waiting: Queue[Snapshot] = Queue(maxsize=1)
    publishing = in_thread(lambda: publish_queued(publisher, waiting))
    for snapshot in poll(Feed(settings), settings.poll_seconds, stop):
        watch.check(snapshot)
        if recording:
            recording.keep(snapshot)
        keep_newest(waiting, snapshot, publisher)
    publishing.result()


def publish_queued(publisher: Publisher, waiting: "Queue[Snapshot]") -> None:
    """Publish each snapshot in the queue, and the positions of the stations, until stopped."""
    try:
        publisher.find_newest()
        in_background(lambda: Positions(publisher.settings).publish_hourly(publisher.stop))
        with membership.joined(publisher.settings):
            while not publisher.stop.is_set():
                with suppress(Empty):
                    publish_and_log(publisher, waiting.get(timeout=0.2))
    finally:
        publisher.stop.set()  # after a failure it ends the polling


def publish_and_log(publisher: Publisher, snapshot: Snapshot) -> None:
    """Publish a snapshot unless the topic contains it or a newer one; raises Failure."""
    seconds = publisher.publish([snapshot])
    if seconds is not None:
        log.info(
            "Published %d stations of the snapshot of %s (%s old) in %.2f s",
            len(snapshot.stations),
            local_time(snapshot.last_updated),
            timedelta(seconds=round(time.time() - snapshot.last_updated)),
            seconds,
        )


def keep_newest(waiting: "Queue[Snapshot]", snapshot: Snapshot, publisher: Publisher) -> None:
    """Put this snapshot into the queue, or leave the one that waits there if that is newer. The
    older of the two is not published.
    """
    with suppress(Empty):
        other = waiting.get_nowait()
        older, snapshot = sorted((other, snapshot), key=lambda each: each.last_updated)
        if publisher.newest < older.last_updated < snapshot.last_updated:
            reason = "a newer one came while Kafka was unavailable"
            log.info("Snapshot %s is not published: %s", local_time(older.last_updated), reason)
    waiting.put_nowait(snapshot)


def publish_once(publisher: Publisher, recording: Recording | None) -> None:
    """Publish the feed's current snapshot; raises Failure."""
    snapshot = poll_once(Feed(publisher.settings))
    FeedWatch(publisher.settings).check(snapshot)
    if recording:
        recording.keep(snapshot)
    publisher.find_newest()
    publish_and_log(publisher, snapshot)
    Positions(publisher.settings).publish()


def replay(publisher: Publisher, arguments: argparse.Namespace) -> None:
    """Publish the recorded snapshots that the topic does not contain yet; raises Failure."""
    speed = 1 if arguments.speed is None else arguments.speed
    recorded = Replay(arguments.replay, arguments.start, arguments.end, speed)
    newest = publisher.find_newest()
    if not recorded.is_published(publisher.settings.raw_topic, newest):
        with membership.joined(publisher.settings):
            recorded.publish_after(newest, publisher.publish, publisher.stop)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Publish the Vélib' feed to Kafka.")
    add = parser.add_argument
    add("--once", action="store_true", help="publish one snapshot, then stop")
    add("--record", type=Path, metavar="DIR", help="also keep every snapshot in a file, unchanged")
    add("--replay", type=Path, metavar="PATH", help="publish what is recorded in PATH instead")
    add(
        "--speed",
        type=parse_speed,
        metavar="N",
        help="N times the original pace; 0: without waiting",
    )
    add(
        "--from",
        dest="start",
        type=runtime.moment,
        metavar="T",
        help="only snapshots from T on, such as '2026-11-01 08:00'",
    )
    add("--to", dest="end", type=runtime.moment, metavar="T", help="only snapshots before T")
    metrics.add_option(parser)
    arguments = parser.parse_args()
    how_to_replay = (arguments.speed, arguments.start, arguments.end)
    if arguments.replay and (arguments.record or arguments.once):
        parser.error("--replay cannot be combined with --record or --once")
    if not arguments.replay and any(value is not None for value in how_to_replay):
        parser.error("--speed, --from and --to need --replay")
    if None not in (arguments.start, arguments.end) and arguments.start >= arguments.end:
        parser.error("--from must be before --to")
    return arguments


if __name__ == "__main__":
    runtime.run(main)
