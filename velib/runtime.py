"""How every script starts, logs and stops.

Log lines go to stderr. An error is one line, and Ctrl-C or SIGTERM leaves no traceback.
"""

import argparse
import json
import logging
import os
import re
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from concurrent import futures
from concurrent.futures import Future
from contextlib import AbstractContextManager
from datetime import datetime, tzinfo
from pathlib import Path
from threading import Event, Thread
from types import FrameType
from typing import NoReturn, TypeVar

from config import BadSetting
from velib.errors import Failure

T = TypeVar("T")

PATIENCE = 5.0  # seconds a script is given to end after a signal
SIGNAL_DELAY = 0.5  # seconds within which a signal is noticed
INTERRUPTED = 130  # the exit status after Ctrl-C, as in shells

log = logging.getLogger("velib")


class _OneLine(logging.Formatter):
    """Keeps each log record on one line, whatever text it quotes."""

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        return printable(text) if record.exc_info is None else text


FORMATTER = _OneLine("%(asctime)s %(levelname)-7s %(message)s", datefmt="%H:%M:%S")


def printable(text: str) -> str:
    """The text with each unprintable character, such as one that moves the cursor, as its JSON
    escape.
    """
    return (
        text
        if text.isprintable()
        else "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in text)
    )


def local_time(epoch_seconds: float, zone: tzinfo | None = None) -> str:
    """The local time in a zone (default: this machine's), to the second. A time that occurs twice
    because the clock is put back includes its UTC offset.
    """
    time = datetime.fromtimestamp(epoch_seconds, zone)
    is_twice = time.timestamp() != time.replace(fold=1 - time.fold).timestamp()
    shown = time.astimezone(zone) if is_twice else time.replace(tzinfo=None)
    return shown.isoformat(" ", "seconds")


def moment(text: str) -> int:
    """The time given by an option, as epoch seconds: local time unless it has an offset. Raises
    ArgumentTypeError.
    """
    try:
        time = datetime.fromisoformat(re.sub("[zZ]$", "+00:00", text))
        first, second = (int(time.replace(fold=fold).timestamp()) for fold in (0, 1))
    except (ValueError, OverflowError, OSError):
        reason = f"{text!r} is not a time: write '2026-11-01 08:00', 2026-11-01T08:00+01:00"
        raise argparse.ArgumentTypeError(f"{reason} or 2026-11-01") from None
    if first < second:
        both = f"'{local_time(first)}' or '{local_time(second)}'"
        raise argparse.ArgumentTypeError(
            f"{text!r} occurs twice, because the clocks go back: write {both}"
        )
    return first


def port(text: str) -> int:
    """The port given by an option; raises ArgumentTypeError."""
    if text.isdecimal() and 0 < int(text) < 65536:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text} is not a port: use 1 to 65535")


def loopback() -> str:
    """127.0.0.1, where local servers listen. Clients reach them as `localhost`; raises Failure if
    that is not the same address.
    """
    found = socket.getaddrinfo("localhost", None, type=socket.SOCK_STREAM)
    if "127.0.0.1" not in {address[0] for *_, address in found}:
        raise Failure(
            "localhost is not 127.0.0.1 here: add the line `127.0.0.1 localhost` to /etc/hosts"
        )
    return "127.0.0.1"


def run(main: Callable[[Event], None], patience: float = PATIENCE) -> NoReturn:
    """Run a script's `main`, then exit with status 0, the status of its Failure, or 130 (Ctrl-C).

    `main` runs in a thread of its own, so that no signal interrupts it in the middle of a line or
    of a call to Java: Ctrl-C, SIGTERM and SIGHUP set the event that it is given. If it has not
    returned `patience` seconds later, because a call still waits for an answer, the process ends.
    """
    _start_log()
    stop = Event()
    status = 0

    def request_stop(number: int, frame: FrameType | None) -> None:
        nonlocal status
        status = INTERRUPTED if number == signal.SIGINT else 0
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:  # nohup
            signal.signal(number, request_stop)
    outcome = in_thread(lambda: main(stop))
    while not (stop.is_set() or outcome.done()):
        # Python handles a signal that comes just before a wait only after the wait: keep it short.
        futures.wait([outcome], SIGNAL_DELAY)
    if futures.wait([outcome], patience).done:
        sys.exit(_status_of(outcome.result) or status)
    os._exit(status)


