"""What breaks around the scripts: Kafka dies, the topic is made anew or cut, and the totals are right all the same."""

import json
import time

from kafka import KafkaAdminClient, TopicPartition

from local.broker import free_port
from tests.expected import feed, station
from tests.integration.conftest import Pipeline, Script, put, wait_until
from tests.integration.test_pipeline import sums


def _publish(pipeline: Pipeline, *snapshots: tuple[int, int]) -> None:
    """Publish snapshots of one station, given as time and mechanical bikes."""
    served = pipeline.folder / "feed"
    if not served.exists():
        pipeline.serve_folder()
    for last_updated, bikes in snapshots:
        put(served, feed(last_updated, station("16107", bikes), station("16108", bikes)))
        assert pipeline.start("kafka_project.py", "--once").end() == 0


def _job(pipeline: Pipeline, *options: str) -> Script:
    job = pipeline.start("spark.py", "--available-now", *options, VELIB_STATIONS="all")
    job.end()
    return job


def _bikes(pipeline: Pipeline) -> dict[int, int]:
    return {snapshot: total["mechanical"] for (_, snapshot), total in pipeline.totals().items()}


def test_every_script_outlives_a_broker_that_is_killed_and_comes_back(pipeline: Pipeline) -> None:
    port = free_port()
    pipeline.use(f"localhost:{port}")
    arguments = ("-m", "local.broker", "--port", str(port), "--data-dir", "own")
    broker = pipeline.start(*arguments)
    pipeline.simulate(stations=1500, period=2)
    producer, job = pipeline.start("kafka_project.py"), pipeline.start("spark.py", VELIB_STATIONS="all")
    consumer = pipeline.start("consumer.py", "--json", "--from-beginning")
    wait_until(consumer.printed, "totals before")
    broker.kill()
    for script in (producer, consumer):
        script.wait_for("does not answer: waiting for it")
    time.sleep(5)  # and for a while longer
    pipeline.start(*arguments)
    back = int(time.time())
    wait_until(lambda: consumer.printed() and json.loads(consumer.printed()[-1])["last_updated"] > back, "totals after", 180)
    assert producer.stop() == 0
    expected_totals = sums(1500, 1, pipeline.published())
    wait_until(lambda: pipeline.totals().keys() >= expected_totals.keys(), "all totals", 180)
    assert pipeline.totals() == expected_totals
    wait_until(lambda: len(consumer.printed()) >= len(expected_totals), "everything is printed")
    printed = [json.loads(line) for line in consumer.printed()]
    assert {(one["postal_code"], one["last_updated"]) for one in printed} == expected_totals.keys()
    assert len(printed) == len(expected_totals), "a total was printed again"
    assert job.stop() == 0


def test_the_checkpoint_of_a_topic_that_was_made_anew_is_refused_and_can_be_reset(pipeline: Pipeline) -> None:
    now = int(time.time())
    _publish(pipeline, (now - 120, 3))
    assert _job(pipeline).end() == 0
    raw = pipeline.topic("raw")
    with KafkaAdminClient(**pipeline.client) as admin:
        admin.delete_topics([raw])
    # More records than before: the offsets alone would fit.
    _publish(pipeline, (now - 60, 4), (now, 5))
    refused = _job(pipeline)
    assert refused.end() == 1
    assert "does not fit the topic" in refused.said()
    assert "type: python spark.py --reset-checkpoint" in refused.said()
    unanswered = _job(pipeline, "--reset-checkpoint")
    assert unanswered.end() == 1
    assert "add --yes" in unanswered.said()
    assert _job(pipeline, "--reset-checkpoint", "--yes").end() == 0
    assert _bikes(pipeline) == {now - 120: 6, now - 60: 8, now: 10}


def test_a_checkpoint_that_retention_has_passed_is_refused_and_a_cut_snapshot_is_not_counted(pipeline: Pipeline) -> None:
    now = int(time.time())
    _publish(pipeline, (now - 180, 3))
    assert _job(pipeline).end() == 0
    _publish(pipeline, (now - 120, 4), (now - 60, 5))
    partition = TopicPartition(pipeline.topic("raw"), 0)
    second = [record.offset for record in pipeline.raw() if json.loads(record.value)["last_updated"] == now - 120]
    with KafkaAdminClient(**pipeline.client) as admin:
        admin.delete_records({partition: second[1]})
    refused = _job(pipeline)
    assert refused.end() == 1
    assert "does not fit the topic" in refused.said()
    assert _job(pipeline, "--reset-checkpoint", "--yes").end() == 0
    # Of the snapshot before, one station of two is left: no total is better than a wrong one.
    assert _bikes(pipeline) == {now - 180: 6, now - 60: 10}


def test_the_consumer_prints_dead_letters_and_they_cannot_move_the_terminal(pipeline: Pipeline) -> None:
    served = pipeline.serve_folder()
    put(served, feed(int(time.time()), station("16107"), station("99999", name="\x1b[2J\x9b2J")))
    assert pipeline.start("kafka_project.py", "--once").end() == 0
    assert _job(pipeline).end() == 0
    consumer = pipeline.start("consumer.py", "--dead-letters", "--max-messages", "1")
    assert consumer.end() == 0
    (line,) = consumer.printed()
    assert "stationCode without a postal code" in line
    assert line.isprintable()
    as_json = pipeline.start("consumer.py", "--dead-letters", "--json", "--max-messages", "1")
    assert as_json.end() == 0
    letter = json.loads(as_json.printed()[0])
    assert (letter["key"], letter["reason"]) == ("99999", "stationCode without a postal code")
    assert json.loads(letter["value"])["name"] == "\x1b[2J\x9b2J"
