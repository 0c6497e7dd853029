"""Folders that one process at a time may use."""

import fcntl
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from velib.errors import Failure


@contextmanager
def locked(folder: Path, refusal: str | None = None) -> Iterator[int]:
    """Hold the lock of a folder, which is created if missing; yields the lock's file descriptor.

    Waits while another process holds it, and says so; with `refusal`, raises Failure with that text
    instead. The kernel releases the lock when this process and all that inherited the descriptor
    have ended, even by `kill -9`. The lock is on the folder itself, so it works between users too:
    a lock file would belong to one of them. Raises OSError if the folder cannot be created or read.
    """
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if refusal:
                raise Failure(refusal) from None
            print(f"Waiting for another process that uses {folder}", file=sys.stderr, flush=True)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError:  # some network shares do not support locks
            pass
        yield descriptor
    finally:
        os.close(descriptor)
