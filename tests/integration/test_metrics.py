"""What Prometheus reads of a running pipeline is true, documented, and passes promtool."""

import json
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import requests
from prometheus_client.parser import text_string_to_metric_families

from local.broker import free_port
from local.day import Day
from local.security import SCRIPTS
from tests import PROJECT
from tests.expected import simulated_totals
from tests.pipeline import Pipeline, Script, wait_until

PROMTOOL = shutil.which("promtool", path=Path(sys.executable).parent) or shutil.which("promtool")
needs_promtool = pytest.mark.skipif(
    PROMTOOL is None, reason="there is no promtool: Debian's package prometheus has it"
)
PROMETHEUS = PROJECT / "docs" / "prometheus"
OPERATIONS = (PROJECT / "docs" / "operations.md").read_text(encoding="utf-8")
SPARK_PAGES = ("environment", "SQL", "StreamingQuery", "jobs")
SPARK = "metrics_velib_driver_spark_streaming_velib_"
DAY = Day(50, period=1)

ALERTS_TEST = f"""\
rule_files: [{PROMETHEUS / "alerts.yml"}]
evaluation_interval: 1m
tests:
  - interval: 1m
    input_series:
      - {{series: velib_snapshot_age_seconds, values: "60x15 500+60x30"}}
      - {{series: velib_records_waiting, values: "80000x20 100000x30"}}
      - {{series: velib_dead_letters_last_day, values: "0x20 3x30"}}
    alert_rule_test:
      - {{eval_time: 15m, alertname: VelibTotalsTooOld, exp_alerts: []}}
      - {{eval_time: 15m, alertname: VelibRecordsWaiting, exp_alerts: []}}
      - {{eval_time: 15m, alertname: VelibDeadLetters, exp_alerts: []}}
      - eval_time: 40m
        alertname: VelibTotalsTooOld
        exp_alerts:
          - exp_labels: {{severity: critical}}
            exp_annotations:
              summary: The newest total is more than ten minutes old, or there is none
      - eval_time: 40m
        alertname: VelibRecordsWaiting
        exp_alerts:
          - exp_labels: {{severity: warning}}
            exp_annotations: {{summary: 100000 records wait for the job}}
      - eval_time: 40m
        alertname: VelibDeadLetters
        exp_alerts:
          - exp_labels: {{severity: warning}}
            exp_annotations:
              summary: 3 records of the last day could not be counted
              description: python consumer.py --dead-letters shows them, and why
"""


