"""Each stage of the job on small tables, on a real Spark."""

import json
import random
from datetime import datetime, timezone
from typing import Any

import hypothesis
import pytest
from hypothesis import HealthCheck
from hypothesis import strategies as st
from pyspark.sql import DataFrame, Row, SparkSession
from pyspark.sql import functions as F  # noqa: N812

import config
import spark as job
from tests import expected
from tests.expected import station
from velib.job import columns
from velib.job.session import set_shuffle_partitions
from velib.totals.records import COUNTS

NOW = 1732004538
KAFKA = """
    key binary, value binary, topic string, partition int, offset long, timestamp timestamp,
    timestampType int
"""


def kafka_records(spark: SparkSession, values: list[bytes | None]) -> DataFrame:
    """Values as Kafka's source returns them, at offsets 0, 1, 2 …"""
    arrived = datetime.fromtimestamp(NOW + 5, timezone.utc)
    rows = [
        (b"key", value, "velib-projet", 0, offset, arrived, 0)
        for offset, value in enumerate(values)
    ]
    return spark.createDataFrame(rows, KAFKA)


def as_values(*stations: Any, last_updated: int = NOW) -> list[bytes | None]:
    return [json.dumps(station | {"last_updated": last_updated}).encode() for station in stations]


def totals_of(spark: SparkSession, values: list[bytes | None]) -> list[dict[str, Any]]:
    """The totals that the job would write for these values, by postal code and snapshot."""
    selected = job.keep_stations(job.parse(kafka_records(spark, values)), config.ALL)
    written = job.to_total_records(
        job.sum_by_postal_code(selected, "10 minutes"), "totals"
    ).collect()
    return sorted(
        (json.loads(row.value) for row in written),
        key=lambda t: (t["postal_code"], t["last_updated"]),
    )


def totals_of_each(spark: SparkSession, stations: list[Any]) -> list[dict[str, Any]]:
    """The totals of these stations of one postal code, each in a snapshot of its own."""
    values = [
        value
        for number, alone in enumerate(stations)
        for value in as_values(alone, last_updated=NOW + number)
    ]
    return totals_of(spark, values)


def dead_letters_of(spark: SparkSession, values: list[bytes | None]) -> list[Row]:
    """The dead letters that the job would write for these values."""
    return job.to_dead_letters(job.parse(kafka_records(spark, values)), "dead-letters").collect()


def headers(letter: Row) -> dict[str, bytes]:
    return {header.key: bytes(header.value) for header in letter.headers}


def reasons(spark: SparkSession, values: list[bytes | None]) -> list[str | None]:
    return [
        row.reason for row in job.parse(kafka_records(spark, values)).orderBy("offset").collect()
    ]


def postal_codes(spark: SparkSession, codes: list[str | None]) -> list[str | None]:
    frame = spark.createDataFrame([(code, i) for i, code in enumerate(codes)], "code string, i int")
    column = columns.postal_code(F.col("code"))
    return [
        row.postal_code
        for row in frame.select(column.alias("postal_code"), "i").orderBy("i").collect()
    ]


def test_a_station_code_gives_the_postal_code(spark: SparkSession) -> None:
    by_code = {
        "1001": "75001",
        "6015": "75006",
        "16107": "75016",
        "20143": "75020",
        "21001": "92100",
        "32017": "93200",
        "30002": "93000",
        "44015": "94400",
        "51001": "95100",
        "92001": "92000",
        "11031_relais": "75011",
        "11031_": "75011",
        "1022": "75002",
        "01022": "75001",
        "1022_relais": "75001",
    }
    assert postal_codes(spark, list(by_code)) == list(by_code.values())


def test_any_other_code_gives_none(spark: SparkSession) -> None:
    odd = [
        None,
        "",
        "0",
        "999",
        "00999",
        "60001",
        "91999",
        "93000",
        "99999",
        "160107",
        "-6015",
        "6 015",
        "6015x",
        "relais",
        "_6015",
    ]
    assert postal_codes(spark, odd) == [None] * len(odd)


