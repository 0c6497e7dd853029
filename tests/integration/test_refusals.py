"""A Kafka that is set up wrongly, or asks for what it does not get: one accurate error line."""

import random
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from kafka import KafkaAdminClient
from pyspark.sql import SparkSession

from local.broker import free_port
from tests.certificates import make_certificate
from tests.expected import feed, station
from tests.in_process import RunJob
from tests.pipeline import Pipeline, Script, wait_until
from velib.errors import Failure

LISTENERS = ("CLIENTS", "TLS", "EXPIRED", "MUTUAL", "ELSEWHERE", "CONTROLLER")
"""The listeners of one Kafka: TLS with a good certificate, with an expired one, with one required
of clients, and a listener that advertises an unreachable host.
"""

SPARK_PAGES = ("environment", "SQL", "StreamingQuery", "jobs")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The certificates of Kafka and of its clients, each NAME.pem with NAME.key."""
    folder = tmp_path_factory.mktemp("listeners")
    for name, days in (("broker", 10), ("expired", -1), ("client", 10), ("stranger", 10)):
        certificate, key = make_certificate(folder, name, days)
        (folder / f"{name}.keystore").write_text(key.read_text() + certificate.read_text())
    return folder


@pytest.fixture(scope="module")
def ports(folder: Path) -> Iterator[dict[str, int]]:
    """A Kafka with these listeners, by name."""
    ports = {name: free_port() for name in LISTENERS}
    addresses = [f"{name}://127.0.0.1:{port}" for name, port in ports.items()]
    advertised = [f"{name}://localhost:{port}" for name, port in ports.items()][:-2]
    protocols = ["CLIENTS:PLAINTEXT", "CONTROLLER:PLAINTEXT", "ELSEWHERE:PLAINTEXT"]
    protocols += ["TLS:SSL", "EXPIRED:SSL", "MUTUAL:SSL"]
    properties = {
        "listeners": ",".join(addresses),
        "advertised.listeners": ",".join([*advertised, "ELSEWHERE://kafka.invalid:9092"]),
        "listener.security.protocol.map": ",".join(protocols),
        "controller.quorum.voters": f"1@127.0.0.1:{ports['CONTROLLER']}",
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": folder / "broker.keystore",
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": folder / "client.pem",
        "listener.name.expired.ssl.keystore.type": "PEM",
        "listener.name.expired.ssl.keystore.location": folder / "expired.keystore",
        "listener.name.mutual.ssl.client.auth": "required",
    }
    overrides = [
        word for name in properties for word in ("--override", f"{name}={properties[name]}")
    ]
    port = ("--port", str(ports["CLIENTS"]))
    broker = Script("-m", "local.broker", *port, *overrides, folder=folder, environment={})
    try:
        wait_until(lambda: broker.printed() or broker.has_ended(), "Kafka is ready")
        assert broker.printed() == ["ready"], broker.log()
        yield ports
    finally:
        broker.kill()


@pytest.fixture(scope="module")
def kafka(ports: dict[str, int]) -> tuple[str, None]:
    """The Kafka of this module's pipelines, without security on this listener."""
    return f"localhost:{ports['CLIENTS']}", None


def _tls(folder: Path, servers: str, broker: str = "broker", client: str = "") -> dict[str, str]:
    settings = {
        "KAFKA_BOOTSTRAP_SERVERS": servers,
        "KAFKA_SECURITY_PROTOCOL": "SSL",
        "KAFKA_SSL_CAFILE": str(folder / f"{broker}.pem"),
    }
    if client:
        settings["KAFKA_SSL_CERTFILE"] = str(folder / f"{client}.pem")
        settings["KAFKA_SSL_KEYFILE"] = str(folder / f"{client}.key")
    return settings


def _refusal(script: Script) -> str:
    """The one error line with which a script ends by itself."""
    assert script.end() == 1
    (error,) = [line for line in script.log().splitlines() if " ERROR " in line]
    return error.split(" ERROR ")[1].strip()


def test_a_broker_that_advertises_a_wrong_address_differs_from_one_that_is_away(
    pipeline: Pipeline, ports: dict[str, int], run_job: RunJob
) -> None:
    servers = f"127.0.0.1:{ports['ELSEWHERE']}"
    line = (
        f"Kafka at {servers} advertises kafka.invalid:9092, which cannot be reached from here:"
        " correct advertised.listeners on that Kafka"
    )
    names = ("kafka_project.py", "consumer.py")
    scripts = [pipeline.start(name, KAFKA_BOOTSTRAP_SERVERS=servers) for name in names]
    with pytest.raises(Failure, match=re.escape(line)):
        run_job(KAFKA_BOOTSTRAP_SERVERS=servers)
    for script in scripts:
        assert _refusal(script) == line
        assert "Waiting for Kafka" not in script.log()


