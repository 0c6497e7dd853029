"""How the scripts start, wait, log and stop."""

import signal
import time
from pathlib import Path

import pytest

from local.broker import free_port
from local.day import Day
from tests.expected import feed, station, total
from tests.pipeline import Pipeline, wait_until


def test_a_script_without_a_broker_waits_logs_it_and_can_be_stopped(pipeline: Pipeline) -> None:
    script = pipeline.start("kafka_project.py", KAFKA_BOOTSTRAP_SERVERS=f"localhost:{free_port()}")
    script.wait_for("Waiting for Kafka at localhost:")
    assert script.stop(signal.SIGINT) in (0, 130)


@pytest.mark.parametrize("name", ["kafka_project.py", "spark.py", "consumer.py"])
def test_a_wrong_setting_ends_a_script_at_once_with_one_line(pipeline: Pipeline, name: str) -> None:
    script = pipeline.start(name, VELIB_POLL_SECONDS="soon")
    assert script.end() == 2
    assert (
        script.log()
        == "VELIB_POLL_SECONDS is 'soon': it must be a number of seconds from 0.1 to 86400\n"
    )


def test_the_producer_logs_once_that_the_api_fails_and_continues(pipeline: Pipeline) -> None:
    api = pipeline.serve_api()
    producer = pipeline.start("kafka_project.py", VELIB_POLL_SECONDS="0.5")
    wait_until(lambda: api.requests() >= 5, "several polls")
    api.put(feed(int(time.time()), station()))
    producer.wait_for("The feed is back")
    producer.wait_for("Published 1 stations")
    assert producer.log().count("station_status.json returned 404") == 1
    assert producer.stop() == 0


def test_the_producer_warns_once_of_a_station_that_the_feed_does_not_have(
    pipeline: Pipeline,
) -> None:
    pipeline.simulate(Day(10, period=1))
    producer = pipeline.start("kafka_project.py", VELIB_STATIONS="16107,4242")
    wait_until(lambda: producer.log().count("Published 10 stations") >= 3, "three snapshots")
    assert producer.log().count("The feed has no station 4242 (VELIB_STATIONS)") == 1


def test_a_second_broker_is_refused_and_the_first_needs_no_recovery_after_a_stop(
    pipeline: Pipeline,
) -> None:
    port = free_port()
    pipeline.use(f"localhost:{port}")
    broker = pipeline.start_broker()
    pipeline.write_totals(total("75016", int(time.time())))
    arguments = ("-m", "local.broker", "--port")
    same_port = pipeline.start(*arguments, str(port), "--data-dir", "other")
    same_data = pipeline.start(*arguments, str(free_port()), "--data-dir", "own")
    assert (same_port.end(), same_data.end()) == (1, 1)
    assert f"Port {port} cannot be used" in same_port.log()
    assert "belongs to another running broker" in same_data.log()

    assert broker.stop(signal.SIGINT) in (0, 130)
    broker = pipeline.start_broker()
    wait_until(lambda: broker.printed() == ["ready"], "Kafka is ready")
    assert len(pipeline.totals()) == 1
    assert broker.stop(signal.SIGINT) in (0, 130)
    kafka_log = (pipeline.folder / "own" / "kafka.log").read_text()
    assert "Skipping recovery of 4 logs" in kafka_log


@pytest.mark.parametrize("command", [("spark.py",), ("-m", "local.broker")])
def test_without_java_there_is_one_line_with_the_command_that_installs_it(
    pipeline: Pipeline, tmp_path: Path, command: tuple[str, ...]
) -> None:
    script = pipeline.start(*command, JAVA_HOME=str(tmp_path))
    assert script.end() == 1
    assert "sudo apt install openjdk" in script.log()
    assert len(script.log().splitlines()) == 1
