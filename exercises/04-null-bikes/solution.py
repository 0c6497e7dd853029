"""Exercise 4, solved: say why a record cannot be counted."""

from pyspark.sql import Column
from pyspark.sql import functions as F  # noqa: N812


def reason(bikes: Column) -> Column:
    is_count = F.coalesce(bikes >= 0, F.lit(False))
    return F.when(~is_count, "num_bikes_available is not a count")