def test_what_is_wrong_with_a_certificate_is_named(
    pipeline: Pipeline, ports: dict[str, int], folder: Path
) -> None:
    expired, other_name = f"localhost:{ports['EXPIRED']}", f"127.0.0.1:{ports['TLS']}"
    scripts = [
        pipeline.start("consumer.py", **_tls(folder, expired, "expired")),
        pipeline.start("consumer.py", **_tls(folder, other_name)),
    ]
    assert [_refusal(script) for script in scripts] == [
        f"Kafka at {expired} has a certificate that has expired, or this machine's clock is wrong",
        f"Kafka at {other_name} has a certificate that is not for the name 127.0.0.1:"
        " use the name in the certificate",
    ]


def test_a_kafka_that_asks_for_a_certificate_is_reached_with_one_and_says_so_without(
    pipeline: Pipeline,
    ports: dict[str, int],
    folder: Path,
    spark: SparkSession,
    run_job: RunJob,
) -> None:
    servers = f"localhost:{ports['MUTUAL']}"
    line = (
        f"Kafka at {servers} requires a client certificate: set KAFKA_SSL_CERTFILE and"
        " KAFKA_SSL_KEYFILE to one that it trusts"
    )
    scripts = [
        pipeline.start(name, **_tls(folder, servers, client=client))
        for name, client in (
            ("kafka_project.py", ""),
            ("consumer.py", ""),
            ("consumer.py", "stranger"),
        )
    ]
    with pytest.raises(Failure, match=re.escape(line)):
        run_job(**_tls(folder, servers))
    assert [_refusal(script) for script in scripts] == [line] * 3
    pipeline.serve_api().put(feed(int(time.time()), station()))
    with_certificate = _tls(folder, servers, client="client")
    assert pipeline.start("kafka_project.py", "--once", **with_certificate).end() == 0
    job_log = run_job(**with_certificate)
    consumer = pipeline.start("consumer.py", "--max-messages", "1", **with_certificate)
    assert consumer.end() == 0
    assert consumer.printed()[0].startswith("75016  Paris 16e")
    address = spark.sparkContext.uiWebUrl
    pages = [requests.get(f"{address}/{page}/", timeout=10).text for page in SPARK_PAGES]
    secret = (folder / "client.key").read_text().splitlines()[1]
    assert not [text for text in [*pages, job_log] if secret in text]


def test_a_raw_topic_that_is_compacted_is_refused(pipeline: Pipeline, run_job: RunJob) -> None:
    topic = pipeline.settings.raw_topic
    pipeline.serve_api().put(feed(int(time.time()), station()))
    with KafkaAdminClient(**pipeline.client) as admin:
        admin.create_topics({topic: {"configs": {"cleanup.policy": "compact"}}})
    line = (
        f"The topic {topic} has cleanup.policy=compact, which removes stations from its"
        " snapshots: set it to delete, or set VELIB_RAW_TOPIC to another topic"
    )
    for call in (pipeline.publish_once, run_job):
        with pytest.raises(Failure, match=re.escape(line)):
            call()
    assert pipeline.raw() == []


def test_a_snapshot_is_split_for_a_topic_of_small_messages_and_a_record_too_large_is_refused(
    pipeline: Pipeline,
) -> None:
    topic = pipeline.settings.raw_topic
    api = pipeline.serve_api()
    with KafkaAdminClient(**pipeline.client) as admin:
        admin.create_topics({topic: {"configs": {"max.message.bytes": "1000"}}})
    now, codes = int(time.time()), [str(16100 + number) for number in range(50)]
    api.put(feed(now - 60, *map(station, codes)))
    pipeline.publish_once()
    assert [station["stationCode"] for station in pipeline.published()[now - 60]] == codes
    api.put(feed(now, station(name=random.Random(1).randbytes(2000).hex())))
    assert _refusal(pipeline.start("kafka_project.py", "--once")) == (
        f"Kafka at {pipeline.settings.kafka.bootstrap_servers} refused:"
        " a record is larger than the topic's max.message.bytes: raise that limit"
    )
    assert pipeline.published().keys() == {now - 60}


def test_brokers_missing_for_replicas_are_waited_for_and_too_short_transactions_are_refused(
    pipeline: Pipeline,
) -> None:
    pipeline.use(f"localhost:{free_port()}")
    pipeline.serve_api().put(feed(int(time.time()), station()))
    kafka = pipeline.start_broker("--override", "default.replication.factor=3")
    producer = pipeline.start("kafka_project.py")
    producer.wait_for("replication factor of 3 cannot be reached because only 1 broker(s) are")
    kafka.stop()
    pipeline.start_broker("--override", "transaction.max.timeout.ms=10000")
    assert _refusal(producer) == (
        f"Kafka at {pipeline.settings.kafka.bootstrap_servers} refused: its"
        " transaction.max.timeout.ms is below the 20000 ms that a transaction of kafka_project.py"
        " may take: raise it"
    )


def test_the_job_says_that_the_feed_has_changed_format(pipeline: Pipeline, run_job: RunJob) -> None:
    pipeline.serve_api().put(feed(int(time.time()), station("A1"), station("A2")))
    pipeline.publish_once()
    job_log = run_job()
    assert "2 dead letters, most of them: stationCode without a postal code" in job_log
    assert "Nothing could be counted: has the feed changed format?" in job_log
