"""How a script ends: its exit status and what it leaves on stderr."""

import os
import signal
import subprocess
import sys
import time
from argparse import ArgumentTypeError
from functools import partial
from pathlib import Path

import pytest

from tests import PROJECT
from velib import runtime
from velib.errors import Failure


def _start(folder: Path, code: str) -> subprocess.Popen[str]:
    """Start a script that has this code."""
    (folder / "script.py").write_text(code)
    return subprocess.Popen(
        [sys.executable, str(folder / "script.py")],
        env={"PYTHONPATH": str(PROJECT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),  # under nohup, too
    )


MAIN = """
import config
from velib import errors, runtime

def main(stop):
    {}

runtime.run(main)
"""


@pytest.mark.parametrize(
    ("statement", "status", "log"),
    [
        ("pass", 0, ""),
        ("raise errors.Failure('It broke')", 1, "ERROR   It broke\n"),
        ("raise errors.JavaMissing('No Java')", 1, "ERROR   No Java\n"),
        ("raise config.BadSetting('X is 1: it must be 2')", 2, "X is 1: it must be 2\n"),
        ("raise BrokenPipeError", 0, ""),
        ("import logging; logging.exception('as py4j does')", 0, ""),
        ("raise SystemExit(2)", 2, ""),
    ],
)
def test_each_way_to_end_has_its_status_and_line(
    statement: str, status: int, log: str, tmp_path: Path
) -> None:
    process = _start(tmp_path, MAIN.format(statement))
    out, err = process.communicate(timeout=20)
    assert (process.returncode, out) == (status, "")
    assert err.endswith(log)
    assert len(err.splitlines()) == len(log.splitlines())


WAITS_FOR_STOP = """
from velib import runtime

def main(stop):
    print("ready", flush=True)
    stop.wait()
    print("done")

runtime.run(main)
"""

WAITS_FOR_AN_ANSWER = """
import time
from velib import runtime

def main(stop):
    print("ready", flush=True)
    time.sleep(60)

runtime.run(main, patience=0.1)
"""

TOOL = """
import time
from velib import runtime

def main():
    try:
        print("ready", flush=True)
        time.sleep(60)
    finally:
        print("done")

runtime.run_tool(main)
"""


@pytest.mark.parametrize(
    ("code", "printed"),
    [(WAITS_FOR_STOP, "done\n"), (WAITS_FOR_AN_ANSWER, ""), (TOOL, "done\n")],
    ids=["waiting for stop", "waiting for an answer", "tool"],
)
@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGTERM, 0), (signal.SIGHUP, 0), (signal.SIGINT, 130)]
)
def test_a_signal_stops_a_script_whatever_it_waits_for(
    code: str, printed: str, number: int, status: int, tmp_path: Path
) -> None:
    with _start(tmp_path, code) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        assert process.wait(20) == status
        assert process.stdout.read() == printed


UNNOTICED_SIGNAL = """
import signal, threading
from velib import runtime

def main(stop):
    threading.Event().wait(0.2)  # until the main thread waits
    signal.pthread_kill(threading.get_ident(), signal.SIGTERM)
    print(stop.wait(10))

runtime.run(main)
"""


def test_a_signal_that_does_not_interrupt_the_wait_of_the_main_thread_is_noticed(
    tmp_path: Path,
) -> None:
    with _start(tmp_path, UNNOTICED_SIGNAL) as process:
        assert process.communicate(timeout=20) == ("True\n", "")
    assert process.returncode == 0


def test_nohup_keeps_a_script_running_when_the_terminal_closes(tmp_path: Path) -> None:
    with _start(
        tmp_path, f"import signal; signal.signal(1, signal.SIG_IGN)\n{WAITS_FOR_STOP}"
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGHUP)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(1)
        process.terminate()
        assert process.wait(20) == 0


@pytest.mark.parametrize("closed", [">&-", "2>&-"])
def test_a_script_whose_shell_has_closed_a_stream_runs(closed: str, tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(MAIN.format("print('one')"))
    command = f"{sys.executable} {tmp_path / 'script.py'} {closed}"
    done = subprocess.run(
        command, shell=True, env={"PYTHONPATH": str(PROJECT)}, capture_output=True, text=True
    )
    assert done.returncode == 0
    assert done.stderr == ""


PRINTER = """
from velib import errors, runtime

def main(stop):
    print("L’Île-Saint-Denis")
    raise errors.Failure("L’Île is away")

runtime.run(main)
"""


@pytest.mark.parametrize(("encoding", "name"), [("latin-1", "L?Île"), ("ascii", "L??le")])
def test_a_letter_that_the_output_cannot_show_is_printed_as_a_question_mark(
    encoding: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", encoding)
    (tmp_path / "script.py").write_text(PRINTER, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, str(tmp_path / "script.py")],
        env=os.environ | {"PYTHONPATH": str(PROJECT)},
        capture_output=True,
    )
    assert done.stdout.decode(encoding) == f"{name}-Saint-Denis\n"
    assert done.stderr.decode(encoding).endswith(f" ERROR   {name} is away\n")


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    process = _start(tmp_path, MAIN.format("open('/dev/null/log', 'w')"))
    _, err = process.communicate(timeout=20)
    assert process.returncode == 1
    assert err.endswith("ERROR   /dev/null/log cannot be used: Not a directory\n")


@pytest.mark.usefixtures("in_paris")
def test_an_option_takes_each_time_as_it_is_printed() -> None:
    midnight = 1792879200  # of the night when the clocks go back
    for seconds in range(midnight - 7200, midnight + 7 * 3600, 1799):
        assert runtime.moment(runtime.local_time(seconds)) == seconds
    assert runtime.moment("2026-10-25T02:31+01:00") == 1792891860
    assert runtime.moment("2026-10-25 00:31Z") == 1792888260
    assert runtime.moment("2026-10-25") == midnight
    assert runtime.moment("2026-03-29 02:31") == 1774747860, "which is skipped: 03:31"


@pytest.mark.usefixtures("in_paris")
def test_an_option_with_a_time_that_occurs_twice_is_refused_with_both() -> None:
    with pytest.raises(ArgumentTypeError) as error:
        runtime.moment("2026-10-25 02:31")
    assert str(error.value) == (
        "'2026-10-25 02:31' occurs twice, because the clocks go back:"
        " write '2026-10-25 02:31:00+02:00' or '2026-10-25 02:31:00+01:00'"
    )


def test_an_error_in_the_background_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    def fail(error: Exception) -> None:
        raise error

    for count, error in enumerate((Failure("Kafka refuses"), KeyError("missing")), start=1):
        runtime.in_background(partial(fail, error))
        while len(caplog.records) < count:
            time.sleep(0.01)
    failure, bug = caplog.records
    assert (failure.getMessage(), failure.exc_info) == ("Kafka refuses", None)
    assert bug.exc_info is not None
    assert bug.exc_info[0] is KeyError


def test_no_text_can_move_the_terminal() -> None:
    assert runtime.printable("Île-Saint-Denis, 5 €") == "Île-Saint-Denis, 5 €"
    assert runtime.printable("a\x1b[2J\x9b\nb") == "a\\u001b[2J\\u009b\\nb"


def test_the_delays_double_up_to_the_longest() -> None:
    delays = runtime.backoff(5, 300)
    assert [next(delays) for _ in range(8)] == [5, 10, 20, 40, 80, 160, 300, 300]
