"""How the errors of Kafka, Spark and Java are described to a user, and which are retried."""

import pytest
from kafka.errors import (
    IncompatibleBrokerVersion,
    InvalidTimestampError,
    KafkaError,
    KafkaTimeoutError,
    MessageSizeTooLargeError,
    NotEnoughReplicasError,
    NotLeaderForPartitionError,
    PolicyViolationError,
    ProducerFencedError,
    TopicAuthorizationFailedError,
    UnknownBrokerIdError,
    UnsupportedCodecError,
)
from py4j.protocol import Py4JNetworkError

import config
from velib.errors import cause, describe, is_known, is_retriable
from velib.producer.publisher import TRANSACTION_TIMEOUT

BOOTSTRAP = "Bootstrap connection to bootstrap-0 failed: "
UNVERIFIED = f"{BOOTSTRAP}[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: "
CLOCK = "or this machine's clock is wrong"
QUERY = "org.apache.spark.sql.streaming.StreamingQueryException: [STREAM_FAILED] Query [id = 98ca]"
"""How the stack trace of a query that has failed begins."""


def _failed_query(cause: str) -> str:
    return (
        f"{QUERY} terminated with exception: Job aborted. SQLSTATE: XXKST\n"
        "=== Streaming Query ===\nIdentifier: [id = 98ca]\n"
        "\tat org.apache.kafka.common.errors.TimeoutException.<init>(TimeoutException.java:1)\n"
        "Caused by: org.apache.spark.SparkException: Job aborted. SQLSTATE: XXKST\n"
        "\tat org.apache.spark.errors.QueryExecutionErrors$.abort(QueryExecutionErrors.scala:1)\n"
        f"Caused by: {cause}\n\t... 30 more\n"
    )


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (
            f"{BOOTSTRAP}[Error 58] SaslAuthenticationFailedError: Authentication failed",
            "{kafka} does not know this KAFKA_SASL_USERNAME with this KAFKA_SASL_PASSWORD",
        ),
        (
            _failed_query("org.apache.kafka.common.errors.SaslAuthenticationException: invalid"),
            "{kafka} does not know this KAFKA_SASL_USERNAME with this KAFKA_SASL_PASSWORD",
        ),
        (
            f"{BOOTSTRAP}[Error 33] UnsupportedSaslMechanismError",
            "{kafka} does not offer this KAFKA_SASL_MECHANISM",
        ),
        (
            f"{UNVERIFIED}self-signed certificate in certificate chain",
            "{kafka} has a certificate that is not signed by a CA in KAFKA_SSL_CAFILE",
        ),
        (
            f"{UNVERIFIED}certificate has expired (_ssl.c:1016)",
            f"{{kafka}} has a certificate that has expired, {CLOCK}",
        ),
        (
            f"{UNVERIFIED}certificate is not yet valid (_ssl.c:1016)",
            f"{{kafka}} has a certificate that is not valid yet, {CLOCK}",
        ),
        (
            f"{UNVERIFIED}IP address mismatch, certificate is not valid for '127.0.0.1'.",
            "{kafka} has a certificate that is not for the name 127.0.0.1: use the name in the"
            " certificate",
        ),
        (
            f"{BOOTSTRAP}[SSL: WRONG_VERSION_NUMBER] wrong version",
            "{kafka} does not speak TLS: correct KAFKA_SECURITY_PROTOCOL",
        ),
        (
            KafkaError(
                "Unexpected error in InitProducerIdResponse: InvalidTransactionTimeoutError"
            ),
            f"{{kafka}} refused: its transaction.max.timeout.ms is below the"
            f" {TRANSACTION_TIMEOUT * 1000} ms that a transaction of kafka_project.py may take:"
            " raise it",
        ),
        (
            MessageSizeTooLargeError(),
            "{kafka} refused: a record is larger than the topic's max.message.bytes:"
            " raise that limit",
        ),
        (
            _failed_query("org.apache.kafka.common.errors.RecordTooLargeException: 2000 bytes"),
            "{kafka} refused: a record is larger than the topic's max.message.bytes:"
            " raise that limit",
        ),
        (
            TopicAuthorizationFailedError("velib-projet"),
            "{kafka} refused: TopicAuthorizationFailedError: velib-projet",
        ),
        (
            _failed_query(
                "org.apache.kafka.common.errors.TopicAuthorizationException:"
                " Not authorized to access topics: [velib-projet]"
            ),
            "{kafka} refused: Not authorized to access topics: [velib-projet]",
        ),
        (
            PolicyViolationError("three replicas at least"),
            "{kafka} refused: PolicyViolationError: three replicas at least",
        ),
        (
            IncompatibleBrokerVersion("too old"),
            "{kafka} refused: IncompatibleBrokerVersion: too old",
        ),
        (
            UnsupportedCodecError("Libraries for zstd compression codec not found"),
            "{kafka} refused: UnsupportedCodecError: Libraries for zstd compression codec not"
            " found",
        ),
        (
            _failed_query("java.lang.IllegalStateException: Partition 0's offset was changed"),
            "The checkpoint .velib/checkpoint does not fit the topic velib-projet: the job has"
            " changed, or the topic was recreated or has lost records that were not read yet."
            " To start over from the topic's earliest record, type:"
            " python spark.py --reset-checkpoint",
        ),
        (
            "An error occurred while calling o72.create.\n"
            ": java.io.IOException: Mkdirs failed to create /proc/velib\n\tat org.apache.hadoop.X",
            "The checkpoint .velib/checkpoint cannot be written: IOException: Mkdirs failed to"
            " create /proc/velib",
        ),
        (
            _failed_query("java.io.FileNotFoundException: /srv/.14.tmp (Permission denied)"),
            "The checkpoint .velib/checkpoint cannot be written: FileNotFoundException:"
            " /srv/.14.tmp (Permission denied)",
        ),
        (
            Py4JNetworkError("Answer from Java side is empty"),
            "Spark's Java process has ended: see .velib/logs/spark-jvm.log",
        ),
        (
            ConnectionRefusedError(111, "Connection refused"),
            "Spark's Java process has ended: see .velib/logs/spark-jvm.log",
        ),
    ],
)
def test_an_error_that_a_retry_does_not_fix_says_what_is_wrong(
    error: Exception | str, line: str
) -> None:
    assert describe(error, config.load()) == line.replace("{kafka}", "Kafka at localhost:9092")
    assert not is_retriable(error)


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (KafkaTimeoutError("no answer for 20 s"), "Kafka at localhost:9092 does not answer"),
        (
            _failed_query("org.apache.kafka.common.errors.TimeoutException: listNodes"),
            "Kafka at localhost:9092 does not answer",
        ),
        (
            _failed_query("java.io.IOException: No space left on device"),
            "The disk of .velib/checkpoint or of Spark's temporary files (/tmp or SPARK_LOCAL_DIRS)"
            " is full: make room",
        ),
    ],
)
def test_an_error_that_a_retry_may_fix_says_what_is_awaited(
    error: Exception | str, line: str
) -> None:
    assert describe(error, config.load()) == line
    assert is_retriable(error)
    assert is_known(error)


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (NotLeaderForPartitionError(), "NotLeaderForPartitionError"),
        (NotEnoughReplicasError(), "NotEnoughReplicasError"),
        (UnknownBrokerIdError("3"), "UnknownBrokerIdError: 3"),
        (ProducerFencedError(), "ProducerFencedError"),
        (
            KafkaError("Unexpected error: NotCoordinatorError"),
            "KafkaError: Unexpected error: NotCoordinatorError",
        ),
        (
            f"{BOOTSTRAP}[Errno 111] Connection refused",
            f"{BOOTSTRAP}[Errno 111] Connection refused",
        ),
        (_failed_query("java.lang.IllegalStateException: odd"), "IllegalStateException: odd"),
        (_failed_query("X: [STATE_STORE_INVALID_STAMP] Old"), "X: [STATE_STORE_INVALID_STAMP] Old"),
        (InvalidTimestampError("too far ahead"), "InvalidTimestampError: too far ahead"),
        (
            "An error occurred while calling o72.exists.\n"
            ": java.net.ConnectException: Call From vm failed\n\tat sun.nio.ch.Net\n",
            "ConnectException: Call From vm failed",
        ),
    ],
)
def test_an_error_that_is_not_known_is_retried_and_says_its_own_cause(
    error: Exception | str, line: str
) -> None:
    assert (
        describe(error, config.load(), unknown="Spark stopped: {error}") == f"Spark stopped: {line}"
    )
    assert is_retriable(error)
    assert not is_known(error)


