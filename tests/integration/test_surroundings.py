"""Foreign surroundings: letters in paths, other locales, proxies, the variables of other tools."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pyspark
import pytest

import config
from local.broker import free_port
from local.security import Security
from tests import PROJECT
from tests.expected import feed, station
from tests.pipeline import Pipeline, wait_until

BROKER = ("-m", "local.broker")
DATA = "kafka (é), 1"  # Kafka takes a comma for the end of a path
OF_ANOTHER_SPARK = {
    "PYSPARK_SUBMIT_ARGS": "--master local[2]",
    "SPARK_REMOTE": "sc://localhost:1",
}
LETTERS = "Vélib' é “l’été” 50%"
"""A folder's name with accents, spaces, an apostrophe, and what Latin-1 does not have."""


@pytest.fixture
def pipeline(tmp_path: Path) -> Iterator[Pipeline]:
    """A pipeline without a Kafka, in a folder with letters. No script prints a traceback."""
    folder = tmp_path / LETTERS / "project"
    folder.mkdir(parents=True)
    pipeline = Pipeline(f"localhost:{free_port()}", folder)
    yield pipeline
    pipeline.kill_all()
    for script in pipeline.scripts:
        assert b"Traceback" not in script.err.read_bytes(), script.err.read_bytes()


def _start_broker(pipeline: Pipeline) -> None:
    servers = pipeline.settings.kafka.bootstrap_servers
    port = servers.rpartition(":")[2]
    broker = pipeline.start(*BROKER, "--port", port, "--data-dir", DATA, "--secure")
    wait_until(lambda: "ready" in broker.printed() or broker.has_ended(), "Kafka is ready")
    assert not broker.has_ended(), broker.log()
    pipeline.use(servers, Security(pipeline.folder / DATA / "security"))


def _printed_as_latin_1(pipeline: Pipeline, *options: str) -> str:
    latin_1 = {"PYTHONIOENCODING": "latin-1"}
    consumer = pipeline.start("consumer.py", "--max-messages", *options, **latin_1)
    assert consumer.end() == 0
    return consumer.out.read_text(encoding="latin-1")


def test_letters_in_every_path_a_locale_that_has_none_and_variables_of_another_spark(
    pipeline: Pipeline,
) -> None:
    cache = pipeline.folder / "cache"
    cache.mkdir()
    for jars in ("kafka-4.4.0", "spark-kafka-4.2.0"):
        (cache / jars).symlink_to(config.load().cache_dir / jars)
    pipeline.environment |= {
        "LC_ALL": "POSIX",
        "VELIB_CACHE_DIR": "cache",
        "VELIB_STATIONS": "7101,7101_Relais,34501",
    }
    _start_broker(pipeline)

    api = pipeline.serve_api()
    now = int(time.time())
    stations = [station(code, 3) for code in ("7101", "7101_Relais", "31024", "34501")]
    api.put(feed(now, *stations))
    assert pipeline.start("kafka_project.py", "--once").end() == 0
    pipeline.write(pipeline.settings.raw_topic, (b"key", b"a station for 5 \xe2\x82\xac"))
    job = pipeline.start("spark.py", "--available-now", **OF_ANOTHER_SPARK)
    assert job.end() == 0, job.log()
    assert "Spark 4.2.0 runs on local[1]" in job.log()
    for variable in OF_ANOTHER_SPARK:
        assert job.log().count(f"{variable} is ignored") == 1
    mechanical = {key: total["mechanical"] for key, total in pipeline.totals().items()}
    assert mechanical == {("75007", now): 6, ("93450", now): 3}

    assert "93450  L?Île-Saint-Denis " in _printed_as_latin_1(pipeline, "2")
    assert "value a station for 5 ?\n" in _printed_as_latin_1(pipeline, "1", "--dead-letters")

    assert [path.name for path in pipeline.folder.parent.iterdir()] == ["project"]


@pytest.mark.parametrize(
    ("variable", "value", "status", "line"),
    [
        ("SPARK_LOCAL_IP", "10.255.255.1", 1, "Spark did not start (BindException: "),
        ("HOME", "/dev/null", 1, "The cache folder /dev/null/.cache/velib-projet cannot be used"),
        (
            "SPARK_HOME",
            "/opt/gone",
            2,
            "SPARK_HOME is '/opt/gone', which contains no Spark: it must ",
        ),
    ],
)
def test_a_job_that_cannot_start_says_why_in_one_line(
    pipeline: Pipeline, variable: str, value: str, status: int, line: str
) -> None:
    job = pipeline.start("spark.py", **{variable: value})
    assert job.end() == status
    assert line in job.log()
    assert len(job.log().splitlines()) == 1, job.log()


def test_a_pyspark_of_another_version_is_named(pipeline: Pipeline, tmp_path: Path) -> None:
    installed, other = Path(pyspark.__file__).parent, tmp_path / "other" / "pyspark"
    other.mkdir(parents=True)
    for path in installed.iterdir():
        (other / path.name).symlink_to(path)
    (other / "version.py").unlink()
    (other / "version.py").write_text("__version__ = '3.5.1'")
    job = pipeline.start("spark.py", PYTHONPATH=f"{PROJECT}{os.pathsep}{other.parent}")
    assert job.end() == 2
    assert f"PYTHONPATH contains pyspark 3.5.1 ({other}): it must be unset" in job.log()


def test_help_needs_neither_spark_nor_java(pipeline: Pipeline) -> None:
    script = pipeline.start("spark.py", "--help", SPARK_HOME="/opt/gone", JAVA_HOME="/opt/gone")
    assert script.end() == 0
    assert "--available-now" in script.out.read_text()


@contextmanager
def _refusing_proxy() -> Iterator[tuple[int, list[str]]]:
    """A proxy on localhost that refuses every tunnel: its port, and what it is asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_CONNECT(self) -> None:
            asked.append(self.path)
            self.send_error(HTTPStatus.FORBIDDEN)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port, asked
        server.shutdown()


@pytest.mark.parametrize("command", [("-m", "local.jars"), ("spark.py",)])
def test_downloads_go_through_the_proxy_and_one_line_names_it_if_it_refuses(
    pipeline: Pipeline, command: tuple[str, ...]
) -> None:
    with _refusing_proxy() as (port, asked):
        proxy = {"HTTPS_PROXY": f"http://me:a/b#c@127.0.0.1:{port}", "VELIB_CACHE_DIR": "empty"}
        script = pipeline.start(*command, **proxy)
        assert script.end() == 1
    assert asked
    last = script.log().splitlines()[-1]
    assert f"cannot be downloaded through the proxy 127.0.0.1:{port} (" in last
    assert "correct HTTPS_PROXY" in last
    assert "a/b#c" not in script.log()
