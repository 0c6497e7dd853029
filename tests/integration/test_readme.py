"""The README's commands, as they stand there, on ports and in folders of the test's own."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import config
from local.broker import free_port
from tests.conftest import PROJECT
from tests.expected import feed, station
from tests.integration.conftest import Pipeline, put, wait_until
from tests.integration.test_scripts import checkout

README = (PROJECT / "README.md").read_text(encoding="utf-8")
COMMANDS = [line for block in re.findall(r"```sh\n(.*?)```", README, re.DOTALL) for line in block.splitlines()]
BROKER, SIMULATOR = "python -m local.broker", "python -m local.simulator --port 8000"
PRODUCER, SIMULATED_PRODUCER = "python kafka_project.py", "VELIB_API_URL=http://localhost:8000 python kafka_project.py"
JOB, CONSUMER = "python spark.py", "python consumer.py"
(SUBMIT,) = [command for command in COMMANDS if command.startswith("spark-submit ")]
PATH = f"{Path(sys.executable).parent}:{os.environ['PATH']}"  # what `. .venv/bin/activate` does


def test_every_command_is_one_that_the_tests_run() -> None:
    run_here = {BROKER, SIMULATOR, PRODUCER, SIMULATED_PRODUCER, JOB, CONSUMER, SUBMIT}
    run_elsewhere = {"make demo", "make setup", ". .venv/bin/activate", "make check", "make test"}
    assert set(COMMANDS) == run_here | run_elsewhere


def test_the_walkthrough_shows_totals_of_both_default_stations(pipeline: Pipeline, tmp_path: Path) -> None:
    folder = tmp_path / "clone"
    folder.mkdir()
    checkout(folder)
    kafka_port, feed_port = free_port(), free_port()
    environment = os.environ | {
        "PATH": PATH,
        "KAFKA_BOOTSTRAP_SERVERS": f"localhost:{kafka_port}",
    }
    walkthrough = [
        CONSUMER,
        JOB,
        SIMULATED_PRODUCER.replace("8000", str(feed_port)),
        f"{BROKER} --port {kafka_port}",
        SIMULATOR.replace("8000", str(feed_port)),
    ]
    terminals: list[subprocess.Popen[bytes]] = []
    try:
        for command in walkthrough:
            with (tmp_path / f"{len(terminals)}.out").open("wb") as out:
                command = re.sub(r"python ", "exec python ", command)
                terminals.append(subprocess.Popen(["bash", "-c", command], cwd=folder, env=environment, stdout=out, stderr=out))
        printed = tmp_path / "0.out"
        wait_until(
            lambda: (
                {"75016  Paris 16e", "93200  Saint-Denis"}
                <= set(re.findall(r"^\d{5}  \S+(?: 16e)?", printed.read_text(), re.M))
            ),
            "totals",
            180,
        )
    finally:
        statuses = []
        for terminal in terminals:  # Kafka after those that use it
            terminal.terminate()
            statuses.append(terminal.wait(60))
    assert statuses == [0] * len(terminals)
    assert "Traceback" not in "".join(path.read_text() for path in tmp_path.glob("*.out"))


def test_the_job_runs_under_spark_submit(pipeline: Pipeline, tmp_path: Path) -> None:
    now = int(time.time())
    put(pipeline.serve_folder(), feed(now, station("16107", 3), station("32017", 5)))
    assert pipeline.start("kafka_project.py", "--once").end() == 0
    folder = tmp_path / "clone"
    folder.mkdir()
    environment = os.environ | {"PATH": PATH} | pipeline.environment | pipeline.user("spark.py")
    command = f"{SUBMIT} --available-now"
    done = subprocess.run(["bash", "-c", command], cwd=checkout(folder), env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert {key: total["mechanical"] for key, total in pipeline.totals().items()} == {("75016", now): 3, ("93200", now): 5}


def test_the_table_of_settings_has_every_setting_and_its_default() -> None:
    for field in config.Settings.model_fields.values():
        assert f"`{field.validation_alias}`" in README
    for name in ("api_url", "raw_topic", "final_topic", "dead_letter_topic", "checkpoint_dir", "watermark", "spark_master"):
        field = config.Settings.model_fields[name]
        assert f"| `{field.validation_alias}` | `{field.default}` |" in README
