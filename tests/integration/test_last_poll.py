"""The producer notes every poll in Kafka, where its note outlives it."""

import time
from collections.abc import Callable

import pytest
from kafka import KafkaAdminClient, TopicPartition
from kafka.admin import ACL, ACLOperation, ACLPermissionType, ResourcePattern, ResourceType
from kafka.errors import CoordinatorNotAvailableError

from local.security import DASHBOARD, PRODUCER
from tests.expected import feed, station
from tests.pipeline import Pipeline, wait_until
from velib import last_poll
from velib.kafka import clients, topics
from velib.last_poll import LastPoll, LastPollNote


def _note(pipeline: Pipeline, condition: Callable[[LastPoll], bool], what: str) -> LastPoll:
    """The first note for which the condition holds, read as the dashboard's user."""
    assert pipeline.security is not None
    servers = pipeline.settings.kafka.bootstrap_servers
    settings = pipeline.security.settings(servers, DASHBOARD).model_copy(
        update={"raw_topic": pipeline.settings.raw_topic}
    )

    def read() -> LastPoll | None:
        with KafkaAdminClient(**clients.kafka_python_options(settings)) as admin:
            try:
                note = last_poll.read(admin, settings)
            except CoordinatorNotAvailableError:  # a new Kafka is making its topic of offsets
                return None
        return note if note is not None and condition(note) else None

    note: LastPoll = wait_until(read, what)
    return note


def test_the_note_tells_when_the_feed_was_asked_and_what_came_of_it(pipeline: Pipeline) -> None:
    started = time.time()
    api = pipeline.serve_api()
    producer = pipeline.start("kafka_project.py", VELIB_POLL_SECONDS="3.6")
    failed = _note(pipeline, lambda note: note.error != "", "the note of a poll that failed")
    assert "station_status.json refuses: 404" in failed.error
    assert started < failed.polled_at < failed.next_poll_at < time.time() + 60

    now = int(time.time())
    api.put(feed(now, station("16107"), station("32017")))
    good = _note(pipeline, lambda note: note.error == "", "the note of a poll that went well")
    assert good.polled_at > failed.polled_at
    assert abs(good.next_poll_at - good.polled_at - 0.3) < 0.01  # a twelfth of the poll period
    group = last_poll.group(pipeline.settings)
    with KafkaAdminClient(**pipeline.client) as admin:
        (partition, committed), *others = admin.list_group_offsets(group)[group].items()
        (description,) = admin.describe_groups([group]).values()
    assert (partition, others) == (TopicPartition(pipeline.settings.raw_topic, 0), [])
    assert committed.offset == len(pipeline.raw()) == 2
    assert description["members"] == []

    producer.kill()
    kept = _note(pipeline, lambda note: True, "the note of a producer that was killed")
    assert kept.polled_at >= good.polled_at
    assert wait_until(lambda: time.time() > kept.next_poll_at, "the next poll is due")
    assert _note(pipeline, lambda note: True, "the same note") == kept


def test_a_producer_whose_next_poll_is_overdue_gives_no_sign_of_life(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = pipeline.settings
    topics.ensure(settings)
    monkeypatch.setattr(last_poll, "RENEWAL", 0.1)
    note = LastPollNote(settings)
    with last_poll.client(settings) as admin, note.renewed():

        def is_renewed() -> bool:
            before = last_poll.read_text(admin, settings)
            time.sleep(2)  # twenty renewals
            return last_poll.read_text(admin, settings) != before

        wait_until(lambda: last_poll.read_text(admin, settings), "the first note")
        assert is_renewed()
        now = time.time()
        note.write(LastPoll(now - 90, now - 30, ""), 0)
        assert is_renewed(), "the producer is late, but may still be publishing"
        note.write(LastPoll(now - 1000, now - 940, ""), 0)
        assert not is_renewed()
        note.write(LastPoll(now, now + 60, ""), 0)
        assert is_renewed()


def test_a_note_that_kafka_refuses_stops_no_snapshot_and_is_one_line(pipeline: Pipeline) -> None:
    pipeline.simulate(stations=10, period=1)
    group = last_poll.group(pipeline.settings)
    with KafkaAdminClient(**pipeline.client) as admin:
        pattern = ResourcePattern(ResourceType.GROUP, group)
        deny = ACLPermissionType.DENY
        admin.create_acls([ACL(f"User:{PRODUCER}", "*", ACLOperation.READ, deny, pattern)])
    producer = pipeline.start("kafka_project.py")
    wait_until(lambda: producer.log().count("Published 10 stations") >= 4, "four snapshots")
    assert producer.log().count("Kafka does not keep the note of the last poll") == 1
    assert producer.stop() == 0