def test_the_rule_agrees_with_the_written_one_on_every_number(spark: SparkSession) -> None:
    codes: list[str | None] = [str(number) for number in range(100_000)]
    assert postal_codes(spark, codes) == [
        expected.postal_code(str(number)) for number in range(100_000)
    ]


def test_bikes_of_a_postal_code_are_summed(spark: SparkSession) -> None:
    stations = [station("16107", 3, 1, 10), station("16108", 5, 2, 20), station("32017", 7, 0, 30)]
    assert totals_of(spark, as_values(*stations)) == [
        {
            "postal_code": "75016",
            "last_updated": NOW,
            "stations": 2,
            "num_bikes_available": 11,
            "mechanical": 8,
            "ebike": 3,
            "num_docks_available": 30,
        },
        {
            "postal_code": "93200",
            "last_updated": NOW,
            "stations": 1,
            "num_bikes_available": 7,
            "mechanical": 7,
            "ebike": 0,
            "num_docks_available": 30,
        },
    ]


def test_two_snapshots_do_not_add_up(spark: SparkSession) -> None:
    values = as_values(station(bikes=3, ebikes=0)) + as_values(
        station(bikes=4, ebikes=0), last_updated=NOW + 60
    )
    assert [(t["last_updated"], t["num_bikes_available"]) for t in totals_of(spark, values)] == [
        (NOW, 3),
        (NOW + 60, 4),
    ]


RELAYS = [
    station("7101", 3, 1, 10),
    station("7101_Relais", 5, 2, 20),
    station("31024", 7, 0, 30),
    station("31024_relais", 9, 4, 40),
]
"""Relay stations beside their base stations, as the feed of 2022-02-23 has them, in mixed case."""


def test_a_relay_station_and_its_base_station_both_count_each_once(spark: SparkSession) -> None:
    totals = totals_of(spark, as_values(*RELAYS, *RELAYS))
    assert [tuple(total.values()) for total in totals] == [
        ("75007", NOW, 2, 11, 8, 3, 30),
        ("93100", NOW, 2, 20, 16, 4, 70),
    ]


def test_a_relay_station_is_selected_by_its_own_code(spark: SparkSession) -> None:
    parsed = job.parse(kafka_records(spark, as_values(*RELAYS)))
    selected = job.keep_stations(parsed, ("7101_Relais", "31024"))
    assert {row.stationCode for row in selected.collect()} == {"7101_Relais", "31024"}


def test_which_of_two_different_records_of_a_station_counts_does_not_depend_on_their_order(
    spark: SparkSession,
) -> None:
    values = as_values(station("16107", 3, 0), station("16107", 5, 0))
    first, second = totals_of(spark, values), totals_of(spark, values[::-1])
    assert first == second
    assert [(t["stations"], t["num_bikes_available"]) for t in first] == [(1, 5)]


def test_stations_of_odd_codes_large_counts_and_repeats_are_summed_each_once(
    spark: SparkSession,
) -> None:
    dice = random.Random(1)
    codes = [
        "6015",
        "06015",
        "6015_relais",
        "6016",
        "1022",
        "01022",
        "1022_relais",
        "1023",
        "59999",
        "20999",
        "32017_",
    ]
    counts = [0, 0, 1, 2, 9, 2046, 2047, 2048, 2**31 - 1]
    values: list[bytes | None] = []
    plain: dict[tuple[str, int], expected.Total] = {}
    for last_updated in range(NOW, NOW + 300):
        stations = [
            station(
                dice.choice(codes),
                *(dice.choice(counts) for _ in range(3)),
                is_renting=dice.choice([1, 1, 1, 0]),
            )
            | {"num_bikes_available": dice.choice(counts)}
            for _ in range(dice.choice([1, 2, 10, 30]))
        ]
        values += as_values(*stations, last_updated=last_updated)
        last = {each["stationCode"]: each for each in sorted(stations, key=_counted)}
        plain |= expected.totals(expected.feed(last_updated, *last.values()))
    dice.shuffle(values)
    assert {(t["postal_code"], t["last_updated"]): t for t in totals_of(spark, values)} == plain


