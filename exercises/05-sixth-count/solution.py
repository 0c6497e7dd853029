"""Exercise 5, solved: count the empty stations."""

from pyspark.sql import Column
from pyspark.sql import functions as F  # noqa: N812


def counts(station: Column) -> dict[str, Column]:
    is_empty = station["num_bikes_available"] == 0
    return {
        "num_bikes_available": station["num_bikes_available"],
        "num_docks_available": station["num_docks_available"],
        "empty_stations": F.when(is_empty, 1).otherwise(0),
    }
