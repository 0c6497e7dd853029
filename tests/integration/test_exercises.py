"""The test of each exercise accepts the solution, and refuses the file as a learner finds it."""

from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from exercises import lab
from exercises.lab import Lab, Wrong

NUMBERS = [int(folder.name[:2]) for folder in sorted(lab.FOLDER.glob("[0-9]*"))]


@pytest.mark.parametrize("number", NUMBERS)
def test_the_solution_is_right_and_the_stub_is_not(
    number: int, plain_kafka: str, spark: SparkSession, tmp_path: Path
) -> None:
    lab.test(number, "solution", Lab(plain_kafka, spark, tmp_path))
    with pytest.raises(Wrong) as wrong:
        lab.test(number, "exercise", Lab(plain_kafka, spark, tmp_path))
    assert "\n" not in str(wrong.value)
