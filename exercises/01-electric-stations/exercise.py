"""Exercise 1: count only the stations that have an electric bike."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F  # noqa: F401, N812


def keep_stations(stations: DataFrame) -> DataFrame:
    """The open stations that have at least one electric bike.

    `stations` is what `parse` in spark.py returns, a row for each station of each snapshot:
    stationCode, last_updated, postal_code, counts (a struct, all zero for a closed station), …
    """
    return stations
