"""The cache: a line that names VELIB_CACHE_DIR when its folder cannot be used."""

from pathlib import Path

import pytest

from velib import cache
from velib.errors import Failure


def test_the_folder_is_made_if_it_is_missing(tmp_path: Path) -> None:
    for _ in range(2):
        cache.ensure(tmp_path / "a" / "cache")
        assert (tmp_path / "a" / "cache").is_dir()


@pytest.mark.parametrize(
    ("folder", "reason"),
    [
        ("/dev/null/.cache", "Not a directory"),  # /dev/null is the home of some services' users
        ("/proc/cache", "No such file or directory"),
        ("~/.cache", "this user has no home"),
    ],
)
def test_a_folder_that_cannot_be_used_gives_one_line(folder: str, reason: str) -> None:
    with pytest.raises(Failure) as error:
        cache.ensure(Path(folder))
    assert str(error.value) == (
        f"The cache folder {folder} cannot be used ({reason}):"
        " set VELIB_CACHE_DIR to a folder in which this user may write"
    )
