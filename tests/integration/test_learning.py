"""For learners: docs/pocket.py has the totals of the job, exercises tell right from wrong."""

import json
from pathlib import Path
from threading import Event

import pytest
from pyspark.sql import SparkSession

import spark as job
from docs import pocket
from exercises import lab
from exercises.lab import Lab, Wrong
from local import day
from tests import expected
from tests.pipeline import Pipeline

NUMBERS = [int(folder.name[:2]) for folder in sorted(lab.FOLDER.glob("[0-9]*"))]


@pytest.mark.parametrize("number", NUMBERS)
def test_the_solution_is_right_and_the_stub_is_not(
    number: int, plain_kafka: str, spark: SparkSession, tmp_path: Path
) -> None:
    shared = Lab(plain_kafka, spark, tmp_path)
    lab.test(number, "solution", shared)
    with pytest.raises(Wrong) as wrong:
        lab.test(number, "exercise", shared)
    assert "\n" not in str(wrong.value)


def test_the_pocket_pipeline_has_the_totals_of_the_job_for_the_real_day(
    plain_kafka: str, spark: SparkSession, tmp_path: Path
) -> None:
    pipeline = Pipeline(plain_kafka, tmp_path)
    real_day = day.Day(period=60, start=1_730_966_400)
    times = [real_day.start + 60 * number for number in range(len(day.snapshots()))]
    producer = pocket.connect(plain_kafka)
    for snapshot in map(real_day.status, times):
        pocket.publish(producer, snapshot)
    producer.close()

    session = spark.newSession()
    session.conf.set("spark.sql.shuffle.partitions", 1)
    totals = pocket.sum_by_postal_code(pocket.parse(pocket.read(session, plain_kafka)))
    query = pocket.write(pocket.to_records(totals), str(tmp_path / "pocket"), plain_kafka)
    query.processAllAvailable()
    query.stop()
    settings = pipeline.settings_of(
        "spark.py",
        VELIB_STATIONS="all",
        VELIB_RAW_TOPIC=pocket.STATIONS,
        VELIB_CHECKPOINT_DIR=str(tmp_path / "checkpoint"),
    )
    job.run(spark.newSession(), settings, Event(), available_now=True)

    plain = expected.simulated_totals(real_day, times)
    assert pipeline.totals() == plain
    of_pocket = [json.loads(record.value) for record in pipeline.records(pocket.TOTALS)]
    assert {(total["postal_code"], total["last_updated"]): total for total in of_pocket} == {
        key: _in_pocket(total) for key, total in plain.items()
    }


def _in_pocket(total: expected.Total) -> expected.Total:
    """The total without the counts that docs/pocket.py leaves out."""
    names = ("postal_code", "last_updated", *pocket.COUNTS)
    return {name: total[name] for name in names}
