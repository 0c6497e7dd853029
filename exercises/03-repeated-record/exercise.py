"""Exercise 3: a record that is in the topic twice counts once."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F  # noqa: N812


def sum_by_postal_code(stations: DataFrame) -> DataFrame:
    """A row for each snapshot and postal code: snapshot, postal_code, bikes.

    `stations` is what `parse` in docs/pocket.py returns, a row for each station of each snapshot:
    snapshot, postal_code, stationCode, stations, num_bikes_available, num_docks_available
    """
    return (
        stations.withWatermark("snapshot", "10 minutes")
        .groupBy("snapshot", "postal_code")
        .agg(F.sum("num_bikes_available").alias("bikes"))
    )