def run_tool(main: Callable[[], None]) -> NoReturn:
    """Run a tool (`local/`, tests, bench). A signal raises an exception in `main`, so that its
    `finally` clauses stop what it has started.
    """
    _start_log()

    def end(number: int, frame: FrameType | None) -> NoReturn:
        sys.exit(0)

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, end)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    sys.exit(_status_of(main))


def suspend_within(context: Callable[[], AbstractContextManager[None]]) -> None:
    """From now on Ctrl-Z (SIGTSTP) suspends this process until `fg`, and enters `context()` for
    that time. Without a shell that could resume it, the kernel does not suspend it.
    """

    def suspend(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGTSTP, signal.SIG_IGN)
        with context():
            signal.signal(signal.SIGTSTP, signal.SIG_DFL)
            signal.raise_signal(signal.SIGTSTP)
            signal.signal(signal.SIGTSTP, signal.SIG_IGN)
        signal.signal(signal.SIGTSTP, suspend)

    signal.signal(signal.SIGTSTP, suspend)


def backoff(first: float, longest: float) -> Iterator[float]:
    """The seconds to wait between attempts: `first`, then twice as long each time, at most
    `longest`.
    """
    while True:
        yield first
        first = min(2 * first, longest)


def in_thread(call: Callable[[], T]) -> "Future[T]":
    """Run a call in a daemon thread, which does not keep the process from ending."""
    result: Future[T] = Future()

    def run_call() -> None:
        try:
            result.set_result(call())
        except BaseException as error:
            result.set_exception(error)

    Thread(target=run_call, daemon=True).start()
    return result


def in_background(call: Callable[[], None]) -> "Future[None]":
    """Run a call in a daemon thread, and log its exception: nobody asks for its result."""

    def log_exception(result: "Future[None]") -> None:
        if (error := result.exception()) is not None:
            log.error("%s", error, exc_info=None if isinstance(error, Failure) else error)

    result = in_thread(call)
    result.add_done_callback(log_exception)
    return result


def discard_stdout() -> None:
    """Write what is left in the buffer of stdout, and all that follows, nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _start_log() -> None:
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:  # the shell has closed it: `>&-`
            # A letter that the terminal's encoding does not have is printed as a question mark.
            stream.reconfigure(errors="replace")  # type: ignore[union-attr]
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(FORMATTER)
    logging.basicConfig(handlers=[handler], level=logging.WARNING)
    for library in ("kafka", "py4j", "urllib3"):  # the scripts say what their users need to know
        logging.getLogger(library).setLevel(logging.CRITICAL)
    logging.getLogger().disabled = True  # py4j logs there when Java has ended
    log.setLevel(logging.INFO)
    # Clients that a failure left half open may fail again when they are finalized.
    sys.unraisablehook = lambda unraisable: log.debug("ignored: %s", unraisable.exc_value)


def _status_of(main: Callable[[], None]) -> int:
    """The exit status after `main`; logs why it has failed."""
    try:
        main()
        if sys.stdout is not None:
            sys.stdout.flush()
    except KeyboardInterrupt:
        return INTERRUPTED
    except BadSetting as error:
        print(error, file=sys.stderr)  # a line for each bad setting, each beginning with its name
        return error.status
    except Failure as error:
        log.error("%s", error)
        return error.status
    except BrokenPipeError:  # the reader of stdout has exited, as in `consumer.py | head`
        discard_stdout()
        return 0
    except OSError as error:
        if error.filename is None:
            raise
        path = Path(os.fsdecode(error.filename)).absolute()
        log.error("%s cannot be used: %s", path, error.strerror)
        return Failure.status
    return 0
