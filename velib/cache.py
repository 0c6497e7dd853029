"""The cache: a folder with what is fetched or made once, and kept for every start."""

import os
from pathlib import Path

from velib.errors import Failure


def ivy_dir(cache_dir: Path) -> Path:
    """Where Ivy keeps what it has fetched: Spark's Kafka connector, too, and Spark looks there."""
    return cache_dir / "ivy"


def ensure(cache_dir: Path) -> None:
    """Make the folder VELIB_CACHE_DIR if it is missing; raises Failure if it cannot be used."""
    try:
        if not cache_dir.is_absolute():
            raise OSError(None, "this user has no home")
        cache_dir.mkdir(parents=True, exist_ok=True)
        if not os.access(cache_dir, os.W_OK | os.X_OK):
            raise OSError(None, "this user may not write there")
    except OSError as error:
        raise Failure(
            f"The cache folder {cache_dir} cannot be used ({error.strerror}):"
            " set VELIB_CACHE_DIR to a folder in which this user may write"
        ) from None