def _counted(fields: dict[str, Any]) -> list[int]:
    """What a station counts: of its repeats the greatest is counted."""
    kinds = [count for kind in fields["num_bikes_available_types"] for count in kind.values()]
    return (
        [fields["num_bikes_available"], *kinds, fields["num_docks_available"]]
        if fields["is_renting"]
        else []
    )


def test_a_closed_station_does_not_count_and_leaves_a_record_of_zeros(spark: SparkSession) -> None:
    closed = [station("16107", is_renting=0), station("16108", is_installed=0)]
    (total,) = totals_of(spark, as_values(*closed))
    assert total == {"postal_code": "75016", "last_updated": NOW} | dict.fromkeys(COUNTS, 0)
    (total,) = totals_of(spark, as_values(*closed, station("16109", 2, 1)))
    assert (total["stations"], total["num_bikes_available"]) == (1, 3)


def test_kinds_of_bikes_are_read_by_name(spark: SparkSession) -> None:
    cases: list[tuple[Any, tuple[int, int]]] = [
        ([{"mechanical": 1}, {"ebike": 4}], (1, 4)),
        ([{"ebike": 4}, {"mechanical": 1}], (1, 4)),
        ([{"ebike": 4, "mechanical": 1}], (1, 4)),
        ([{"ebike": 4}], (0, 4)),
        ([{"mechanical": 1}, {"scooter": 9}], (1, 0)),
        ([], (0, 0)),
        (None, (0, 0)),
    ]
    stations = [station(bikes=1, ebikes=4, num_bikes_available_types=kinds) for kinds, _ in cases]
    totals = totals_of_each(spark, stations)
    assert [(total["mechanical"], total["ebike"]) for total in totals] == [
        sums for _, sums in cases
    ]
    assert {total["num_bikes_available"] for total in totals} == {5}


def test_a_station_is_open_or_closed_as_gbfs_1_and_as_gbfs_2_write_it(spark: SparkSession) -> None:
    flags: list[Any] = [1, 0, True, False]
    for field in ("is_installed", "is_renting"):
        totals = totals_of_each(spark, [station(**{field: flag}) for flag in flags])
        assert [total["stations"] for total in totals] == [1, 0, 1, 0]


def test_only_the_selected_stations_are_kept_and_none_that_cannot_be_counted(
    spark: SparkSession,
) -> None:
    stations = [
        station("16107"),
        station("6015"),
        station("32017"),
        station("6016", num_bikes_available=-1),
    ]
    parsed = job.parse(kafka_records(spark, [*as_values(*stations), b"garbage"]))
    kept = job.keep_stations(parsed, ("16107", "32017", "6016", "99"))
    assert [row.stationCode for row in kept.orderBy("offset").collect()] == ["16107", "32017"]
    assert job.keep_stations(parsed, "all").count() == 3


def test_a_whole_network_equals_the_plain_sum(spark: SparkSession) -> None:
    from local.day import Day

    answer = Day().status(NOW)
    written = totals_of(spark, as_values(*answer["data"]["stations"]))
    assert {(t["postal_code"], t["last_updated"]): t for t in written} == expected.totals(answer)


def test_fields_that_were_added_or_are_null_are_ignored(spark: SparkSession) -> None:
    assert reasons(
        spark, as_values(station(station_opening_hours=None, new={"a": [1]}, station_id=None))
    ) == [None]


GOOD = json.dumps(station() | {"last_updated": NOW})


def test_a_record_is_one_object_with_whitespace_around_it_and_nothing_else(
    spark: SparkSession,
) -> None:
    spaces = [" ", "\n", "\t", "\r\n", "\n \n"]
    good = [before + GOOD + after for before in spaces for after in spaces]
    more = [GOOD, f"\n{GOOD}", f",{GOOD}", " {}", ',"a":1', "]", "}", "]}", "\0", "x"]
    bad = [GOOD + text for text in more] + [text + GOOD for text in ("x", "{}", "\ufeff", "[")]
    assert reasons(spark, [value.encode() for value in good + bad]) == [None] * len(good) + [
        "not a JSON object"
    ] * len(bad)


