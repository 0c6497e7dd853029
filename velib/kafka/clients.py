"""How the scripts reach Kafka: settings for kafka-python and Spark, waiting, failures in words."""

import logging
import re
import socket
import time
from collections.abc import Callable
from threading import Event
from typing import Any

from kafka import KafkaAdminClient, KafkaConsumer
from kafka.errors import KafkaError, UnknownBrokerIdError

from config import Settings
from velib.errors import Failure
from velib.runtime import log

FIRST_RETRY, MAX_RETRY = 0.25, 1.0  # seconds between two attempts to reach Kafka
QUIET_START = 1.0  # seconds: a broker that is just starting is not worth a log line
ADDRESS_TIMEOUT = 5.0  # seconds that the addresses of Kafka's brokers have to become reachable
NOTHING_LISTENS = "nothing listens there: `python -m local.broker` starts one here"

BOOTSTRAP_ERRORS = {
    "SaslAuthenticationFailed": (
        "does not know this KAFKA_SASL_USERNAME with this KAFKA_SASL_PASSWORD"
    ),
    "UnsupportedSaslMechanism": "does not offer this KAFKA_SASL_MECHANISM",
    "certificate has expired": (
        "has a certificate that has expired, or this machine's clock is wrong"
    ),
    "certificate is not yet valid": (
        "has a certificate that is not valid yet, or this machine's clock is wrong"
    ),
    "certificate is not valid for '(.*?)'": (
        "has a certificate that is not for the name {0}: name it as its certificate does"
    ),
    "CERTIFICATE_VERIFY_FAILED": (
        "has a certificate that is not signed by those of KAFKA_SSL_CAFILE"
    ),
    "WRONG_VERSION_NUMBER": "does not speak TLS: correct KAFKA_SECURITY_PROTOCOL",
    "ALERT_(BAD_CERTIFICATE|CERTIFICATE|UNKNOWN_CA|HANDSHAKE_FAILURE)": (
        "asks for a certificate of this client:"
        " set KAFKA_SSL_CERTFILE and KAFKA_SSL_KEYFILE to one that it trusts"
    ),
    "Invalid frame length": "does not speak this KAFKA_SECURITY_PROTOCOL",
}
"""What kafka-python logs when waiting does not help (a regular expression), and what that means.

The first match counts."""

FINAL_ERRORS = {
    "InvalidTransactionTimeout": (
        "its transaction.max.timeout.ms is below the 20000 ms that a transaction of"
        " kafka_project.py may take: raise it"
    ),
    "(MessageSize|RecordList|Record)TooLarge": (
        "a record is larger than max.message.bytes of the topic allows: raise it"
    ),
    "Authorization|SaslAuthenticationFailed|UnsupportedSaslMechanism|SecurityDisabled": None,
    "PolicyViolation|InvalidConfig|InvalidTopic|InvalidPartitions|InvalidReplicationFactor": None,
    "InvalidRecord|InvalidTimestamp|UnsupportedForMessageFormat|UnsupportedCompression": None,
    "UnsupportedVersion|IncompatibleBroker": None,
}
"""The errors of Kafka that do not pass, by the beginning of their names, and what is wrong.

Without a cause the text of the error tells it. Many others that Kafka calls final do pass: another
producer, or another query, goes on where one had to end.
"""


def kafka_python_options(settings: Settings) -> dict[str, Any]:
    """The keyword arguments with which the clients of kafka-python reach Kafka."""
    options: dict[str, Any] = {
        "bootstrap_servers": settings.bootstrap_servers.split(","),
        "security_protocol": settings.security_protocol,
        "bootstrap_timeout_ms": 5_000,
        "reconnect_backoff_max_ms": 2_000,
    }
    if settings.sasl_password and settings.security_protocol.startswith("SASL_"):
        options |= {
            "sasl_mechanism": settings.sasl_mechanism,
            "sasl_plain_username": settings.sasl_username,
            "sasl_plain_password": settings.sasl_password.get_secret_value(),
        }
    if settings.ssl_cafile:
        options["ssl_cafile"] = str(settings.ssl_cafile)
    if settings.ssl_certfile:
        options["ssl_certfile"] = str(settings.ssl_certfile)
        options["ssl_keyfile"] = str(settings.ssl_keyfile)
    return options


def spark_options(settings: Settings) -> dict[str, str]:
    """The options with which Spark's Kafka source and sink reach Kafka."""
    options = {
        "kafka.bootstrap.servers": settings.bootstrap_servers,
        "kafka.security.protocol": settings.security_protocol,
    }
    if settings.sasl_password and settings.security_protocol.startswith("SASL_"):
        is_plain = settings.sasl_mechanism == "PLAIN"
        module = "plain.PlainLoginModule" if is_plain else "scram.ScramLoginModule"
        username = _jaas_string(settings.sasl_username or "")
        password = _jaas_string(settings.sasl_password.get_secret_value())
        options |= {
            "kafka.sasl.mechanism": str(settings.sasl_mechanism),
            "kafka.sasl.jaas.config": f"org.apache.kafka.common.security.{module} required"
            f" username={username} password={password};",
        }
    if settings.ssl_cafile:
        options |= {
            "kafka.ssl.truststore.type": "PEM",
            "kafka.ssl.truststore.location": str(settings.ssl_cafile),
        }
    if settings.ssl_certfile and settings.ssl_keyfile:
        # Java takes a file that has both, or the two texts.
        options |= {
            "kafka.ssl.keystore.type": "PEM",
            "kafka.ssl.keystore.certificate.chain": settings.ssl_certfile.read_text(),
            "kafka.ssl.keystore.key": settings.ssl_keyfile.read_text(),
        }
    return options


