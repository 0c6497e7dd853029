"""How the scripts reach Kafka: options for kafka-python and Spark, and waiting until it answers."""

import logging
import socket
import time
from collections.abc import Callable
from threading import Event
from typing import Any

from kafka import KafkaAdminClient, KafkaConsumer
from kafka.errors import KafkaError

from config import Settings
from velib.errors import Failure, cause, describe, is_retriable
from velib.java import quoted
from velib.runtime import backoff, log

FIRST_RETRY, MAX_RETRY = 0.25, 1.0  # seconds between two attempts to reach Kafka
QUIET_START = 1.0  # seconds: a broker that is just starting is not worth a log line
ADDRESS_TIMEOUT = 5.0  # seconds to wait until an advertised address of a broker can be reached
NOTHING_LISTENS = (
    "nothing is listening there; `python -m local.broker` starts a Kafka on this machine"
)


class _Client:
    """A client of kafka-python. If it cannot connect, it leaves no thread and no socket behind."""

    _client: Any

    def __init__(self, settings: Settings, **options: Any) -> None:
        try:
            super().__init__(**kafka_python_options(settings) | options)
        except KafkaError:
            self._client.close()
            raise


class Admin(_Client, KafkaAdminClient):  # type: ignore[misc]
    """An admin client with these settings; raises KafkaError if it cannot connect."""


class Consumer(_Client, KafkaConsumer):  # type: ignore[misc]
    """A consumer with these settings; raises KafkaError if it cannot connect."""


def kafka_python_options(settings: Settings) -> dict[str, Any]:
    """The keyword arguments with which the clients of kafka-python reach Kafka."""
    kafka = settings.kafka
    options: dict[str, Any] = {
        "bootstrap_servers": kafka.bootstrap_servers.split(","),
        "security_protocol": kafka.security_protocol,
        "bootstrap_timeout_ms": 5_000,
        "reconnect_backoff_max_ms": 2_000,
    }
    if kafka.sasl_password and kafka.security_protocol.startswith("SASL_"):
        options |= {
            "sasl_mechanism": kafka.sasl_mechanism,
            "sasl_plain_username": kafka.sasl_username,
            "sasl_plain_password": kafka.sasl_password.get_secret_value(),
        }
    if kafka.ssl_cafile:
        options["ssl_cafile"] = str(kafka.ssl_cafile)
    if kafka.ssl_certfile:
        options["ssl_certfile"] = str(kafka.ssl_certfile)
        options["ssl_keyfile"] = str(kafka.ssl_keyfile)
    return options


def spark_options(settings: Settings) -> dict[str, str]:
    """The options with which Spark's Kafka source and sink reach Kafka."""
    kafka = settings.kafka
    options = {
        "kafka.bootstrap.servers": kafka.bootstrap_servers,
        "kafka.security.protocol": kafka.security_protocol,
    }
    if kafka.sasl_password and kafka.security_protocol.startswith("SASL_"):
        is_plain = kafka.sasl_mechanism == "PLAIN"
        module = "plain.PlainLoginModule" if is_plain else "scram.ScramLoginModule"
        username = quoted(kafka.sasl_username or "")
        password = quoted(kafka.sasl_password.get_secret_value())
        options |= {
            "kafka.sasl.mechanism": str(kafka.sasl_mechanism),
            "kafka.sasl.jaas.config": f"org.apache.kafka.common.security.{module} required"
            f" username={username} password={password};",
        }
    if kafka.ssl_cafile:
        options |= {
            "kafka.ssl.truststore.type": "PEM",
            "kafka.ssl.truststore.location": str(kafka.ssl_cafile),
        }
    if kafka.ssl_certfile and kafka.ssl_keyfile:
        # Java takes one file that contains both, or their texts.
        options |= {
            "kafka.ssl.keystore.type": "PEM",
            "kafka.ssl.keystore.certificate.chain": kafka.ssl_certfile.read_text(),
            "kafka.ssl.keystore.key": kafka.ssl_keyfile.read_text(),
        }
    return options


def committed_consumer(settings: Settings) -> Consumer:
    """A consumer of committed records, in no group; the caller assigns its partitions."""
    return Consumer(
        settings,
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

    Returns False if `timeout` seconds pass or `stop` is set first. Raises Failure if Kafka refuses.
    """
    started = time.monotonic()
    delays, logged = backoff(FIRST_RETRY, MAX_RETRY), set[str]()
    while (reason := _try(settings, do)) is not None:
        waited = time.monotonic() - started
        if waited > QUIET_START and reason not in logged:
            logged.add(reason)
            log.info("Waiting for Kafka at %s (%s)", settings.kafka.bootstrap_servers, reason)
        retry = next(delays)
        if waited + retry > timeout or stop.wait(retry):
            return False
    if logged:
        log.info("Kafka answers after %.0f s", time.monotonic() - started)
    return True


def _try(settings: Settings, do: Callable[[KafkaAdminClient], None]) -> str | None:
    """Call `do`; returns why it must be retried, None if it succeeded."""
    if reason := _why_unreachable(settings):
        return reason
    with BootstrapLog() as bootstrap:
        try:
            # A refused password often shows only as a closed connection. With a short backoff the
            # client asks often enough to be told the reason.
            with Admin(settings, reconnect_backoff_max_ms=100) as admin:
                _check_addresses(settings, admin)
                do(admin)
        except KafkaError as error:
            for problem in ("\n".join(bootstrap.lines), error):
                if not is_retriable(problem):
                    raise Failure(describe(problem, settings)) from None
            return cause(error)
    return None


def _check_addresses(settings: Settings, admin: KafkaAdminClient) -> None:
    """Raise Failure if none of the addresses that Kafka advertises can be reached from here.

    A broker has just answered, so they are not all down. Waiting would not help: the brokers have
    to advertise other addresses, or this machine has to resolve the names.
    """
    addresses = [f"{broker.host}:{broker.port}" for broker in admin._manager.cluster.brokers()]
    deadline = time.monotonic() + ADDRESS_TIMEOUT
    while not any(listens(address) for address in addresses):
        if time.monotonic() > deadline:
            raise Failure(
                f"Kafka at {settings.kafka.bootstrap_servers} advertises {', '.join(addresses)},"
                " which cannot be reached from here: correct advertised.listeners on that Kafka"
            )
        time.sleep(MAX_RETRY)


class BootstrapLog(logging.Handler):
    """Collects why kafka-python could not connect: only its log says so, its errors do not."""

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


def warn_of_retry(error: KafkaError, settings: Settings) -> None:
    """Log that what failed is retried; raises Failure if a retry will not fix the error."""
    if not is_retriable(error):
        raise Failure(describe(error, settings)) from None
    log.warning("Kafka failed (%s): retrying", error)


def is_reachable(settings: Settings) -> bool:
    """Whether something listens at one of Kafka's addresses."""
    return not _why_unreachable(settings)


def listens(server: str) -> bool:
    """Whether something accepts connections at `host:port`."""
    return not _connect(server)


def _why_unreachable(settings: Settings) -> str:
    """Why none of Kafka's addresses can be connected to; "" if one can."""
    reason = ""
    for server in settings.kafka.bootstrap_servers.split(","):
        if not (reason := _connect(server)):
            break
    return reason


def _connect(server: str) -> str:
    """Connect to `host:port` for a moment; returns why that failed, else ""."""
    host, _, port = server.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=3).close()
    except ConnectionRefusedError:
        return NOTHING_LISTENS
    except OSError as error:
        return error.strerror or str(error)
    return ""
