"""How the scripts start, wait, speak and stop."""

import json
import os
import signal
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from kafka import KafkaProducer

from local.broker import free_port
from tests.conftest import PROJECT
from tests.expected import feed, station
from tests.integration.conftest import Pipeline, Script, put, wait_until

READY = {"kafka_project.py": "Published", "spark.py": "Sums of"}


def write_totals(pipeline: Pipeline, *totals: dict[str, object]) -> None:
    """Put records into the final topic, as the job does."""
    pipeline.start("consumer.py", "--timeout-ms", "1").end()  # makes the topics
    with KafkaProducer(**pipeline.client) as producer:
        for total in totals:
            key = str(total["postal_code"]).encode()
            producer.send(pipeline.topic("final"), key=key, value=json.dumps(total).encode())


def total(postal_code: str, last_updated: int, bikes: int = 5) -> dict[str, object]:
    counts = {"stations": 1, "num_bikes_available": bikes, "mechanical": bikes, "ebike": 0, "num_docks_available": 9}
    return {"postal_code": postal_code, "last_updated": last_updated} | counts


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("name", ["kafka_project.py", "spark.py", "consumer.py"])
def test_a_signal_stops_a_script_cleanly(pipeline: Pipeline, name: str, number: int) -> None:
    put(pipeline.serve_folder(), feed(int(time.time()), station()))
    write_totals(pipeline, total("75016", int(time.time())))
    script = pipeline.start(name)
    if name == "consumer.py":
        wait_until(script.printed, "a total")
    else:
        script.wait_for(READY[name])
    status = script.stop(number)
    assert status == 0 or (number == signal.SIGINT and status == 130)
    assert "Traceback" not in script.said()


@pytest.mark.parametrize("name", ["kafka_project.py", "spark.py", "consumer.py"])
def test_a_script_without_a_broker_waits_says_so_and_can_be_stopped(pipeline: Pipeline, name: str) -> None:
    script = pipeline.start(name, KAFKA_BOOTSTRAP_SERVERS=f"localhost:{free_port()}")
    script.wait_for("Waiting for Kafka at localhost:")
    assert script.stop(signal.SIGINT) in (0, 130)


def test_scripts_that_start_before_the_broker_work_when_it_comes(pipeline: Pipeline) -> None:
    port = free_port()
    pipeline.use(f"localhost:{port}")
    pipeline.simulate(stations=10)
    consumer = pipeline.start("consumer.py", "--json", "--max-messages", "1")
    others = [pipeline.start("spark.py"), pipeline.start("kafka_project.py")]
    for script in (consumer, *others):
        script.wait_for("Waiting for Kafka")
    broker = pipeline.start("-m", "local.broker", "--port", str(port), "--data-dir", "own")
    assert consumer.end() == 0
    assert len(consumer.printed()) == 1
    for script in (*others, broker):
        assert script.stop() == 0


@pytest.mark.parametrize("name", ["kafka_project.py", "spark.py", "consumer.py"])
def test_a_wrong_setting_ends_a_script_at_once_with_one_line(pipeline: Pipeline, name: str) -> None:
    script = pipeline.start(name, VELIB_POLL_SECONDS="soon")
    assert script.end() == 2
    assert script.said() == "VELIB_POLL_SECONDS is 'soon': it must be a number of seconds from 0.1 to 86400\n"


def test_the_producer_says_once_that_the_api_fails_and_goes_on(pipeline: Pipeline) -> None:
    served = pipeline.serve_folder()
    producer = pipeline.start("kafka_project.py", VELIB_POLL_SECONDS="0.5")
    producer.wait_for("refuses: 404")
    time.sleep(1)  # several polls
    put(served, feed(int(time.time()), station()))
    producer.wait_for("The feed is back")
    producer.wait_for("Published 1 stations")
    assert producer.said().count("404") == 1
    assert producer.stop() == 0


def test_the_producer_warns_once_of_a_station_that_the_feed_does_not_have(pipeline: Pipeline) -> None:
    pipeline.simulate(stations=10, period=1)
    producer = pipeline.start("kafka_project.py", VELIB_STATIONS="16107,4242")
    wait_until(lambda: producer.said().count("Published") >= 3, "three snapshots")
    assert producer.said().count("The feed has no station 4242 (VELIB_STATIONS)") == 1


def test_the_consumer_prints_the_latest_of_every_postal_code_then_each_new_one(pipeline: Pipeline) -> None:
    now = int(time.time())
    write_totals(pipeline, total("93200", now - 60, 1), total("75016", now - 60, 2), total("75016", now, 3))
    consumer = pipeline.start("consumer.py", "--json")
    wait_until(lambda: len(consumer.printed()) == 2, "two totals")
    write_totals(pipeline, total("75016", now, 3), total("93200", now, 4))
    wait_until(lambda: len(consumer.printed()) == 3, "a new total")
    bikes = [json.loads(line)["num_bikes_available"] for line in consumer.printed()]
    assert bikes == [3, 1, 4]  # by postal code, then as they come; the repeat is left out