def _jaas_string(text: str) -> str:
    """The text in quotes, as Java's JAAS configuration reads it."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def committed_consumer(settings: Settings) -> KafkaConsumer:
    """A consumer of committed records, in no group; the caller assigns its partitions."""
    return KafkaConsumer(
        **kafka_python_options(settings),
        isolation_level="read_committed",
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        allow_auto_create_topics=False,  # a reader creates nothing
        max_poll_records=5_000,
    )


def when_reachable(
    settings: Settings,
    do: Callable[[KafkaAdminClient], None],
    stop: Event,
    timeout: float = float("inf"),
) -> bool:
    """Wait until Kafka answers, then call `do`.

    False if that took `timeout` seconds or `stop` was set before. Raises Failure if Kafka refuses.
    """
    started = time.monotonic()
    retry, is_waiting = FIRST_RETRY, False
    while (reason := _try(settings, do)) is not None:
        waited = time.monotonic() - started
        if not is_waiting and waited > QUIET_START:
            is_waiting = True
            log.info("Waiting for Kafka at %s (%s)", settings.bootstrap_servers, reason)
        if waited + retry > timeout or stop.wait(retry):
            return False
        retry = min(retry * 2, MAX_RETRY)
    if is_waiting:
        log.info("Kafka answers after %.0f s", time.monotonic() - started)
    return True


def _try(settings: Settings, do: Callable[[KafkaAdminClient], None]) -> str | None:
    """Call `do`; returns why that has to be tried again, None if it went well."""
    if not is_reachable(settings):
        return NOTHING_LISTENS
    with BootstrapLog() as bootstrap:
        try:
            # A refused password often shows as a closed connection only. With a short backoff the
            # client asks often enough to hear the reason.
            options = kafka_python_options(settings) | {"reconnect_backoff_max_ms": 100}
            with KafkaAdminClient(**options) as admin:
                _check_addresses(settings, admin)
                do(admin)
        except KafkaError as error:
            if (cause := bootstrap.permanent_cause()) is not None:
                raise Failure(f"Kafka at {settings.bootstrap_servers} {cause}") from None
            if not is_transient(error):
                raise Failure(refusal_message(settings, error)) from None
            return str(error) or type(error).__name__
    return None


def _check_addresses(settings: Settings, admin: KafkaAdminClient) -> None:
    """Raise Failure if Kafka gives addresses of its brokers none of which can be reached from here.

    The broker that has answered is one of them, so it is not that all are away. Waiting would not
    help: a broker has to be started anew with other addresses, or this machine needs other names.
    """
    addresses = [f"{broker.host}:{broker.port}" for broker in admin._manager.cluster.brokers()]
    deadline = time.monotonic() + ADDRESS_TIMEOUT
    while not any(listens(address) for address in addresses):
        if time.monotonic() > deadline:
            raise Failure(
                f"Kafka was reached at {settings.bootstrap_servers}, but says that it lives at"
                f" {', '.join(addresses)}, which cannot be reached from here:"
                " correct advertised.listeners of that Kafka"
            )
        time.sleep(MAX_RETRY)


class BootstrapLog(logging.Handler):
    """Collects why kafka-python could not connect: only its log says that, its error does not."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []
        self.logger = logging.getLogger("kafka.net.manager")

    def __enter__(self) -> "BootstrapLog":
        self.logger.setLevel(logging.WARNING)
        self.logger.propagate = False
        self.logger.addHandler(self)
        return self

    def __exit__(self, *exception: object) -> None:
        self.logger.removeHandler(self)
        self.logger.propagate = True
        self.logger.setLevel(logging.NOTSET)

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())

    def permanent_cause(self) -> str | None:
        """What is wrong if waiting does not help, as the end of "Kafka at … …"; else None."""
        text = "\n".join(self.lines)
        for sign, cause in BOOTSTRAP_ERRORS.items():
            if match := re.search(sign, text):
                return cause.format(*match.groups())
        return None


def is_transient(error: KafkaError) -> bool:
    """Whether the same request may succeed later.

    Kafka calls the error of a broker that has just died, which the others do not know for a while,
    final.
    """
    return error.retriable or isinstance(error, UnknownBrokerIdError)


def final_cause(error: Exception) -> str | None:
    """What is wrong if Kafka would refuse the same again, also after a reconnect; else None.

    kafka-python wraps many errors, and Spark gives those of Java: their names are in the text.
    """
    text = f"{type(error).__name__}: {error}"
    for sign, cause in FINAL_ERRORS.items():
        if re.search(rf"({sign})\w*(Error|Exception|Version)\b", text):
            return cause or str(error)
    return None


def refusal_message(settings: Settings, error: KafkaError | str) -> str:
    """The line for an error that is not transient."""
    user = f" the user {settings.sasl_username}" if settings.sasl_username else ""
    cause = error if isinstance(error, str) else final_cause(error) or error
    return f"Kafka at {settings.bootstrap_servers} refused{user}: {cause}"


def no_answer_message(settings: Settings) -> str:
    """The line for a Kafka that does not answer any more."""
    return f"Kafka at {settings.bootstrap_servers} does not answer: waiting for it"


def is_reachable(settings: Settings) -> bool:
    """Whether something listens at one of Kafka's addresses."""
    return any(listens(server) for server in settings.bootstrap_servers.split(","))


def listens(server: str) -> bool:
    """Whether something accepts connections at `host:port`."""
    host, _, port = server.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=3).close()
    except OSError:
        return False
    return True
