"""What one raw record means: its station, the postal code, the counts, why it cannot be counted.

Each function returns a column, an expression that Spark evaluates itself: there is no Python UDF.
"""

from functools import reduce

from pyspark.sql import Column
from pyspark.sql import functions as F  # noqa: N812

from config import CLOCK_TOLERANCE
from velib.totals.areas import postal_code_exceptions
from velib.totals.records import COUNTS, Count

FIELDS = [count.field for count in COUNTS.values() if count.field]
KINDS = [count.kind for count in COUNTS.values() if count.kind]

STATION = f"""
    stationCode: string, last_updated: long, is_installed: string, is_renting: string,
    {", ".join(f"{field}: int" for field in FIELDS)},
    num_bikes_available_types: array<struct<{", ".join(f"{kind}: int" for kind in KINDS)}>>
"""
"""The fields of the feed's station object that are read; the feed may add or drop others.

`is_installed` and `is_renting` are text: GBFS writes 0 and 1 before its version 2.0, false and true
since.
"""

SCHEMA = f"stations array<struct<{STATION}>>, end boolean, malformed string"
"""A record is parsed as `{"stations": [VALUE], "end": true}`.

Spark reads the first JSON value of a text and ignores what follows it. In this form a second object
is a second station, and other text makes the JSON invalid or hides the end. (A value may close the
list itself, but its writer could as well have written a station.) Spark fills `malformed` if the
JSON is invalid or a field has another type.
"""

MAX_VALUE = 1024 * 1024
"""Bytes; a station has 500. A longer value is not parsed, and its dead letter keeps this much."""

EARLIEST_SNAPSHOT = 1_000_000_000  # epoch seconds, in 2001: a smaller number is not a time


def parsed(value: Column) -> Column:
    """What is in a record's value (binary): a struct of SCHEMA, null if it is not parsed."""
    text = F.concat(F.lit('{"stations":['), value.cast("string"), F.lit('],"end":true}'))
    is_short = F.length(value) <= MAX_VALUE
    options = {"columnNameOfCorruptRecord": "malformed", "allowSingleQuotes": "false"}
    return F.from_json(F.when(is_short, text), SCHEMA, options)


def station(parsed: Column) -> Column:
    """The station (struct of STATION) of a record, null unless its value is one object."""
    stations = parsed["stations"]
    return F.when(parsed["end"] & (F.size(stations) == 1), stations[0])


def postal_code(code: Column) -> Column:
    """The postal code (string) of a station code (string); null if none can be derived.

    The feed has no postal codes. Pad the digits before any `_` to five and call them ABCDE: AB from
    01 to 20 gives 750AB (Paris), A from 2 to 5 gives 9ABC0 (the departments around Paris), and
    AB = 92 gives 92000 (Nanterre). data/postal_code_exceptions.csv has the stations for which this
    is wrong, because they lie on a boundary.
    """
    number = F.regexp_extract(code, "^([0-9]{1,5})(_.*)?$", 1).try_cast("int")
    in_paris = number.between(1_000, 20_999)
    around_paris = number.between(21_000, 59_999)
    in_nanterre = number.between(92_000, 92_999)
    by_rule = (
        F.when(in_paris, F.lit(75_000) + F.floor(number / 1_000))
        .when(around_paris, F.lit(90_000) + F.floor(number / 100) * 10)
        .when(in_nanterre, F.lit(92_000))
    )
    pairs = ",".join(f"{code}:{exception}" for code, exception in postal_code_exceptions().items())
    exception = F.str_to_map(F.lit(pairs))[code]
    return F.coalesce(exception, by_rule.cast("string"))


def counts(station: Column) -> Column:
    """What a station adds to its postal code: a struct of COUNTS (long), zeros if it is closed.

    For a station that does not rent, GBFS reports the bikes that *would* be available.
    `parse_station` in velib/page/state.py decides by the same rule whether a station is open, but
    keeps the counts of a closed one.
    """
    is_open = _is_yes(station["is_installed"]) & _is_yes(station["is_renting"])
    if_open = F.struct(
        *[_count(station, count).cast("long").alias(name) for name, count in COUNTS.items()]
    )
    return F.when(is_open, if_open).otherwise(zero_counts())


def _count(station: Column, count: Count) -> Column:
    """A count of an open station."""
    if count.kind:  # a list of one-key objects, in any order; a kind without one has no bikes
        return F.coalesce(F.array_max(station["num_bikes_available_types"][count.kind]), F.lit(0))
    return station[count.field] if count.field else F.lit(1)


def zero_counts() -> Column:
    """A struct of COUNTS (long), all 0."""
    return F.struct(*[F.lit(0).cast("long").alias(name) for name in COUNTS])


def add_counts(left: Column, right: Column) -> Column:
    """The sum of two structs of COUNTS."""
    return F.struct(*[(left[name] + right[name]).alias(name) for name in COUNTS])


def _is_yes(flag: Column) -> Column:
    return flag.isin("1", "true")


def reason(
    value: Column, timestamp: Column, malformed: Column, station: Column, postal_code: Column
) -> Column:
    """Why a record cannot be counted (string); null if it can.

    `value` and `timestamp` are Kafka's columns; the others come from the functions above.
    """
    last_updated, kinds = station["last_updated"], station["num_bikes_available_types"]
    newest = F.unix_seconds(timestamp) + CLOCK_TOLERANCE
    is_malformed = malformed.isNotNull()
    is_empty = station["stationCode"].isNull() & last_updated.isNull()
    return _first_fault(
        ("no value", value.isNull()),
        ("longer than 1 MB", F.length(value) > MAX_VALUE),
        ("not a JSON object", station.isNull() | (is_malformed & is_empty)),
        ("no stationCode", station["stationCode"].isNull()),
        ("stationCode without a postal code", postal_code.isNull()),
        ("last_updated is not a time", ~_holds(last_updated.between(EARLIEST_SNAPSHOT, newest))),
        *[
            (f"{name} is not a boolean", ~_holds(station[name].isin("0", "1", "true", "false")))
            for name in ("is_installed", "is_renting")
        ],
        *[(f"{name} is not a count", ~_holds(station[name] >= 0)) for name in FIELDS],
        (
            # A malformed field that is checked above is null, so its own reason has already been
            # given: here only the bike types can be malformed.
            "num_bikes_available_types are not counts",
            reduce(
                Column.__or__,
                [_holds(F.array_min(kinds[kind]) < 0) for kind in KINDS],
                is_malformed,
            ),
        ),
    )


def _first_fault(*faults: tuple[str, Column]) -> Column:
    return F.coalesce(*[F.when(is_so, F.lit(name)) for name, is_so in faults])


def _holds(condition: Column) -> Column:
    """The condition, but false where it is null: in SQL a comparison with null is null."""
    return F.coalesce(condition, F.lit(False))
