"""Tests the answer to an exercise on a Kafka and a Spark of its own.

    make exercise 1                your exercises/01-…/exercise.py
    make exercise 1 SOLUTION=1     its solution.py

Exits with status 1 if it is wrong.
"""

import argparse
import logging
import sys
import tempfile
import traceback
from pathlib import Path

import config
from exercises.lab import Lab, Wrong, folder_of, test
from local.own_kafka import own_kafka
from velib import java, runtime
from velib.job.session import spark_session
from velib.runtime import log


def main() -> None:
    parser = argparse.ArgumentParser(description="Test the answer to an exercise.")
    parser.add_argument("number", type=int)
    parser.add_argument("--solution", action="store_true", help="test the solution instead")
    arguments = parser.parse_args()
    try:
        folder = folder_of(arguments.number)
    except ValueError as error:
        parser.error(str(error))
    answer = "solution" if arguments.solution else "exercise"
    log.setLevel(logging.WARNING)  # the answer is what counts
    with tempfile.TemporaryDirectory(prefix="velib-exercise-") as temporary:
        wrong = what_is_wrong(arguments.number, answer, Path(temporary))
    file = (folder / f"{answer}.py").relative_to(Path.cwd())
    if wrong:
        sys.exit(f"{file}: not solved. {wrong}")
    print(f"{file}: solved. Now read the discussion at the end of its README.")


def what_is_wrong(number: int, answer: str, temporary: Path) -> str:
    """What is wrong with an answer, in a line; "" if it is right. Raises Failure."""
    settings = config.Settings(cache_dir=config.load().cache_dir, spark_master="local[2]")
    java.find()
    with own_kafka(temporary) as kafka, spark_session(settings) as spark:
        try:
            test(number, answer, Lab(kafka, spark, temporary))
        except Wrong as wrong:
            return str(wrong)
        except Exception as error:
            return describe(error, f"{answer}.py")
    return ""


def describe(error: Exception, file: str) -> str:
    """An error of the answer in a line: `line 12: NameError: name 'x' is not defined`."""
    lines = [f for f in traceback.extract_tb(error.__traceback__) if f.filename.endswith(file)]
    line = f"line {lines[-1].lineno}: " if lines else ""
    return f"{line}{type(error).__name__}: {str(error).partition(chr(10))[0]}"


if __name__ == "__main__":
    runtime.run_tool(main)
