"""The README's commands are run as they stand there, and its tables and sample output are true."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pyspark
import pytest

import config
from local.broker import free_port
from tests import PROJECT, expected
from tests.expected import Total
from tests.pipeline import checkout, recorded, wait_until
from velib.totals.areas import areas


def _page(name: str) -> str:
    return (PROJECT / name).read_text(encoding="utf-8")


def _blocks(page: str, language: str) -> list[str]:
    """The code blocks of a language."""
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    return [block for name, block in blocks if name == language]


def _lines(page: str, language: str) -> list[str]:
    """The lines of the code blocks of a language."""
    return [line for block in _blocks(page, language) for line in block.splitlines()]


def _options(page: str) -> dict[str, set[str]]:
    """The options of each script in the table of the section Options."""
    section = page.partition("\n## Options\n")[2].partition("\n## ")[0]
    options: dict[str, set[str]] = {}
    script = ""
    for first, others in re.findall(r"^\| (?:`([^`]+)` )?(\|.*)$", section, re.MULTILINE):
        script = first or script
        options.setdefault(script, set()).update(re.findall(r"`(--[a-z-]+)", others))
    return options


README, FRENCH, REFERENCE = _page("README.md"), _page("README.fr.md"), _page("docs/reference.md")
COMMANDS, SAMPLES, OPTIONS = _lines(README, "sh"), _lines(README, ""), _options(REFERENCE)
BROKER, SIMULATOR = "python -m local.broker", "python -m local.simulator --port 8000 --period 10"
PRODUCER, JOB, CONSUMER = "python kafka_project.py", "python spark.py", "python consumer.py"
DASHBOARD = "python dashboard.py"
SIMULATED_FEED = "VELIB_API_URL=http://localhost:8000 VELIB_POLL_SECONDS=10"
SIMULATED_PRODUCER = f"{SIMULATED_FEED} {PRODUCER}"
BAD_RECORD, REPLAY = (block for block in _blocks(README, "sh") if CONSUMER + " --" in block)
(SUBMIT,) = [line for line in _lines(_page("docs/operations.md"), "sh") if "spark-submit" in line]
PATH = f"{Path(sys.executable).parent}:{os.environ['PATH']}"  # what `. .venv/bin/activate` does


def test_every_command_is_one_that_the_tests_run() -> None:
    scripts = {PRODUCER, SIMULATED_PRODUCER, JOB, CONSUMER, DASHBOARD}
    run_here = {BROKER, SIMULATOR, *BAD_RECORD.splitlines(), *REPLAY.splitlines()} | scripts
    elsewhere = {"cd velib-projet", "make demo", "make setup", ". .venv/bin/activate"}
    assert set(COMMANDS) == run_here | elsewhere | {"make check", "make test"}


def test_the_french_readme_has_the_same_commands_and_sample_output() -> None:
    samples = _lines(FRENCH, "")
    assert _lines(FRENCH, "sh") == COMMANDS
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
        assert f"`{variable}`" in REFERENCE
        if isinstance(field.default, str):
            assert f"| `{variable}` | `{field.default}` |" in REFERENCE


@pytest.fixture(scope="module")
def walkthrough(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What each command of the README prints in its terminal, with a simulated feed; then what each
    block of its experiments prints.
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
    environment = os.environ | {
        "PATH": PATH,
        "KAFKA_BOOTSTRAP_SERVERS": f"localhost:{kafka_port}",
    }
    terminals: list[subprocess.Popen[bytes]] = []
    try:
        for command, on_port in on_ports.items():
            with outputs[command].open("wb") as output:
                terminals.append(
                    subprocess.Popen(
                        ["bash", "-c", on_port.replace("python ", "exec python ")],
                        cwd=clone,
                        env=environment,
                        stdout=output,
                        stderr=output,
                    )
                )
        wait_until(
            lambda: len(_totals(outputs[CONSUMER].read_text().splitlines())) == 2,
            "totals of both stations",
            180,
        )
        experiments = {}
        for block in (BAD_RECORD, REPLAY):
            # The first command of the replay records until Ctrl-C.
            commands = block.replace("9092", kafka_port).replace("8000", feed_port)
            commands = re.sub(r"python (.* --record)", r"timeout -s INT 10 python \1", commands)
            experiments[block] = subprocess.run(
                ["bash", "-c", commands], cwd=clone, env=environment, capture_output=True, text=True
            ).stdout
    finally:
        statuses = []
        for terminal in terminals:  # Kafka after the scripts that use it
            terminal.terminate()
            statuses.append(terminal.wait(60))
    assert statuses == [0] * len(terminals)
    answers = recorded(clone / "history")
    experiments["recorded"] = "\n".join(answer.decode() for answer in answers)
    return {command: output.read_text() for command, output in outputs.items()} | experiments


def test_a_bad_record_is_a_dead_letter(walkthrough: dict[str, str]) -> None:
    (line,) = walkthrough[BAD_RECORD].splitlines()
    assert line.startswith("velib-projet 0:")
    assert "not a JSON object" in line
    assert line.endswith("value hello")


def test_a_recording_is_replayed_and_summed(walkthrough: dict[str, str]) -> None:
    totals: dict[tuple[str, int], Total] = {}
    for answer in map(json.loads, walkthrough["recorded"].splitlines()):
        totals |= expected.totals(answer, {"16107", "32017"})
    header, *rows = walkthrough[REPLAY].splitlines()
    assert header == expected.CSV_HEADER
    assert len(totals) == 2 * len(walkthrough["recorded"].splitlines()) > 0
    wanted = {",".join(map(str, total.values())) for total in totals.values()}
    assert set(rows) == wanted


def _totals(lines: list[str]) -> dict[str, str]:
    """The lines of totals by postal code."""
    return {line[:5]: line for line in lines if re.match(r"[0-9]{5}  ", line)}


def _logs(lines: list[str]) -> set[str]:
    """The lines of a log, with its numbers, times, ports and paths replaced by a zero."""
    logs = [line for line in lines if re.match(r"\d\d:\d\d:\d\d [A-Z]+ ", line)]
    return {re.sub(r"\(.* old\)|/\S+|\d+(\.\d+)*", "0", line) for line in logs}


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
    assert shown.keys() == {"75016", "93200"}
    (layout,) = {_layout(total) for total in _totals(printed).values()}
    for postal_code, total in shown.items():
        assert _layout(total) == layout
        assert f"  {areas()[postal_code]['name']}  " in total
    assert _logs(SAMPLES)
    assert _logs(SAMPLES) - _logs(printed) == set()


def test_the_command_for_spark_submit_names_the_connector_of_this_spark() -> None:
    assert f":spark-sql-kafka-0-10_2.13:{pyspark.__version__} " in SUBMIT