def _promtool(*arguments: str, given: str = "") -> tuple[int, str]:
    """The exit status of promtool, and what it prints."""
    command = [str(PROMTOOL), *arguments]
    done = subprocess.run(command, input=given, capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


def _scrape(url: str) -> str:
    answer = requests.get(url, timeout=10)
    assert answer.status_code == 200
    return answer.text


def _samples(text: str) -> dict[tuple[str, ...], float]:
    """The value of each sample by its name and its labels' values."""
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def _documented(part: str) -> set[str]:
    """The names in the table of docs/operations.md for a part of the pipeline."""
    table = OPERATIONS.partition(f"\n### {part}\n")[2].partition("\n#")[0]
    return set(re.findall(r"^\| `(\w+)", table, re.MULTILINE))


def _check_producer(pipeline: Pipeline, url: str, simulator: Script) -> None:
    """What the producer serves is what it has published and what went wrong."""
    simulator.kill()
    wait_until(
        lambda: _samples(_scrape(url))["velib_producer_poll_errors_total", "unreachable"] >= 2,
        "two polls of a feed that has gone",
    )
    wait_until(
        lambda: (
            _samples(_scrape(url))["velib_producer_snapshots_published_total",]
            == len(pipeline.published())
        ),
        "the last transaction has ended, and every snapshot is counted",
    )
    samples, published = _samples(_scrape(url)), pipeline.published()
    assert samples["velib_producer_publish_duration_seconds_count",] == len(published)
    assert samples["velib_producer_stations",] == DAY.stations
    age = time.time() - max(published)
    assert abs(samples["velib_producer_feed_age_seconds",] - age) < 5
    assert samples["velib_producer_poll_errors_total", "http_status"] == 0
    _check_own(url, "The producer")


def _check_job(pipeline: Pipeline, url: str) -> None:
    """What the job serves is what it has read and written."""
    records_in = DAY.stations * len(pipeline.published()) + 2
    wait_until(
        lambda: _samples(_scrape(url))["velib_job_records_in_total",] == records_in,
        "all records are counted",
    )
    samples = _samples(_scrape(url))
    totals = pipeline.records(pipeline.settings.final_topic)
    assert samples["velib_job_totals_out_total",] == len(totals)
    assert samples["velib_job_totals_dropped_late_total",] == 0
    assert samples["velib_job_dead_letters_out_total",] == len(pipeline.dead_letters()) == 2
    _check_own(url, "The job")


def _check_consumer(pipeline: Pipeline, url: str) -> None:
    """What the consumer serves is what it has printed."""
    totals = pipeline.totals()
    wait_until(
        lambda: (
            _samples(_scrape(url))["velib_consumer_snapshot_timestamp_seconds",]
            == max(snapshot for _, snapshot in totals)
        ),
        "the newest snapshot is shown",
    )
    shown = _samples(_scrape(url))["velib_consumer_totals_shown_total",]
    assert shown == len(pipeline.records(pipeline.settings.final_topic))
    _check_own(url, "The consumer")


def _check_own(url: str, part: str) -> None:
    """The project's metrics of a script are the documented ones, and promtool accepts them."""
    text = _scrape(url)
    assert set(re.findall(r"^# TYPE (velib_\w+)", text, re.MULTILINE)) == _documented(part)
    if PROMTOOL:
        assert _promtool("check", "metrics", given=text) == (0, "")


def _check_spark(url: str) -> None:
    """Spark serves what the documentation says."""
    text = _scrape(url)
    samples = _samples(text)
    assert _documented("Spark") <= {name for name, *_ in samples}
    assert 0 < samples[f"{SPARK}latency_Value", "gauges"] < 60_000
    assert samples[f"{SPARK}states_rowsTotal_Value", "gauges"] > 0
    if PROMTOOL:
        status, printed = _promtool("check", "metrics", given=text)
        # 3: it has read them all, but does not like Spark's names.
        assert status in (0, 3), printed


def _check_passwords(pipeline: Pipeline, spark_page: str) -> None:
    """No password shows in a log, on a page, in a list of processes or in a file of others."""
    assert pipeline.security is not None
    password_files = list(pipeline.security.directory.glob("*.password"))
    assert len(password_files) == len(SCRIPTS) + 2  # the administrator, the brokers
    passwords = [path.read_text() for path in password_files]
    logs = [
        *(path for path in pipeline.folder.rglob("*") if path.suffix in (".err", ".out", ".log")),
        *pipeline.security.directory.parent.glob("kafka.*"),
    ]
    shown = [
        *(json.dumps(process.info["cmdline"]) for process in psutil.process_iter(["cmdline"])),
        *(_scrape(f"{spark_page}/{page}/") for page in SPARK_PAGES),
        *(path.read_text(errors="replace") for path in logs),
    ]
    assert not [text for text in shown for password in passwords if password in text]
    private = [pipeline.security.directory, *password_files]
    assert all(path.stat().st_mode & 0o077 == 0 for path in private)


def _check_dashboard(pipeline: Pipeline, url: str) -> None:
    """What the dashboard serves is what the topics contain."""
    newest = max(snapshot for _, snapshot in pipeline.totals())
    wait_until(
        lambda: _samples(_scrape(url)).get(("velib_snapshot_timestamp_seconds",)) == newest,
        "the newest snapshot",
    )
    samples = _samples(_scrape(url))
    for (postal_code, snapshot), total in pipeline.totals().items():
        if snapshot == newest:
            assert samples["velib_bikes_available", postal_code] == total["num_bikes_available"]
            assert samples["velib_ebikes_available", postal_code] == total["ebike"]
            assert samples["velib_docks_available", postal_code] == total["num_docks_available"]
            assert samples["velib_stations_counted", postal_code] == total["stations"]
    assert samples["velib_raw_snapshot_timestamp_seconds",] == newest
    assert abs(samples["velib_snapshot_age_seconds",] - (time.time() - newest)) < 5
    assert samples["velib_producers",] == 1
    assert samples["velib_records_waiting",] == 0
    assert samples["velib_dead_letters_last_day",] == 2
    assert samples["velib_kafka_up",] == 1
    assert samples["velib_dashboard_pages",] == 0
    _check_own(url, "The dashboard")


def test_a_running_pipeline_serves_the_metrics_of_its_topics_and_shows_no_password(
    pipeline: Pipeline,
) -> None:
    ports = [free_port() for _ in range(4)]
    urls = [f"http://localhost:{port}/metrics" for port in ports]
    simulator = pipeline.simulate(DAY)
    producer = pipeline.start("kafka_project.py", "--metrics-port", str(ports[0]))
    producer.wait_for("Published")
    bad = (b"99999", b'{"stationCode": "99999"}')
    pipeline.write(pipeline.settings.raw_topic, bad, bad)
    job = pipeline.start("spark.py", "--metrics-port", str(ports[1]), VELIB_STATIONS="all")
    metrics = ("--metrics-port", str(ports[2]))
    consumer = pipeline.start("consumer.py", "--from-beginning", "--json", *metrics)
    dashboard = pipeline.start("dashboard.py", "--port", str(ports[3]))
    job.wait_for("2 dead letters")
    _check_producer(pipeline, urls[0], simulator)
    wait_until(
        lambda: pipeline.totals() == simulated_totals(DAY, pipeline.published()), "all totals"
    )
    _check_job(pipeline, urls[1])
    _check_consumer(pipeline, urls[2])
    spark_page = job.log().partition("UI at ")[2].split()[0]
    _check_spark(f"{spark_page}/metrics/prometheus")
    _check_passwords(pipeline, spark_page)
    dashboard.wait_for("The page: http")
    _check_dashboard(pipeline, urls[3])
    assert [script.stop() for script in (producer, job, consumer, dashboard)] == [0, 0, 0, 0]


@needs_promtool
@pytest.mark.parametrize(
    "arguments",
    [
        ("check", "config", str(PROMETHEUS / "prometheus.yml")),
        ("check", "rules", str(PROMETHEUS / "alerts.yml")),
    ],
    ids=lambda arguments: arguments[1],
)
def test_prometheus_takes_the_configuration(arguments: tuple[str, ...]) -> None:
    status, printed = _promtool(*arguments)
    assert status == 0, printed


@needs_promtool
def test_the_alerts_fire_when_they_should_and_not_before(tmp_path: Path) -> None:
    (tmp_path / "alerts.test.yml").write_text(ALERTS_TEST)
    status, printed = _promtool("test", "rules", str(tmp_path / "alerts.test.yml"))
    assert status == 0, printed


def test_alerts_are_about_metrics_that_are_documented() -> None:
    alerts = (PROMETHEUS / "alerts.yml").read_text(encoding="utf-8")
    names = set(re.findall(r"\bvelib_\w+", alerts))
    assert names <= _documented("The producer") | _documented("The dashboard")