REASONS: list[tuple[str | None, str]] = [
    (None, "no value"),
    ("", "not a JSON object"),
    ("bikes", "not a JSON object"),
    ("null", "not a JSON object"),
    ("5", "not a JSON object"),
    (f"[{GOOD}]", "not a JSON object"),
    (GOOD[:-20], "not a JSON object"),
    (GOOD[:-20] + "}", "not a JSON object"),
    (GOOD + "x", "not a JSON object"),
    ("{}", "no stationCode"),
    (GOOD.replace('"16107"', "null"), "no stationCode"),
    (GOOD.replace('"16107"', '"99999"'), "stationCode without a postal code"),
    (GOOD.replace('"16107"', '{"code": 1}'), "stationCode without a postal code"),
    (GOOD.replace(f'"last_updated": {NOW}', '"other": 1'), "last_updated is not a time"),
    (GOOD.replace(str(NOW), "-1"), "last_updated is not a time"),
    (GOOD.replace(str(NOW), f"{NOW}000"), "last_updated is not a time"),
    (GOOD.replace(str(NOW), f'"{NOW}"'), "last_updated is not a time"),
    (
        GOOD.replace('"is_renting": 1', '"is_renting": null'),
        "is_renting is not a boolean",
    ),
    (
        GOOD.replace('"is_renting": 1', '"is_renting": "yes"'),
        "is_renting is not a boolean",
    ),
    (
        GOOD.replace('"is_installed": 1', '"is_installed": 2'),
        "is_installed is not a boolean",
    ),
    (
        GOOD.replace('"num_bikes_available": 4', '"other": 4'),
        "num_bikes_available is not a count",
    ),
    (
        GOOD.replace('"num_bikes_available": 4', '"num_bikes_available": -4'),
        "num_bikes_available is not a count",
    ),
    (
        GOOD.replace('"num_bikes_available": 4', '"num_bikes_available": 4.5'),
        "num_bikes_available is not a count",
    ),
    (
        GOOD.replace('"num_bikes_available": 4', '"num_bikes_available": "4"'),
        "num_bikes_available is not a count",
    ),
    (
        GOOD.replace('"num_bikes_available": 4', '"num_bikes_available": true'),
        "num_bikes_available is not a count",
    ),
    (
        GOOD.replace('"num_docks_available": 10', '"num_docks_available": 4294967296'),
        "num_docks_available is not a count",
    ),
    (GOOD.replace('"ebike": 1', '"ebike": -1'), "num_bikes_available_types are not counts"),
    (GOOD.replace('"ebike": 1', '"ebike": "1"'), "num_bikes_available_types are not counts"),
    (
        GOOD.replace('[{"mechanical": 3}, {"ebike": 1}]', "7"),
        "num_bikes_available_types are not counts",
    ),
]


def test_a_record_that_cannot_be_counted_has_a_reason(spark: SparkSession) -> None:
    values = [value if value is None else value.encode() for value, _ in REASONS]
    assert reasons(spark, values) == [reason for _, reason in REASONS]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)
STATIONS = st.fixed_dictionaries(
    {"stationCode": st.sampled_from(["16107", "6015", "11031_relais", "99999", "", None]) | JSON},
    optional={
        "last_updated": st.sampled_from([NOW, NOW - 60, 0, -1, 2**63]) | JSON,
        "is_installed": st.integers(-1, 2) | JSON,
        "is_renting": st.integers(-1, 2) | JSON,
        "num_bikes_available": st.integers(-1, 2**33) | JSON,
        "num_docks_available": st.integers(-1, 2**33) | JSON,
        "num_bikes_available_types": st.lists(
            st.dictionaries(st.sampled_from(["mechanical", "ebike"]), JSON)
        )
        | JSON,
    },
)
RECORDS = (
    st.none()
    | st.binary(max_size=200)
    | JSON.map(json.dumps).map(str.encode)
    | STATIONS.map(json.dumps).map(str.encode)
)


