"""A terminal in which a test starts a script, and sees and types what a user would."""

import fcntl
import os
import pty
import struct
import subprocess
import termios
import time
from copy import deepcopy
from pathlib import Path
from threading import Lock, Thread
from typing import Any

import psutil
import pyte

from tests import PROJECT
from tests.pipeline import wait_until

ALTERNATE_SCREEN, CURSOR = 1049, 25
"""The private modes (DECSET) of a terminal that matter here."""


class Screen(pyte.Screen):
    """What a terminal shows. pyte has no alternate screen; this class adds it."""

    def set_mode(self, *modes: int, **kwargs: Any) -> None:
        if ALTERNATE_SCREEN in modes and not self.is_alternate():
            self.saved = deepcopy(self.buffer), deepcopy(self.cursor)
            self.erase_in_display(2)
        super().set_mode(*modes, **kwargs)

    def reset_mode(self, *modes: int, **kwargs: Any) -> None:
        if ALTERNATE_SCREEN in modes and self.is_alternate():
            self.buffer, self.cursor = self.saved
        super().reset_mode(*modes, **kwargs)

    def is_alternate(self) -> bool:
        return ALTERNATE_SCREEN << 5 in self.mode

    def has_cursor(self) -> bool:
        return CURSOR << 5 in self.mode


class Terminal:
    """A terminal of this size, in which a shell runs a command."""

    def __init__(
        self, command: str, folder: Path, environment: dict[str, str] | None = None
    ) -> None:
        self.screen = Screen(100, 30)
        self.stream = pyte.ByteStream(self.screen)
        self.output = b""
        self.lock = Lock()
        self.master, terminal = pty.openpty()
        self.resize(100, 30)
        python = {"PYTHONPATH": str(PROJECT), "TERM": "xterm-256color"}
        self.shell = subprocess.Popen(
            ["bash", "-c", command],
            cwd=folder,
            env=os.environ | python | (environment or {}),
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # Ctrl-C reaches its processes
        )
        os.close(terminal)
        Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        try:
            while output := os.read(self.master, 65536):
                with self.lock:
                    self.output += output
                    self.stream.feed(output)
        except OSError:  # the last process has closed the terminal
            pass

    def lines(self) -> list[str]:
        """What the terminal shows, without the spaces at the ends."""
        with self.lock:
            return [line.rstrip() for line in self.screen.display]

    def text(self) -> str:
        return "\n".join(self.lines()).rstrip()

    def row(self, start: str) -> str:
        """The first line with this start, with single spaces; "" if there is none."""
        lines = (line for line in self.lines() if line.startswith(start))
        return " ".join(next(lines, "").split())

    def wait_for(self, text: str) -> None:
        """Wait until the terminal shows this text, and is not just being drawn."""

        def is_shown() -> bool:
            shown = self.text()
            time.sleep(0.1)
            return text in shown and shown == self.text()

        try:
            wait_until(is_shown, f"{text!r} on the terminal")
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.text()}") from None

    def resize(self, columns: int, lines: int) -> None:
        """Set the size of the window."""
        with self.lock:
            self.screen.resize(lines, columns)
        size = struct.pack("HHHH", lines, columns, 0, 0)
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, size)

    def type(self, keys: str) -> None:
        os.write(self.master, keys.encode())

    def kill(self) -> None:
        """End the shell and what it has started with kill -9."""
        for process in psutil.Process(self.shell.pid).children(recursive=True):
            process.kill()
        self.shell.kill()
        self.shell.wait()
