"""The README's commands are run as they stand there, and its tables and sample output are true."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

import config
from local.broker import free_port
from tests import PROJECT
from tests.expected import feed, station
from tests.pipeline import Pipeline, checkout, wait_until
from velib.totals.areas import areas


def _blocks(readme: str, language: str) -> list[str]:
    """The lines of the code blocks of a language."""
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", readme, re.DOTALL | re.MULTILINE)
    return [line for name, block in blocks if name == language for line in block.splitlines()]


def _options(readme: str) -> dict[str, set[str]]:
    """The options of each script in the table of the section Options."""
    section = readme.partition("\n## Options\n")[2].partition("\n## ")[0]
    options: dict[str, set[str]] = {}
    script = ""
    for first, others in re.findall(r"^\| (?:`([^`]+)` )?(\|.*)$", section, re.MULTILINE):
        script = first or script
        options.setdefault(script, set()).update(re.findall(r"`(--[a-z-]+)", others))
    return options


README = (PROJECT / "README.md").read_text(encoding="utf-8")
COMMANDS, SAMPLES, OPTIONS = _blocks(README, "sh"), _blocks(README, ""), _options(README)
BROKER, SIMULATOR = "python -m local.broker", "python -m local.simulator --port 8000"
PRODUCER, JOB, CONSUMER = "python kafka_project.py", "python spark.py", "python consumer.py"
DASHBOARD = "python dashboard.py"
SIMULATED_PRODUCER = "VELIB_API_URL=http://localhost:8000 python kafka_project.py"
(SUBMIT,) = [command for command in COMMANDS if command.startswith("spark-submit ")]
PATH = f"{Path(sys.executable).parent}:{os.environ['PATH']}"  # what `. .venv/bin/activate` does


def test_every_command_is_one_that_the_tests_run() -> None:
    scripts = {PRODUCER, SIMULATED_PRODUCER, JOB, CONSUMER, DASHBOARD}
    run_here = {BROKER, SIMULATOR, SUBMIT} | scripts
    run_elsewhere = {"make demo", "make setup", ". .venv/bin/activate", "make check", "make test"}
    assert set(COMMANDS) == run_here | run_elsewhere


def test_the_french_readme_has_the_same_commands_options_and_sample_output() -> None:
    french = (PROJECT / "README.fr.md").read_text(encoding="utf-8")
    samples = _blocks(french, "")
    assert _blocks(french, "sh") == COMMANDS
    assert _options(french) == OPTIONS
    assert _totals(samples) == _totals(SAMPLES)
    assert _logs(samples) == _logs(SAMPLES)


@pytest.mark.parametrize("script", OPTIONS)
def test_the_table_of_options_has_those_of_help_and_no_others(script: str) -> None:
    command = [sys.executable, *script.removeprefix("python ").split(), "--help"]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=True)
    of_help = set(re.findall(r"^  (?:-h, )?(--[a-z-]+)", done.stdout, re.MULTILINE))
    assert OPTIONS[script] == of_help - {"--help"}


def test_the_table_of_options_has_every_script() -> None:
    assert OPTIONS.keys() == {
        "kafka_project.py",
        "spark.py",
        "consumer.py",
        "dashboard.py",
        "python -m local.broker",
        "python -m local.simulator",
        "python -m local.spark_cluster",
    }


def test_the_table_of_settings_has_every_setting_and_its_default() -> None:
    for variable, field in config.variables().items():
        assert f"`{variable}`" in README
        if isinstance(field.default, str):
            assert f"| `{variable}` | `{field.default}` |" in README


@pytest.fixture(scope="module")
def walkthrough(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What each command of the README's four terminals prints, with a simulated feed, until the
    consumer has printed a total of both default stations.
    """
    clone = checkout(tmp_path_factory.mktemp("clone"))
    kafka_port, feed_port = str(free_port()), str(free_port())
    on_ports = {
        CONSUMER: CONSUMER,
        DASHBOARD: f"{DASHBOARD} --port {free_port()}",
        JOB: JOB,
        SIMULATED_PRODUCER: SIMULATED_PRODUCER.replace("8000", feed_port),
        BROKER: f"{BROKER} --port {kafka_port}",
        SIMULATOR: SIMULATOR.replace("8000", feed_port),
    }
    outputs = {command: clone / f"terminal-{n}" for n, command in enumerate(on_ports)}
    servers = {"KAFKA_BOOTSTRAP_SERVERS": f"localhost:{kafka_port}"}
    terminals: list[subprocess.Popen[bytes]] = []
    try:
        for command, on_port in on_ports.items():
            with outputs[command].open("wb") as output:
                terminals.append(
                    subprocess.Popen(
                        ["bash", "-c", on_port.replace("python ", "exec python ")],
                        cwd=clone,
                        env=os.environ | {"PATH": PATH} | servers,
                        stdout=output,
                        stderr=output,
                    )
                )
        wait_until(
            lambda: len(_totals(outputs[CONSUMER].read_text().splitlines())) == 2,
            "totals of both stations",
            180,
        )
    finally:
        statuses = []
        for terminal in terminals:  # Kafka after the scripts that use it
            terminal.terminate()
            statuses.append(terminal.wait(60))
    assert statuses == [0] * len(terminals)
    return {command: output.read_text() for command, output in outputs.items()}


def _totals(lines: list[str]) -> dict[str, str]:
    """The lines of totals by postal code."""
    return {line[:5]: line for line in lines if re.match(r"[0-9]{5}  ", line)}


def _logs(lines: list[str]) -> set[str]:
    """The lines of a log, with its numbers, times, ports and paths replaced by a zero."""
    logs = [line for line in lines if re.match(r"\d\d:\d\d:\d\d [A-Z]+ ", line)]
    return {re.sub(r"/\S+|\d+(\.\d+)*", "0", line) for line in logs}


def _layout(total: str) -> tuple[int, str]:
    """Where the place of a line of totals ends, and what follows, without its numbers."""
    place, _, counts = total.partition(" bikes ")
    return len(place), re.sub(r"\d", " ", counts)


def test_the_walkthrough_shows_totals_of_both_default_stations(
    walkthrough: dict[str, str],
) -> None:
    assert "ready" in walkthrough[BROKER].splitlines()
    assert _totals(walkthrough[CONSUMER].splitlines()).keys() == {"75016", "93200"}
    assert "Traceback" not in "".join(walkthrough.values())


def test_the_sample_output_is_what_the_scripts_print(walkthrough: dict[str, str]) -> None:
    printed = [line for output in walkthrough.values() for line in output.splitlines()]
    shown = _totals(SAMPLES)
    assert shown.keys() > {"75016", "93200"}
    (layout,) = {_layout(total) for total in _totals(printed).values()}
    for postal_code, total in shown.items():
        assert _layout(total) == layout
        assert f"  {areas()[postal_code]['name']}  " in total
    assert _logs(SAMPLES)
    assert _logs(SAMPLES) - _logs(printed) == set()
    assert "ready" in SAMPLES


def test_the_job_runs_under_spark_submit(pipeline: Pipeline, tmp_path: Path) -> None:
    now = int(time.time())
    pipeline.serve_api().put(feed(now, station("16107", 3), station("32017", 5)))
    assert pipeline.start("kafka_project.py", "--once").end() == 0
    done = subprocess.run(
        ["bash", "-c", f"{SUBMIT} --available-now"],
        cwd=checkout(tmp_path / "clone"),
        env=os.environ | {"PATH": PATH} | pipeline.environment | pipeline.user("spark.py"),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert {key: total["mechanical"] for key, total in pipeline.totals().items()} == {
        ("75016", now): 3,
        ("93200", now): 5,
    }