@hypothesis.settings(
    max_examples=8,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@hypothesis.given(values=st.lists(RECORDS, min_size=40, max_size=120))
def test_whatever_the_records_are_each_is_counted_or_a_dead_letter_with_its_own_bytes(
    spark: SparkSession, values: list[bytes | None]
) -> None:
    values = [*values, GOOD.encode()]
    parsed = job.parse(kafka_records(spark, values))
    dead = {int(headers(row)["offset"]): row for row in dead_letters_of(spark, values)}
    counted = {row.offset for row in parsed.where("reason is null").collect()}
    assert counted.isdisjoint(dead)
    assert counted | dead.keys() == set(range(len(values)))
    assert len(values) - 1 in counted
    for offset, row in dead.items():
        assert row.value == values[offset]
        assert headers(row)["reason"]


CHOKING = [
    b'{"a":' + b"[" * 500_000,
    b'{"a":' + b"[" * 2_000 + b"]" * 2_000 + b"}",
    GOOD.replace('"num_bikes_available": 4', f'"num_bikes_available": {"9" * 5_000}').encode(),
    GOOD.replace('"16107"', '"' + "1" * 1_000_000 + '"').encode(),
    GOOD.replace("{", "{" + " " * 40_000_000, 1).encode(),
]


def test_records_that_are_made_to_choke_a_parser_are_dead_letters(spark: SparkSession) -> None:
    *of_choking, of_good = reasons(spark, [*CHOKING, GOOD.encode()])
    assert all(of_choking)
    assert of_good is None


def test_bytes_that_are_not_text_have_a_reason(spark: SparkSession) -> None:
    assert reasons(spark, [b"\xff\xfe\x00", b"\x00" * 1000]) == ["not a JSON object"] * 2


def test_a_dead_letter_is_the_record_itself_with_where_it_was_and_why(spark: SparkSession) -> None:
    dead = dead_letters_of(spark, [*as_values(station()), b"\xffgarbage"])
    assert [(row.key, row.value) for row in dead] == [(b"key", b"\xffgarbage")]
    assert headers(dead[0]) == {
        "reason": b"not a JSON object",
        "topic": b"velib-projet",
        "partition": b"0",
        "offset": b"1",
    }


def test_a_key_over_1_mb_is_cut_too(spark: SparkSession) -> None:
    records = kafka_records(spark, [b"garbage"]).withColumn(
        "key", F.expr("binary(repeat('1', 2000000))")
    )
    (dead,) = job.to_dead_letters(job.parse(records), "dead-letters").collect()
    assert dead.key == b"1" * 1024 * 1024


def test_a_value_over_1_mb_is_a_dead_letter_with_its_first_megabyte(spark: SparkSession) -> None:
    fits = GOOD.encode() + b" " * (1024 * 1024 - len(GOOD))
    too_long = b" " * (1024 * 1024) + GOOD.encode()
    (dead,) = dead_letters_of(spark, [fits, too_long])
    assert dead.value == too_long[: 1024 * 1024]
    assert headers(dead)["offset"] == b"1"
    assert headers(dead)["reason"] == b"longer than 1 MB"


def test_a_snapshot_that_cannot_be_counted_does_not_move_the_watermark(spark: SparkSession) -> None:
    absurd = [GOOD.replace(str(NOW), str(2**63 - 1)), GOOD.replace("16107", "99999")]
    stations = job.keep_stations(
        job.parse(kafka_records(spark, [value.encode() for value in [*absurd, GOOD]])), config.ALL
    )
    assert [row.last_updated for row in stations.collect()] == [NOW]


@pytest.mark.parametrize(("setting", "number"), [(None, "1"), (5, "5")])
def test_the_state_has_one_shuffle_partition_on_one_machine_or_as_many_as_set(
    spark: SparkSession, setting: int | None, number: str
) -> None:
    settings = config.load().model_copy(update={"shuffle_partitions": setting})
    own_session = spark.newSession()
    set_shuffle_partitions(own_session, settings)
    assert own_session.conf.get("spark.sql.shuffle.partitions") == number
