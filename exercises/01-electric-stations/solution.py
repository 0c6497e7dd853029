"""Exercise 1, solved: count only the stations that have an electric bike."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F  # noqa: N812


def keep_stations(stations: DataFrame) -> DataFrame:
    has_electric_bike = F.col("counts.ebike") > 0
    return stations.where(has_electric_bike)
