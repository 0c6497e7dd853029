"""A real Apache Kafka on this machine alone, for trying the pipeline out: KRaft mode, on localhost.

    python -m local.broker [--port 9092] [--data-dir .velib/kafka]    one node
    python -m local.broker --nodes 3                                  a cluster of three, on ports 9092, 9093 and 9094
    python -m local.broker --secure                                   with TLS, passwords and ACLs: prints the settings to use

Prints `ready` when it serves. Its data outlives it; each node's own log is `kafka.log` in its data directory. A node of the
cluster that ends is started again: the other two go on meanwhile, and lose nothing.
"""

import argparse
import base64
import fcntl
import os
import shutil
import socket
import subprocess
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from kafka.errors import KafkaError

import config
from local import jars
from local.security import ADMIN, Security, grant
from velib import cli, connection, java
from velib.cli import log
from velib.errors import Failure

START_SECONDS = 60
STOP_SECONDS = 30
FULL = 16 * 1024 * 1024  # bytes left; Kafka ends when it cannot write
WATCH_SECONDS = 1.0  # between two looks at the nodes

# On one node, whatever Kafka would copy to three nodes has one copy.
PROPERTIES = """\
process.roles=broker,controller
node.id={number}
controller.quorum.voters={voters}
listeners=CLIENTS://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}
advertised.listeners=CLIENTS://localhost:{port}
listener.security.protocol.map=CLIENTS:PLAINTEXT,CONTROLLER:PLAINTEXT
inter.broker.listener.name=CLIENTS
controller.listener.names=CONTROLLER
log.dirs={data}
num.partitions=1
default.replication.factor={copies}
min.insync.replicas={least}
offsets.topic.replication.factor={copies}
offsets.topic.num.partitions=1
transaction.state.log.replication.factor={copies}
transaction.state.log.min.isr={least}
transaction.state.log.num.partitions=1
share.coordinator.state.topic.replication.factor={copies}
share.coordinator.state.topic.min.isr={least}
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


@dataclass
class Node:
    """One Kafka process of the cluster: its number, its ports on localhost, and the folder of its configuration and data."""

    number: int
    port: int
    controller_port: int
    broker_port: int  # of the other nodes, in a secure cluster
    directory: Path


def main() -> None:
    arguments = _arguments()
    directory: Path = arguments.data_dir.absolute()
    command = java.find()
    with _owned(directory) as lock:
        nodes = _nodes(arguments.nodes, arguments.port, directory)
        security = _security(command, directory, arguments.secure)
        for node in nodes:
            _check_free(node.port)
            _write_configuration(node, nodes, security)
        _format(command, nodes, security)
        _serve(command, nodes, directory, lock, security)


def _security(command: str, directory: Path, secure: bool) -> Security | None:
    """The passwords and certificates, made if missing. Users come with the first start: one without them stays without."""
    security = Security(directory / "security")
    if not secure:
        return None
    if not security.directory.exists() and any(directory.rglob("meta.properties")):
        raise Failure(
            f"The data directory {directory} is of a Kafka without users: name another --data-dir for --secure"
        )
    security.make(command)
    return security


def _nodes(count: int, port: int, directory: Path) -> list[Node]:
    if count == 1:
        return [Node(1, port, free_port(), free_port(), directory)]
    return [
        Node(n, port + n - 1, free_port(), free_port(), directory / f"node-{n}")
        for n in range(1, count + 1)
    ]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m local.broker", description="Apache Kafka on this machine alone."
    )
    parser.add_argument(
        "--port", type=int, default=9092, help="port on localhost (default: %(default)s)"
    )
    parser.add_argument(
        "--data-dir",
        type=Path,
        default=Path(".velib/kafka"),
        help="where the records are kept (default: %(default)s)",
    )
    parser.add_argument(
        "--nodes",
        type=int,
        choices=(1, 3),
        default=1,
        help="one node, or a cluster of three on ports in a row",
    )
    parser.add_argument(
        "--secure", action="store_true", help="TLS, a user for each script, and ACLs"
    )
    arguments = parser.parse_args()
    if not 0 < arguments.port <= 65536 - arguments.nodes:
        parser.error(
            f"argument --port: {arguments.port} is not a port: use 1 to {65536 - arguments.nodes}"
        )
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
        probe.setsockopt(
            socket.SOL_SOCKET, socket.SO_REUSEADDR, 1
        )  # a port whose last user has gone is free
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise Failure(
                f"Port {port} cannot be used ({error.strerror}). If Kafka runs there already, the scripts use it as it is;"
                " else name another --port and set KAFKA_BOOTSTRAP_SERVERS to it"
            ) from None


def _write_configuration(node: Node, nodes: list[Node], security: Security | None) -> None:
    """Write Kafka's two configuration files for a node."""
    node.directory.mkdir(exist_ok=True)
    properties = node.directory / "server.properties"
    properties.touch(mode=0o600)
    properties.write_text(
        PROPERTIES.format(
            number=node.number,
            port=node.port,
            controller_port=node.controller_port,
            voters=",".join(f"{one.number}@127.0.0.1:{one.controller_port}" for one in nodes),
            copies=len(nodes),
            least=2 if len(nodes) == 3 else 1,
            data=node.directory / "data",
        )
        + (
            security.properties(node.port, node.broker_port, node.controller_port)
            if security
            else ""
        )
    )
    (node.directory / "log4j2.properties").write_text(LOGGING.format(directory=node.directory))


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


