"""How the scripts reach Kafka: settings for kafka-python and Spark, waiting, failures in words."""

import logging
import socket
import time
from collections.abc import Callable
from typing import Any

from kafka import KafkaAdminClient, KafkaConsumer
from kafka.errors import KafkaError, UnknownBrokerIdError

from config import Settings
from velib.cli import log
from velib.errors import Failure

FIRST_RETRY, MAX_RETRY = 0.25, 1.0  # seconds between two attempts to reach Kafka
QUIET_START = 1.0  # seconds: a broker that is just starting is not worth a log line

BOOTSTRAP_ERRORS = {
    "SaslAuthenticationFailed": (
        "does not know this KAFKA_SASL_USERNAME with this KAFKA_SASL_PASSWORD"
    ),
    "UnsupportedSaslMechanism": "does not offer this KAFKA_SASL_MECHANISM",
    "CERTIFICATE_VERIFY_FAILED": (
        "has a certificate that is not signed by those of KAFKA_SSL_CAFILE"
    ),
    "WRONG_VERSION_NUMBER": "does not speak TLS: correct KAFKA_SECURITY_PROTOCOL",
    "Invalid frame length": "does not speak this KAFKA_SECURITY_PROTOCOL",
}
"""What kafka-python logs when waiting does not help, and what to say about it."""


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
        max_poll_records=5_000,
    )


def when_reachable(
    settings: Settings, do: Callable[[KafkaAdminClient], None], timeout: float = float("inf")
) -> bool:
    """Wait until Kafka answers, then call `do`; False if that took `timeout` seconds.

    Raises Failure when Kafka refuses in a way that waiting does not mend.
    """
    started = time.monotonic()
    retry, is_waiting = FIRST_RETRY, False
    while (reason := _try(settings, do)) is not None:
        waited = time.monotonic() - started
        if not is_waiting and waited > QUIET_START:
            is_waiting = True
            log.info(
                "Waiting for Kafka at %s (%s). `python -m local.broker` starts one here",
                settings.bootstrap_servers,
                reason,
            )
        if waited + retry > timeout:
            return False
        time.sleep(retry)
        retry = min(retry * 2, MAX_RETRY)
    if is_waiting:
        log.info("Kafka answers after %.0f s", time.monotonic() - started)
    return True


def _try(settings: Settings, do: Callable[[KafkaAdminClient], None]) -> str | None:
    """Call `do`; returns why that has to be tried again, None if it went well."""
    if not is_reachable(settings):
        return "nothing listens there"
    with BootstrapLog() as bootstrap:
        try:
            # A refused password often shows as a closed connection only. With a short backoff the
            # client asks often enough to hear the reason.
            options = kafka_python_options(settings) | {"reconnect_backoff_max_ms": 100}
            with KafkaAdminClient(**options) as admin:
                do(admin)
        except KafkaError as error:
            if (cause := bootstrap.permanent_cause()) is not None:
                raise Failure(f"Kafka at {settings.bootstrap_servers} {cause}") from None
            if not is_transient(error):
                raise Failure(refusal_message(settings, error)) from None
            return str(error) or type(error).__name__
    return None


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
        for sign, cause in BOOTSTRAP_ERRORS.items():
            if any(sign in line for line in self.lines):
                return cause
        return None


def is_transient(error: KafkaError) -> bool:
    """Whether the same request may succeed later.

    Kafka calls the error of a broker that has just died, which the others do not know for a while,
    final.
    """
    return error.retriable or isinstance(error, UnknownBrokerIdError)


def refusal_message(settings: Settings, error: KafkaError | str) -> str:
    """The line for an error that is not transient."""
    user = f" the user {settings.sasl_username}" if settings.sasl_username else ""
    return f"Kafka at {settings.bootstrap_servers} refused{user}: {error}"


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