def test_a_refusal_names_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAFKA_SASL_USERNAME", "job")
    line = describe(TopicAuthorizationFailedError("velib-projet"), config.load())
    assert line.startswith("Kafka at localhost:9092 refused the user job: Topic")


@pytest.mark.parametrize(
    ("log", "line"),
    [
        (
            "Picked up JAVA_TOOL_OPTIONS: -Xmx1z\nInvalid maximum heap size: -Xmx1z\n"
            "Error: Could not create the Java Virtual Machine.\n",
            "Invalid maximum heap size: -Xmx1z",
        ),
        (
            "WARNING: Using incubator modules: jdk.incubator.vector\n"
            'Exception in thread "main" java.io.IOException: Invalid UID, could not determine\n'
            "\tat org.apache.hadoop.security.UserGroupInformation.doSubjectLogin\n",
            "IOException: Invalid UID, could not determine",
        ),
        (
            "26/11/26 20:38:58 ERROR JavaUtils: Failed to create directory /proc/x/blockmgr\n",
            "Failed to create directory /proc/x/blockmgr",
        ),
        (
            ":::: WARNINGS\n\t\tmodule not found: org.apache.kafka#kafka_2.13;4.4.0\n:::: ERRORS\n"
            "\tServer access error at url https://host/x.pom (java.io.IOException: No way)\n",
            "IOException: No way",
        ),
        (
            ":::: WARNINGS\n\tHost proxy.corp not found. url=https://host/x.pom\n",
            "Host proxy.corp not found",
        ),
        (f"{'x' * 500}: the end", f"{'x' * 125} … {'x' * 116}: the end"),
        ("", "no reason is given"),
    ],
)
def test_the_log_of_a_java_that_has_ended_says_why(log: str, line: str) -> None:
    assert cause(log) == line