def _format(command: str, nodes: list[Node], security: Security | None) -> None:
    """Give new data directories their cluster id, as KRaft asks for, and their users."""
    cluster_id = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
    for node in nodes:
        if (node.directory / "data" / "meta.properties").exists():
            continue
        tool = [
            "kafka.tools.StorageTool",
            "format",
            "--ignore-formatted",
            f"--cluster-id={cluster_id}",
            "-c",
        ]
        tool.append(str(node.directory / "server.properties"))
        for user in security.users() if security else []:
            tool += ["--add-scram", user]
        # In a file, where no list of processes shows the passwords.
        argument_file = node.directory / "format.arguments"
        argument_file.touch(mode=0o600)
        _, *arguments = _java(command, node.directory, *tool)
        argument_file.write_text("\n".join(f'"{argument}"' for argument in arguments))
        done = subprocess.run([command, f"@{argument_file}"], capture_output=True, text=True)
        argument_file.unlink()
        if done.returncode != 0:
            said = done.stderr.strip() or done.stdout.strip()
            raise Failure(f"The data directory {node.directory} cannot be formatted: {said}")


def _serve(
    command: str, nodes: list[Node], directory: Path, lock: int, security: Security | None
) -> None:
    """Run Kafka until it is told to stop; prints `ready` once it serves."""
    running = {node.number: _start(command, node, lock) for node in nodes}
    try:
        for node in nodes:
            _wait_until_ready(running[node.number], node)
        servers = ",".join(f"localhost:{node.port}" for node in nodes)
        if security:
            _grant(security, servers)
            print(security.shown(servers))
        print("ready", flush=True)
        log.info("Kafka serves on %s, its records are in %s", servers, directory)
        _watch(command, nodes, running, lock)
    finally:
        _stop(list(running.values()))


def _grant(security: Security, servers: str) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            return grant(security.settings(servers, ADMIN), config.load())
        except (
            KafkaError
        ) as error:  # a cluster that serves may still be choosing who keeps the ACLs
            if time.monotonic() > deadline:
                raise Failure(f"Kafka did not take the ACLs: {error}") from None
            time.sleep(0.5)


def _start(command: str, node: Node, lock: int) -> subprocess.Popen[bytes]:
    with (node.directory / "kafka.out").open("wb") as output:
        properties = str(node.directory / "server.properties")
        kafka = _java(command, node.directory, "kafka.Kafka", properties)
        return subprocess.Popen(kafka, stdout=output, stderr=output, pass_fds=[lock])


def _watch(
    command: str, nodes: list[Node], running: dict[int, subprocess.Popen[bytes]], lock: int
) -> None:
    """Start nodes of a cluster again when they end; raises Failure when a single one does."""
    while True:
        for node in nodes:
            if (status := running[node.number].poll()) is None:
                continue
            if len(nodes) == 1:
                raise Failure(
                    f"Kafka ended by itself (status {status}). {_last_error(node.directory)}"
                )
            log.warning(
                "Node %d ended (status %d) and is started again. %s",
                node.number,
                status,
                _last_error(node.directory),
            )
            running[node.number] = _start(command, node, lock)
        time.sleep(WATCH_SECONDS)


def _wait_until_ready(kafka: subprocess.Popen[bytes], node: Node) -> None:
    """Return when Kafka answers, or has ended; raises Failure if neither happens for long."""
    deadline = time.monotonic() + START_SECONDS
    while kafka.poll() is None and not connection.listens(f"127.0.0.1:{node.port}"):
        if time.monotonic() > deadline:
            raise Failure(
                f"Kafka did not serve within {START_SECONDS} s: see {node.directory / 'kafka.log'}"
            )
        time.sleep(0.05)


def _stop(running: list[subprocess.Popen[bytes]]) -> None:
    """Have Kafka close its log segments, so that the next start needs no recovery."""
    for kafka in running:
        kafka.terminate()
    for kafka in running:
        try:
            kafka.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            log.warning("Kafka did not stop within %d s and is killed", STOP_SECONDS)
            kafka.kill()
            kafka.wait()


def _last_error(directory: Path) -> str:
    """That the disk is full, or the last error that Kafka logged and where to read more."""
    if shutil.disk_usage(directory).free < FULL:
        return f"The disk of {directory} is full: make room. Nothing that was published is lost"
    where = directory / "kafka.log"
    lines = where.read_text(errors="replace").splitlines() if where.exists() else []
    errors = [line for line in lines if " ERROR " in line or " FATAL " in line]
    return (
        f"{errors[-1]} (more in {where})"
        if errors
        else f"See {where} and {directory / 'kafka.out'}"
    )


if __name__ == "__main__":
    cli.run(main)
