"""How the settings reach both clients of Kafka."""

import os
import socket
import threading
from pathlib import Path
from threading import Event

import certifi
import psutil
import pytest
from kafka.errors import KafkaError

import config
from tests.certificates import make_certificate
from velib.kafka import clients


@pytest.fixture
def sasl(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """The settings of a user of a secure Kafka; a test may set others."""
    Path("ca.pem").write_text(Path(certifi.where()).read_text())
    for name, value in {
        "KAFKA_BOOTSTRAP_SERVERS": "one:9092,two:9093",
        "KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
        "KAFKA_SASL_MECHANISM": "SCRAM-SHA-512",
        "KAFKA_SASL_USERNAME": "job",
        "KAFKA_SASL_PASSWORD": "word",
        "KAFKA_SSL_CAFILE": "ca.pem",
    }.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


@pytest.mark.usefixtures("sasl")
def test_both_clients_get_the_same_settings() -> None:
    for_python = clients.kafka_python_options(config.load())
    for_spark = clients.spark_options(config.load())
    assert for_python["bootstrap_servers"] == ["one:9092", "two:9093"]
    assert for_spark["kafka.bootstrap.servers"] == "one:9092,two:9093"
    assert for_python["security_protocol"] == for_spark["kafka.security.protocol"] == "SASL_SSL"
    assert for_python["sasl_mechanism"] == for_spark["kafka.sasl.mechanism"] == "SCRAM-SHA-512"
    assert for_python["ssl_cafile"] == for_spark["kafka.ssl.truststore.location"] == "ca.pem"
    assert for_spark["kafka.ssl.truststore.type"] == "PEM"


def test_both_clients_get_the_certificate_and_its_key(sasl: pytest.MonkeyPatch) -> None:
    certificate, key = make_certificate(Path(), "mine")
    sasl.setenv("KAFKA_SSL_CERTFILE", str(certificate))
    sasl.setenv("KAFKA_SSL_KEYFILE", str(key))
    for_python = clients.kafka_python_options(config.load())
    for_spark = clients.spark_options(config.load())
    assert (for_python["ssl_certfile"], for_python["ssl_keyfile"]) == ("mine.pem", "mine.key")
    assert for_spark["kafka.ssl.keystore.type"] == "PEM"
    assert for_spark["kafka.ssl.keystore.certificate.chain"] == certificate.read_text()
    assert for_spark["kafka.ssl.keystore.key"] == key.read_text()


@pytest.mark.parametrize(
    ("mechanism", "module"),
    [
        ("PLAIN", "plain.PlainLoginModule"),
        ("SCRAM-SHA-256", "scram.ScramLoginModule"),
        ("SCRAM-SHA-512", "scram.ScramLoginModule"),
    ],
)
def test_spark_gets_the_login_module_of_the_mechanism(
    sasl: pytest.MonkeyPatch, mechanism: str, module: str
) -> None:
    sasl.setenv("KAFKA_SASL_MECHANISM", mechanism)
    assert clients.spark_options(config.load())["kafka.sasl.jaas.config"] == (
        f'org.apache.kafka.common.security.{module} required username="job" password="word";'
    )


@pytest.mark.parametrize(
    ("text", "as_java_reads_it"),
    [
        ("plain", '"plain"'),
        ('say "hi"', r'"say \"hi\""'),
        (r"C:\new", r'"C:\\new"'),
        ('\\"', r'"\\\""'),
        ("it's; é €", '"it\'s; é €"'),
    ],
)
def test_user_names_and_passwords_of_any_characters_reach_spark(
    sasl: pytest.MonkeyPatch, text: str, as_java_reads_it: str
) -> None:
    sasl.setenv("KAFKA_SASL_USERNAME", text)
    sasl.setenv("KAFKA_SASL_PASSWORD", text)
    jaas = clients.spark_options(config.load())["kafka.sasl.jaas.config"]
    assert jaas.endswith(f" username={as_java_reads_it} password={as_java_reads_it};")


def test_without_security_neither_user_nor_certificate_is_used(sasl: pytest.MonkeyPatch) -> None:
    sasl.setenv("KAFKA_SECURITY_PROTOCOL", "PLAINTEXT")
    sasl.delenv("KAFKA_SSL_CAFILE")
    settings = config.load()
    options = clients.kafka_python_options(settings) | clients.spark_options(settings)
    assert not [name for name in options if "sasl" in name or "ssl" in name]


def test_a_client_that_cannot_connect_leaves_no_thread_and_no_socket(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with socket.create_server(("localhost", 0)) as silent:
        monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", f"localhost:{silent.getsockname()[1]}")
        threads, descriptors = threading.active_count(), psutil.Process(os.getpid()).num_fds()
        for client in (clients.Admin, clients.Consumer):
            with pytest.raises(KafkaError):
                client(config.load(), bootstrap_timeout_ms=200)
        assert threading.active_count() == threads
        assert psutil.Process(os.getpid()).num_fds() == descriptors


@pytest.mark.parametrize(
    ("server", "is_refused"), [("localhost:1", True), ("kafka.invalid:9092", False)]
)
def test_a_wrong_name_is_not_said_to_be_a_kafka_that_is_not_started(
    server: str,
    is_refused: bool,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", server)
    with caplog.at_level("INFO", "velib"):
        assert not clients.when_reachable(config.load(), lambda _: None, Event(), timeout=2)
    (line,) = caplog.messages
    assert line.startswith(f"Waiting for Kafka at {server} (")
    assert ("nothing is listening there" in line) == is_refused
