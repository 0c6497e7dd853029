"""A real Apache Kafka on this machine alone, for trying the pipeline out: one node in KRaft mode, on localhost.

    python -m local.broker [--port 9092] [--data-dir .velib/kafka]

Prints `ready` when it serves. Its data outlives it; its own log is `kafka.log` in the data directory.
"""

import argparse
import base64
import fcntl
import os
import socket
import subprocess
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cli
import java
import topics
from cli import Failure, log
from local import jars

START_SECONDS = 60
STOP_SECONDS = 30

# One node: whatever Kafka would copy to three nodes has one copy here.
PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller_port}
listeners=CLIENTS://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}
advertised.listeners=CLIENTS://localhost:{port}
listener.security.protocol.map=CLIENTS:PLAINTEXT,CONTROLLER:PLAINTEXT
inter.broker.listener.name=CLIENTS
controller.listener.names=CONTROLLER
log.dirs={data}
num.partitions=1
default.replication.factor=1
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
share.coordinator.state.topic.num.partitions=1
group.initial.rebalance.delay.ms=0
auto.create.topics.enable=false
"""

LOGGING = """\
status=error
appender.file.type=RollingFile
appender.file.name=file
appender.file.fileName={directory}/kafka.log
appender.file.filePattern={directory}/kafka.log.%i
appender.file.layout.type=PatternLayout
appender.file.layout.pattern=%d{{ISO8601}} %-5p %m (%c{{1}})%n
appender.file.policies.type=Policies
appender.file.policies.size.type=SizeBasedTriggeringPolicy
appender.file.policies.size.size=10MB
appender.file.strategy.type=DefaultRolloverStrategy
appender.file.strategy.max=3
rootLogger.level=info
rootLogger.appenderRef.file.ref=file
"""


def main() -> None:
    arguments = _arguments()
    directory: Path = arguments.data_dir.absolute()
    command = java.find()
    with _owned(directory) as lock:
        _check_free(arguments.port)
        properties = _write_configuration(directory, arguments.port)
        _format(command, directory, properties)
        _serve(command, directory, properties, arguments.port, lock)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m local.broker", description="Apache Kafka on this machine alone.")
    parser.add_argument("--port", type=int, default=9092, help="port on localhost (default: %(default)s)")
    parser.add_argument(
        "--data-dir", type=Path, default=Path(".velib/kafka"), help="where the records are kept (default: %(default)s)"
    )
    arguments = parser.parse_args()
    if not 0 < arguments.port < 65536:
        parser.error(f"argument --port: {arguments.port} is not a port: use 1 to 65535")
    return arguments


@contextmanager
def _owned(directory: Path) -> Iterator[int]:
    """Hold the data directory; yields the lock's file descriptor, for Kafka to hold it too should this process be killed."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        lock = os.open(directory, os.O_RDONLY)
    except OSError as error:
        raise Failure(f"The data directory {directory} cannot be used: {error.strerror}") from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield lock
    except BlockingIOError:
        raise Failure(
            f"The data directory {directory} belongs to another running broker: stop that one, or name another --data-dir"
        ) from None
    finally:
        os.close(lock)


def _check_free(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a port whose last user has gone is free
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise Failure(
                f"Port {port} cannot be used ({error.strerror}). If Kafka runs there already, the scripts use it as it is;"
                " else name another --port and set KAFKA_BOOTSTRAP_SERVERS to it"
            ) from None


def _write_configuration(directory: Path, port: int) -> Path:
    """Write Kafka's two configuration files; returns the properties'."""
    properties = directory / "server.properties"
    properties.write_text(PROPERTIES.format(port=port, controller_port=free_port(), data=directory / "data"))
    (directory / "log4j2.properties").write_text(LOGGING.format(directory=directory))
    return properties


def free_port() -> int:
    """A port of localhost that nothing uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _java(command: str, directory: Path, *arguments: str) -> list[str]:
    return [
        command,
        "-Xmx512m",
        f"-Dlog4j2.configurationFile={directory / 'log4j2.properties'}",
        "-cp",
        str(jars.kafka() / "*"),
        *arguments,
    ]


def _format(command: str, directory: Path, properties: Path) -> None:
    """Give a new data directory its cluster id, as KRaft asks for."""
    if (directory / "data" / "meta.properties").exists():
        return
    cluster_id = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
    tool = ["kafka.tools.StorageTool", "format", "--ignore-formatted", f"--cluster-id={cluster_id}", "-c", str(properties)]
    done = subprocess.run(_java(command, directory, *tool), capture_output=True, text=True)
    if done.returncode != 0:
        raise Failure(f"The data directory {directory} cannot be formatted: {done.stderr.strip() or done.stdout.strip()}")


def _serve(command: str, directory: Path, properties: Path, port: int, lock: int) -> None:
    """Run Kafka until it is told to stop; prints `ready` once it serves."""
    with (directory / "kafka.out").open("wb") as output:
        kafka = subprocess.Popen(
            _java(command, directory, "kafka.Kafka", str(properties)), stdout=output, stderr=output, pass_fds=[lock]
        )
    try:
        _wait_until_ready(kafka, port)
        print("ready", flush=True)
        log.info("Kafka serves on localhost:%d, its records are in %s", port, directory)
        status = kafka.wait()
    except TimeoutError:
        raise Failure(f"Kafka did not serve within {START_SECONDS} s: see {directory / 'kafka.log'}") from None
    finally:
        _stop(kafka)
    raise Failure(f"Kafka ended by itself (status {status}). {_last_error(directory)}")


def _wait_until_ready(kafka: subprocess.Popen[bytes], port: int) -> None:
    """Return when Kafka answers, or has ended; raises TimeoutError."""
    deadline = time.monotonic() + START_SECONDS
    while kafka.poll() is None and not topics.listens(f"127.0.0.1:{port}"):
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(0.05)


def _stop(kafka: subprocess.Popen[bytes]) -> None:
    """Have Kafka close its log segments, so that the next start needs no recovery."""
    kafka.terminate()
    try:
        kafka.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        log.warning("Kafka did not stop within %d s and is killed", STOP_SECONDS)
        kafka.kill()
        kafka.wait()


def _last_error(directory: Path) -> str:
    """The last error that Kafka logged, and where to read more."""
    where = directory / "kafka.log"
    lines = where.read_text(errors="replace").splitlines() if where.exists() else []
    errors = [line for line in lines if " ERROR " in line or " FATAL " in line]
    return f"{errors[-1]} (more in {where})" if errors else f"See {where} and {directory / 'kafka.out'}"


if __name__ == "__main__":
    cli.run(main)
