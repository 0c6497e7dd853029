"""Exercise 5: also count the empty stations."""

from pyspark.sql import Column
from pyspark.sql import functions as F  # noqa: F401, N812


def counts(station: Column) -> dict[str, Column]:
    """What an open station adds to the totals of its postal code, by name: two counts and, once you
    have added it, `empty_stations`: 1 if it has no bike, else 0. Closed ones are removed before.

    `station` is a struct: stationCode (string), num_bikes_available, num_docks_available (int), …
    """
    return {
        "num_bikes_available": station["num_bikes_available"],
        "num_docks_available": station["num_docks_available"],
    }
