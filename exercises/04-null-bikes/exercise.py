"""Exercise 4: say why a record cannot be counted."""

from pyspark.sql import Column
from pyspark.sql import functions as F  # noqa: N812


def reason(bikes: Column) -> Column:
    """Why a station cannot be counted (string), null if it can.

    `bikes` is num_bikes_available (int) of each station.
    """
    return F.when(bikes < 0, "num_bikes_available is not a count")
