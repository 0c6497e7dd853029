"""How every script starts, logs and stops.

Log lines go to stderr. An error is one line, and Ctrl-C or SIGTERM leaves no traceback.
"""

import argparse
import json
import logging
import os
import re
import signal
import sys
import threading
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from types import FrameType
from typing import NoReturn

from config import BadSetting
from velib.errors import Failure

log = logging.getLogger("velib")


class _Terminated(KeyboardInterrupt):
    """SIGTERM or SIGHUP: stop as for Ctrl-C, but with exit status 0."""


class _OneLine(logging.Formatter):
    """A log line is one line, whatever it quotes."""

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        return printable(text) if record.exc_info is None else text


FORMATTER = _OneLine("%(asctime)s %(levelname)-7s %(message)s", datefmt="%H:%M:%S")


def printable(text: str) -> str:
    """The text with every character that could move the terminal written as its JSON escape."""
    return (
        text
        if text.isprintable()
        else "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in text)
    )


def local_time(epoch_seconds: float) -> str:
    """The time on this machine's clock, to the second."""
    return datetime.fromtimestamp(epoch_seconds).strftime("%Y-%m-%d %H:%M:%S")


def moment(text: str) -> int:
    """The time (epoch seconds) that an option gives, by this machine's clock unless it has an
    offset; raises ArgumentTypeError.
    """
    try:
        return int(datetime.fromisoformat(re.sub("[zZ]$", "+00:00", text)).timestamp())
    except (ValueError, OverflowError, OSError):
        reason = f"{text!r} is not a time, such as '2026-11-01 08:00', 2026-11-01T08:00+01:00"
        raise argparse.ArgumentTypeError(f"{reason} or 2026-11-01") from None


def run(main: Callable[[], None]) -> NoReturn:
    """Run a script's `main`, then exit with status 0, that of a Failure, or 130 (Ctrl-C)."""
    for stream in (sys.stdout, sys.stderr):
        # A letter that the terminal's encoding does not have is printed as a question mark.
        stream.reconfigure(errors="replace")  # type: ignore[union-attr]
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(FORMATTER)
    # py4j writes a traceback to the root logger when a signal interrupts a call to Java.
    handler.addFilter(lambda record: record.name != "root")
    logging.basicConfig(handlers=[handler], level=logging.WARNING)
    for library in (
        "kafka",
        "py4j",
        "urllib3",
    ):  # the scripts say themselves what their users need to know
        logging.getLogger(library).setLevel(logging.CRITICAL)
    log.setLevel(logging.INFO)
    sys.unraisablehook = _note_unraisable
    signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # a shell has its background jobs ignore it
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _terminate)
    sys.exit(_status_of(main))


def _note_unraisable(unraisable: "sys.UnraisableHookArgs") -> None:
    """Keep quiet about errors in the finalizers of clients that a failure left half open.

    Python discards the exception of a signal, too, if it comes during a finalizer: the signal is
    sent again.
    """
    if isinstance(unraisable.exc_value, KeyboardInterrupt):
        number = signal.SIGTERM if isinstance(unraisable.exc_value, _Terminated) else signal.SIGINT
        threading.Timer(0.1, os.kill, (os.getpid(), number)).start()
    log.debug("ignored: %s", unraisable.exc_value)


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    raise _Terminated


def _status_of(main: Callable[[], None]) -> int:
    try:
        main()
        sys.stdout.flush()
    except _Terminated:
        return 0
    except KeyboardInterrupt:
        return 130
    except BadSetting as error:
        print(error, file=sys.stderr)  # a line for each bad setting, each beginning with its name
        return error.status
    except Failure as error:
        log.error("%s", error)
        return error.status
    except BrokenPipeError:  # the reader of stdout has gone, as in `consumer.py | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        if error.filename is None:
            raise
        path = Path(os.fsdecode(error.filename)).absolute()
        log.error("%s cannot be used: %s", path, error.strerror)
        return Failure.status
    return 0
