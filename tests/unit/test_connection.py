"""How the settings reach both clients of Kafka, and Kafka's refusals in words, without Kafka."""

import logging
from pathlib import Path

import certifi
import pytest
from kafka.errors import (
    IncompatibleBrokerVersion,
    KafkaError,
    KafkaTimeoutError,
    MessageSizeTooLargeError,
    NotEnoughReplicasError,
    NotLeaderForPartitionError,
    PolicyViolationError,
    SaslAuthenticationFailedError,
    TopicAuthorizationFailedError,
    UnknownBrokerIdError,
    UnknownProducerIdError,
)

import config
from tests.certificates import make_certificate
from velib.kafka import clients
from velib.kafka.clients import BootstrapLog
from velib.producer.publisher import TRANSACTION_TIMEOUT


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


def test_without_security_no_user_and_no_certificate_is_given(sasl: pytest.MonkeyPatch) -> None:
    sasl.setenv("KAFKA_SECURITY_PROTOCOL", "PLAINTEXT")
    sasl.delenv("KAFKA_SSL_CAFILE")
    settings = config.load()
    options = clients.kafka_python_options(settings) | clients.spark_options(settings)
    assert not [name for name in options if "sasl" in name or "ssl" in name]


@pytest.mark.parametrize(
    ("line", "cause"),
    [
        (
            "Bootstrap attempt to bootstrap-0 failed: [Error 58] SaslAuthenticationFailedError:"
            " Authentication failed due to invalid credentials (backoff 0.10 secs)",
            "does not know this KAFKA_SASL_USERNAME with this KAFKA_SASL_PASSWORD",
        ),
        (
            "Bootstrap connection to bootstrap-0 failed: [Error 33] UnsupportedSaslMechanismError",
            "does not offer this KAFKA_SASL_MECHANISM",
        ),
        (
            "Bootstrap connection to bootstrap-0 failed: [SSL: CERTIFICATE_VERIFY_FAILED]"
            " certificate verify failed: self-signed certificate in certificate chain",
            "has a certificate that is not signed by those of KAFKA_SSL_CAFILE",
        ),
        (
            "Bootstrap connection to bootstrap-0 failed: [SSL: CERTIFICATE_VERIFY_FAILED]"
            " certificate verify failed: certificate has expired (_ssl.c:1016)",
            "has a certificate that has expired, or this machine's clock is wrong",
        ),
        (
            "Bootstrap connection to bootstrap-0 failed: [SSL: CERTIFICATE_VERIFY_FAILED]"
            " certificate verify failed: IP address mismatch, certificate is not valid for"
            " '127.0.0.1'. (_ssl.c:1016)",
            "has a certificate that is not for the name 127.0.0.1: name it as its certificate does",
        ),
        (
            "Bootstrap connection to bootstrap-0 failed: [SSL: WRONG_VERSION_NUMBER] wrong version",
            "does not speak TLS: correct KAFKA_SECURITY_PROTOCOL",
        ),
        ("Bootstrap connection to bootstrap-0 failed: [Errno 111] Connection refused", None),
    ],
)
def test_a_cause_that_waiting_does_not_mend_names_the_setting(line: str, cause: str | None) -> None:
    logger = logging.getLogger("kafka.net.manager")
    with BootstrapLog() as bootstrap:
        assert bootstrap.permanent_cause() is None
        logger.warning(line)
    assert bootstrap.permanent_cause() == cause
    logger.warning("[SSL: CERTIFICATE_VERIFY_FAILED] of another connection")
    assert bootstrap.permanent_cause() == cause


@pytest.mark.parametrize(
    ("error", "is_transient"),
    [
        (KafkaTimeoutError(), True),
        (NotLeaderForPartitionError(), True),
        (UnknownBrokerIdError(), True),
        (TopicAuthorizationFailedError(), False),
        (SaslAuthenticationFailedError(), False),
    ],
)
def test_a_broker_that_is_away_is_waited_for_and_a_refusal_is_not(
    error: Exception, is_transient: bool
) -> None:
    assert clients.is_transient(error) == is_transient


def test_a_refusal_names_the_kafka_and_the_user(sasl: pytest.MonkeyPatch) -> None:
    message = clients.refusal_message(config.load(), "no right")
    assert message == "Kafka at one:9092,two:9093 refused the user job: no right"
    sasl.setenv("KAFKA_SECURITY_PROTOCOL", "PLAINTEXT")
    sasl.delenv("KAFKA_SASL_USERNAME")
    message = clients.refusal_message(config.load(), "no right")
    assert message == "Kafka at one:9092,two:9093 refused: no right"


def test_a_kafka_that_does_not_answer_is_named() -> None:
    message = clients.no_answer_message(config.load())
    assert message == "Kafka at localhost:9092 does not answer: waiting for it"


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (
            KafkaError(
                "Unexpected error in InitProducerIdResponse: InvalidTransactionTimeoutError"
            ),
            f"its transaction.max.timeout.ms is below the {TRANSACTION_TIMEOUT * 1000} ms that a"
            " transaction of kafka_project.py may take: raise it",
        ),
        (
            MessageSizeTooLargeError(),
            "a record is larger than max.message.bytes of the topic allows: raise it",
        ),
        (
            Exception("Job aborted: org.apache.kafka.common.errors.RecordTooLargeException: large"),
            "a record is larger than max.message.bytes of the topic allows: raise it",
        ),
        (
            PolicyViolationError("three replicas at least"),
            "[Error 44] PolicyViolationError: three replicas at least",
        ),
        (
            TopicAuthorizationFailedError("velib-projet"),
            "[Error 29] TopicAuthorizationFailedError: velib-projet",
        ),
        (IncompatibleBrokerVersion("too old"), "[Error 35] IncompatibleBrokerVersion: too old"),
        (KafkaTimeoutError("no answer for 20 s"), None),
        (NotEnoughReplicasError(), None),
        (UnknownProducerIdError(), None),
        (KafkaError("Unexpected error in InitProducerIdResponse: NotCoordinatorError"), None),
    ],
)
def test_an_error_that_does_not_pass_tells_what_is_wrong(
    error: Exception, cause: str | None
) -> None:
    assert clients.final_cause(error) == cause
