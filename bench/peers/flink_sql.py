"""The totals with Apache Flink: SQL in PyFlink, from the Kafka connector to the Kafka connector.

    python -m bench.peers.flink_sql                   until stopped
    python -m bench.peers.flink_sql --available-now   what is in the topic now; then prints the
                                                      seconds that Flink's job has run

Rows are gathered for 20 ms (mini-batches), as Flink's guide to faster aggregations recommends:
otherwise each station would write its total again. The key of a record is JSON: postal code and
snapshot. The connector's jar is the one that FLINK_CONNECTOR names.
"""

import os
import sys
from pathlib import Path

from pyflink.table import EnvironmentSettings, TableEnvironment

import config
from velib import runtime
from velib.totals.areas import postal_code_exceptions

OPTIONS = {
    "table.exec.mini-batch.enabled": "true",
    "table.exec.mini-batch.allow-latency": "20 ms",
    "table.exec.mini-batch.size": "5000",
    "table.exec.state.ttl": "10 min",
    "execution.checkpointing.interval": "10 s",
    "parallelism.default": "1",  # a topic of one partition is read by one task
}

RAW = """
CREATE TABLE raw_records (
    stationCode STRING, last_updated BIGINT, is_installed INT, is_renting INT,
    num_bikes_available BIGINT, num_docks_available BIGINT,
    num_bikes_available_types ARRAY<ROW<mechanical BIGINT, ebike BIGINT>>,
    received AS PROCTIME()
) WITH (
    'connector' = 'kafka', 'format' = 'json', 'topic' = '{raw}',
    'properties.bootstrap.servers' = '{servers}',
    'properties.isolation.level' = 'read_committed',
    'scan.startup.mode' = 'earliest-offset'{bounded}
)"""

FINAL = """
CREATE TABLE totals (
    postal_code STRING, last_updated BIGINT, stations BIGINT, num_bikes_available BIGINT,
    mechanical BIGINT, ebike BIGINT, num_docks_available BIGINT,
    PRIMARY KEY (postal_code, last_updated) NOT ENFORCED
) WITH (
    'connector' = 'upsert-kafka', 'key.format' = 'json', 'value.format' = 'json',
    'topic' = '{final}', 'properties.bootstrap.servers' = '{servers}'
)"""

STATIONS = """
CREATE TEMPORARY VIEW stations AS
SELECT *,
    CAST(REGEXP_EXTRACT(stationCode, '^([0-9]+)', 1) AS INT) AS number,
    is_installed = 1 AND is_renting = 1 AS is_open,
    COALESCE(num_bikes_available_types[1].mechanical, num_bikes_available_types[2].mechanical, 0)
        AS mechanical,
    COALESCE(num_bikes_available_types[1].ebike, num_bikes_available_types[2].ebike, 0) AS ebike
FROM (
    SELECT *, ROW_NUMBER()
        OVER (PARTITION BY stationCode, last_updated ORDER BY received) AS delivery
    FROM raw_records
) WHERE delivery = 1"""

TOTALS = """
INSERT INTO totals
SELECT postal_code, last_updated,
    SUM(IF(is_open, CAST(1 AS BIGINT), CAST(0 AS BIGINT))),
    SUM(IF(is_open, num_bikes_available, CAST(0 AS BIGINT))),
    SUM(IF(is_open, mechanical, CAST(0 AS BIGINT))),
    SUM(IF(is_open, ebike, CAST(0 AS BIGINT))),
    SUM(IF(is_open, num_docks_available, CAST(0 AS BIGINT)))
FROM (
    SELECT *, CASE
        {exceptions}
        WHEN number BETWEEN 1000 AND 20999 THEN CAST(75000 + number / 1000 AS STRING)
        WHEN number BETWEEN 21000 AND 59999 THEN CAST(90000 + number / 100 * 10 AS STRING)
        WHEN number BETWEEN 92000 AND 92999 THEN '92000'
    END AS postal_code
    FROM stations
) GROUP BY postal_code, last_updated"""


def main() -> None:
    settings = config.load()
    available_now = "--available-now" in sys.argv[1:]
    names = {
        "raw": settings.raw_topic,
        "final": settings.final_topic,
        "servers": settings.kafka.bootstrap_servers,
        "bounded": ", 'scan.bounded.mode' = 'latest-offset'" if available_now else "",
        "exceptions": "\n        ".join(
            f"WHEN stationCode = '{code}' THEN '{postal_code}'"
            for code, postal_code in postal_code_exceptions().items()
        ),
    }
    tables = TableEnvironment.create(EnvironmentSettings.in_streaming_mode())
    checkpoint = {
        "execution.checkpointing.dir": f"file://{Path(settings.checkpoint_dir).absolute()}"
    }
    connector = {"pipeline.jars": f"file://{os.environ['FLINK_CONNECTOR']}"}
    for option, value in (OPTIONS | checkpoint | connector).items():
        tables.get_config().set(option, value)
    for statement in (RAW, FINAL, STATIONS):
        tables.execute_sql(statement.format(**names))
    result = tables.execute_sql(TOTALS.format(**names))
    result.wait()
    job = result.get_job_client().get_job_execution_result().result()
    print(f"{job.get_net_runtime() / 1000:.3f} s")


if __name__ == "__main__":
    runtime.run_tool(main)
