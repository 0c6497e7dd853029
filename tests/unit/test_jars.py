"""Where the downloaded jars are, and the message if that folder cannot be used."""

from pathlib import Path

import pyspark
import pytest

from velib import jars
from velib.errors import Failure


def test_the_connector_is_that_of_this_spark_and_is_not_downloaded_twice(tmp_path: Path) -> None:
    folder = tmp_path / f"spark-kafka-{pyspark.__version__}"
    folder.mkdir()
    assert jars.connector(tmp_path) == folder


@pytest.mark.parametrize(
    ("cache_dir", "reason"),
    [
        ("/dev/null/.cache", "Not a directory"),  # /dev/null is the home of some services' users
        ("/proc/cache", "No such file or directory"),
        ("~/.cache", "this user has no home"),
    ],
)
def test_a_cache_folder_that_cannot_be_used_is_one_line(cache_dir: str, reason: str) -> None:
    with pytest.raises(Failure) as error:
        jars.connector(Path(cache_dir))
    assert str(error.value) == (
        f"The cache folder {cache_dir} cannot be used ({reason}):"
        " set VELIB_CACHE_DIR to a folder in which this user may write"
    )
