"""Who is not let in is told so in one line, promptly, and no secret shows. The other tests run over the same secure Kafka."""

import json
import time
from pathlib import Path

import psutil
import pytest
import requests

from local.security import CONSUMER, PRODUCER, SCRIPTS, Security
from tests.expected import feed, station
from tests.integration.conftest import Pipeline, Script, put

ALL = list(SCRIPTS)


def _refused(script: Script, line: str) -> None:
    """The script ends by itself, soon, with one error line."""
    started = time.monotonic()
    assert script.end() == 1
    assert time.monotonic() - started < 45
    (error,) = [said for said in script.said().splitlines() if " ERROR " in said]
    assert line in error


@pytest.mark.parametrize("name", ALL)
def test_a_wrong_password_is_one_line_without_the_password(pipeline: Pipeline, name: str) -> None:
    script = pipeline.start(name, KAFKA_SASL_PASSWORD="not-the-one")
    _refused(script, "does not know this KAFKA_SASL_USERNAME with this KAFKA_SASL_PASSWORD")
    assert "not-the-one" not in script.said()


@pytest.mark.parametrize("name", ALL)
def test_a_certificate_of_somebody_else_is_one_line(pipeline: Pipeline, tmp_path: Path, name: str) -> None:
    other = Security(tmp_path / "other")
    other.make("java")
    _refused(pipeline.start(name, KAFKA_SSL_CAFILE=str(other.ca)), "is not signed by those of KAFKA_SSL_CAFILE")


def _as(pipeline: Pipeline, user: str) -> dict[str, str]:
    assert pipeline.security is not None
    return {"KAFKA_SASL_USERNAME": user, "KAFKA_SASL_PASSWORD": pipeline.security.password(user)}


def test_a_missing_right_is_one_line_that_names_it(pipeline: Pipeline) -> None:
    put(pipeline.serve_folder(), feed(int(time.time()), station()))
    assert pipeline.start("kafka_project.py", "--once").end() == 0
    _refused(pipeline.start("kafka_project.py", **_as(pipeline, CONSUMER)), f"refused the user {CONSUMER}: ")
    cannot = "Not authorized to access topics: "
    _refused(pipeline.start("spark.py", **_as(pipeline, PRODUCER)), f"{PRODUCER}: {cannot}[{pipeline.topic('final')}]")
    _refused(pipeline.start("consumer.py", **_as(pipeline, PRODUCER)), pipeline.topic("final"))


def test_no_password_shows_in_a_log_a_list_of_processes_or_a_file_of_others(pipeline: Pipeline) -> None:
    put(pipeline.serve_folder(), feed(int(time.time()), station()))
    producer, job = pipeline.start("kafka_project.py"), pipeline.start("spark.py")
    consumer = pipeline.start("consumer.py", "--max-messages", "1")
    assert consumer.end() == 0
    assert pipeline.security is not None
    passwords = [path.read_text() for path in pipeline.security.directory.glob("*.password")]
    assert len(passwords) == 5
    processes = " ".join(json.dumps(process.info["cmdline"]) for process in psutil.process_iter(["cmdline"]))
    page = job.said().partition("its page is ")[2].split()[0]
    shown = [processes, *[_page(f"{page}/{part}/") for part in ("environment", "SQL", "StreamingQuery", "jobs")]]
    shown += [
        path.read_text(errors="replace") for path in pipeline.folder.rglob("*") if path.suffix in (".err", ".out", ".log")
    ]
    shown += [path.read_text(errors="replace") for path in pipeline.security.directory.parent.glob("kafka.*")]
    assert not [text for text in shown for password in passwords if password in text]
    owned = [pipeline.security.directory, *pipeline.security.directory.glob("*.password")]
    assert all(path.stat().st_mode & 0o077 == 0 for path in owned)
    assert (producer.stop(), job.stop()) == (0, 0)


def _page(url: str) -> str:
    answer = requests.get(url, timeout=10)
    assert answer.status_code == 200
    return answer.text
