"""Lines on stdout, of which none is lost or cut off, whatever ends the script or the reader."""

import os
import select
import signal
import sys

from velib.errors import Failure
from velib.runtime import printable

MAX_PENDING = 64 * 1024  # bytes that are kept until the next `flush`
STOPPING = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}


class Lines:
    """Prints lines on stdout: a terminal, a file or a pipe. At its end all of them are written.

    A header comes with the first line, or at the end if there is none. If the script fails before,
    nothing is printed: a header alone says that there are no lines.
    """

    def __init__(self, header: str | None = None) -> None:
        self.header = header
        self.file = sys.stdout.fileno()
        self.pending = bytearray()

    def __enter__(self) -> "Lines":
        return self

    def __exit__(self, exception: type[BaseException] | None, *_: object) -> None:
        if exception is None:
            self._show_header()
        self.flush()

    def show(self, line: str) -> None:
        """Print a line, with the next `flush` at the latest."""
        self._show_header()
        self._add(line)
        if len(self.pending) > MAX_PENDING:
            self.flush()

    def _show_header(self) -> None:
        if self.header is not None:
            self._add(self.header)
            self.header = None

    def _add(self, line: str) -> None:
        self.pending += f"{printable(line)}\n".encode(sys.stdout.encoding, "replace")

    def flush(self) -> None:
        """Write all lines. Raises BrokenPipeError if the reader has gone, also if there is nothing
        to write, and Failure if they cannot be written.
        """
        if self._wait_for(0, 0) & (select.POLLERR | select.POLLHUP):
            raise BrokenPipeError
        while self.pending:
            self._wait_for(select.POLLOUT, None)  # a signal may come here
            self._write_some()

    def _write_some(self) -> None:
        """Write as much as does not block; no signal comes between the writing and the noting."""
        old = signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)
        try:
            written = os.write(self.file, self.pending[: select.PIPE_BUF])
            del self.pending[:written]
        except BrokenPipeError:
            raise
        except OSError as error:
            raise Failure(f"The output cannot be written: {error.strerror}") from None
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, old)

    def _wait_for(self, events: int, timeout: int | None) -> int:
        """The events of stdout, at the latest after `timeout` milliseconds; errors always count."""
        poll = select.poll()
        poll.register(self.file, events)
        return sum(event for _, event in poll.poll(timeout))