def test_the_options_of_the_consumer(pipeline: Pipeline) -> None:
    now = int(time.time())
    stored = [total("75016", now - 60, 1), total("93200", now - 60, 2), total("75016", now, 3), total("75011", now, 4)]
    write_totals(pipeline, *stored)

    def printed(*options: str) -> list[str]:
        consumer = pipeline.start("consumer.py", "--timeout-ms", "1500", *options)
        assert consumer.end() == 0
        return consumer.printed()

    assert [line[:5] for line in printed()] == ["75011", "75016", "93200"]
    assert printed("--from-beginning", "--json") == [json.dumps(one) for one in stored]
    assert [line[:5] for line in printed("--from-beginning", "--max-messages", "2")] == ["75016", "93200"]
    chosen = printed("--postal-code", "93200", "--postal-code", "75011")
    assert [line[:5] for line in chosen] == ["75011", "93200"]
    assert "Paris 11e" in chosen[0]


def test_the_broker_keeps_its_records_and_needs_no_recovery_after_a_stop(pipeline: Pipeline) -> None:
    port = free_port()
    for expected_records in (0, 1):
        broker = pipeline.start("-m", "local.broker", "--port", str(port), "--data-dir", "own")
        wait_until(lambda: broker.printed() == ["ready"], "Kafka is ready")  # noqa: B023
        pipeline.use(f"localhost:{port}")
        assert len(pipeline.records(pipeline.topic("final"))) == expected_records
        if expected_records == 0:
            write_totals(pipeline, total("75016", int(time.time())))
        assert broker.stop(signal.SIGINT) in (0, 130)
    assert "Skipping recovery of 3 logs" in (pipeline.folder / "own" / "kafka.log").read_text()


def test_the_broker_says_that_its_port_or_its_data_is_taken(pipeline: Pipeline) -> None:
    port = free_port()
    broker = pipeline.start("-m", "local.broker", "--port", str(port), "--data-dir", "own")
    wait_until(broker.printed, "Kafka is ready")
    same_port = pipeline.start("-m", "local.broker", "--port", str(port), "--data-dir", "other")
    assert same_port.end() == 1
    assert f"Port {port} cannot be used" in same_port.said()
    same_data = pipeline.start("-m", "local.broker", "--port", str(free_port()), "--data-dir", "own")
    assert same_data.end() == 1
    assert "belongs to another running broker" in same_data.said()
    assert broker.stop() == 0


@pytest.mark.parametrize("name", ["-m", "spark.py"])
def test_without_java_there_is_one_line_that_says_what_to_type(pipeline: Pipeline, tmp_path: Path, name: str) -> None:
    arguments = ["-m", "local.broker", "--port", str(free_port())] if name == "-m" else [name]
    script = pipeline.start(*arguments, JAVA_HOME=str(tmp_path))
    assert script.end() == 1
    assert "sudo apt install openjdk" in script.said()
    assert len(script.said().splitlines()) == 1


def checkout(folder: Path) -> Path:
    """The project as it is, in a folder where the demo may leave its files."""
    for path in PROJECT.iterdir():
        if path.name not in (".venv", ".velib", ".git"):
            (folder / path.name).symlink_to(path)
    return folder


def _left(folder: Path) -> list[psutil.Process]:
    """The processes that run in a folder, but for the demo itself and the tests."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.cwd() == str(folder) and process.pid != os.getpid() and "local.demo" not in process.cmdline():
                found.append(process)
    return found


def test_the_demo_shows_totals_and_stops_without_leaving_anything(tmp_path: Path) -> None:
    demo = Script("-m", "local.demo", folder=checkout(tmp_path), environment={})
    try:
        wait_until(lambda: len(demo.printed()) >= 89, "totals of the whole network")
        assert demo.stop(signal.SIGINT) in (0, 130)
    finally:
        demo.kill()
    assert "Traceback" not in demo.said()
    assert {path.name for path in (tmp_path / ".velib" / "logs").iterdir()} >= {
        "broker.log",
        "consumer.log",
        "feed.log",
        "producer.log",
        "spark.log",
    }
    assert _left(tmp_path) == []


def test_the_demo_stops_and_says_which_part_died(tmp_path: Path) -> None:
    demo = Script("-m", "local.demo", folder=checkout(tmp_path), environment={})
    try:
        demo.wait_for("producer | ")
        (producer,) = [p for p in _left(tmp_path) if "kafka_project.py" in p.cmdline()]
        producer.kill()
        assert demo.end() == 1
    finally:
        demo.kill()
    assert "The producer ended (status -9). The end of .velib/logs/producer.log:" in demo.said()
    assert _left(tmp_path) == []
