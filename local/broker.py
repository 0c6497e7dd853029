"""A real Apache Kafka on this machine, for trying the pipeline out: in KRaft mode, on localhost.

    python -m local.broker [--port 9092] [--data-dir .velib/kafka]    one node
    python -m local.broker --nodes 3      a cluster of three, on ports 9092, 9093 and 9094
    python -m local.broker --secure       with TLS, passwords and ACLs; prints the settings to use
    python -m local.broker --override transaction.max.timeout.ms=30000    with a Kafka property

Prints `ready` when it serves. The data directory keeps its records for the next start; each node
writes its log to `kafka.log` there. When a node of the cluster ends, it is restarted: until then
the other two continue, and no record is lost.
"""

import argparse
import base64
import errno
import os
import random
import re
import shutil
import socket
import subprocess
import time
import uuid
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from kafka.errors import KafkaError

import config
from local import jars
from local.processes import stop, watch
from local.security import ADMIN, Security, grant
from velib import java, runtime
from velib.errors import Failure, cause
from velib.kafka import clients
from velib.locks import locked
from velib.runtime import log

START_TIMEOUT = 60  # seconds
PORTS = range(20_000, 32_768)  # below those that systems give to outgoing connections
MIN_FREE = 16 * 1024 * 1024  # bytes; with less on its disk Kafka cannot write, and ends

PROPERTIES = """\
process.roles=broker,controller
node.id={number}
controller.quorum.voters={voters}
listeners=CLIENTS://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}
advertised.listeners=CLIENTS://localhost:{port}
listener.security.protocol.map=CLIENTS:PLAINTEXT,CONTROLLER:PLAINTEXT
inter.broker.listener.name=CLIENTS
controller.listener.names=CONTROLLER
log.dirs=data
num.partitions=1
default.replication.factor={replicas}
min.insync.replicas={min_insync}
offsets.topic.replication.factor={replicas}
offsets.topic.num.partitions=1
transaction.state.log.replication.factor={replicas}
transaction.state.log.min.isr={min_insync}
transaction.state.log.num.partitions=1
share.coordinator.state.topic.replication.factor={replicas}
share.coordinator.state.topic.min.isr={min_insync}
share.coordinator.state.topic.num.partitions=1
group.initial.rebalance.delay.ms=0
auto.create.topics.enable=false
"""
"""Kafka's defaults require three replicas, which a single node cannot have.

Paths are relative to the node's folder, in which Kafka runs: Java reads this file as Latin-1, and
Kafka would end a path at a comma.
"""

LOGGING = """\
status=error
appender.file.type=RollingFile
appender.file.name=file
appender.file.fileName=kafka.log
appender.file.filePattern=kafka.log.%i
appender.file.layout.type=PatternLayout
appender.file.layout.pattern=%d{ISO8601} %-5p %m (%c{1})%n
appender.file.policies.type=Policies
appender.file.policies.size.type=SizeBasedTriggeringPolicy
appender.file.policies.size.size=10MB
appender.file.strategy.type=DefaultRolloverStrategy
appender.file.strategy.max=3
rootLogger.level=info
rootLogger.appenderRef.file.ref=file
"""


@dataclass(frozen=True)
class Node:
    """A Kafka process of the cluster: its ports on localhost, and the folder of its data."""

    number: int
    port: int
    controller_port: int
    broker_port: int  # where the other nodes of a secure cluster reach it
    directory: Path

    def __str__(self) -> str:
        return f"node {self.number}"


def main() -> None:
    arguments = _parse_arguments()
    directory: Path = arguments.data_dir.absolute()
    command = kafka_command(config.load().cache_dir)
    in_use = (
        f"The data directory {directory} belongs to another running broker:"
        " stop that one (`pgrep -af kafka.Kafka` finds it if its script was killed), or"
        " choose another --data-dir"
    )
    # Kafka inherits the lock, which lasts as long as Kafka even if this process is killed.
    with locked(directory, in_use) as lock:
        nodes = _nodes(arguments.nodes, arguments.port, directory)
        security = _security(command[0], directory) if arguments.secure else None
        for node in nodes:
            _check_free(node.port)
            _write_configuration(node, nodes, security, arguments.override)
        _format(command, nodes, security)
        _serve(command, nodes, directory, lock, security)


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m local.broker", description="Apache Kafka for this machine only."
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
        help="one node, or a cluster of three on consecutive ports",
    )
    parser.add_argument(
        "--secure", action="store_true", help="TLS, a user for each script, and ACLs"
    )
    parser.add_argument(
        "--override",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a Kafka property (may be repeated); {number}, {port} and {controller_port} in it"
        " stand for the node's",
    )
    arguments = parser.parse_args()
    max_port = 65536 - arguments.nodes
    if not 0 < arguments.port <= max_port:
        parser.error(f"argument --port: {arguments.port} is not a port: use 1 to {max_port}")
    return arguments


def _nodes(count: int, port: int, directory: Path) -> list[Node]:
    """One node in the directory itself, or several in their own folders, on consecutive ports."""
    folders = [directory] if count == 1 else [directory / f"node-{n + 1}" for n in range(count)]
    return [
        Node(n + 1, port + n, free_port(), free_port(), folder) for n, folder in enumerate(folders)
    ]


def free_port(preferred: int = 0) -> int:
    """A port of localhost that no process uses now: the preferred one, if it is such a port."""
    port = preferred or random.choice(PORTS)
    while True:
        with suppress(OSError):
            _bind("127.0.0.1", port)
            return port
        port = random.choice(PORTS)


def _bind(address: str, port: int) -> None:
    """Listen on a port for a moment; raises OSError if another process does."""
    # macOS lets two programs have a port if one of them listens on all addresses.
    if clients.listens(f"localhost:{port}"):
        raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
    with socket.socket() as probe:
        # As Kafka does: a port is free even while old connections to it time out.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((address, port))


def _check_free(port: int) -> None:
    try:
        _bind(runtime.loopback(), port)
    except OSError as error:
        raise Failure(
            f"Port {port} cannot be used ({error.strerror}). If that is a Kafka, the scripts can"
            " use it as it is; otherwise choose another --port and set KAFKA_BOOTSTRAP_SERVERS"
            " accordingly"
        ) from None


def _security(java_command: str, directory: Path) -> Security:
    """The passwords and certificates, created if missing; raises Failure.

    Kafka's first user is created when the data directory is formatted: an old one has none.
    """
    security = Security(directory / "security")
    if not security.directory.exists() and any(directory.rglob("meta.properties")):
        raise Failure(
            f"The data directory {directory} was created without --secure:"
            " choose another --data-dir for --secure"
        )
    security.make(java_command)
    return security


def _write_configuration(
    node: Node, nodes: list[Node], security: Security | None, overrides: list[str]
) -> None:
    """Write a node's two configuration files; of two lines for a property the last counts."""
    node.directory.mkdir(exist_ok=True)
    text = PROPERTIES.format(
        number=node.number,
        port=node.port,
        controller_port=node.controller_port,
        voters=",".join(f"{each.number}@127.0.0.1:{each.controller_port}" for each in nodes),
        replicas=len(nodes),
        min_insync=2 if len(nodes) == 3 else 1,
    )
    if security:
        folder = os.path.relpath(security.directory, node.directory)
        text += security.properties(folder, node.port, node.broker_port, node.controller_port)
    text += "".join(f"{override}\n" for override in overrides)
    for name in ("number", "port", "controller_port"):
        text = text.replace(f"{{{name}}}", str(vars(node)[name]))
    properties = node.directory / "server.properties"
    properties.touch(mode=0o600)
    properties.write_text(text)
    (node.directory / "log4j2.properties").write_text(LOGGING)


def kafka_command(cache_dir: Path) -> list[str]:
    """Java with its options and Kafka's jars, downloaded if missing; raises Failure."""
    folder = jars.kafka(cache_dir)
    logging = "-Dlog4j2.configurationFile=log4j2.properties"
    return [java.find(), "-Xmx512m", logging, "-cp", f"{folder}/*"]


def _format(command: list[str], nodes: list[Node], security: Security | None) -> None:
    """Format new data directories, as KRaft requires: with the cluster's id, and the user who
    creates the others.
    """
    cluster_id = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
    for node in nodes:
        if (node.directory / "data" / "meta.properties").exists():
            continue
        tool = ["kafka.tools.StorageTool", "format", "--ignore-formatted"]
        tool += [f"--cluster-id={cluster_id}", "-c", "server.properties"]
        if security:
            tool += ["--add-scram", security.administrator()]
        # Passwords in a file are not in the list of processes.
        argument_file = node.directory / "format.arguments"
        argument_file.touch(mode=0o600)
        argument_file.write_text("\n".join(map(java.quoted, tool)))
        done = subprocess.run(
            [*command, f"@{argument_file.name}"],
            cwd=node.directory,
            env=os.environ | java.LOCALE,
            capture_output=True,
            text=True,
            errors="replace",
        )
        argument_file.unlink()
        if done.returncode != 0:
            reason = cause(done.stderr.strip() or done.stdout.strip())
            raise Failure(f"The data directory {node.directory} cannot be formatted: {reason}")


def _serve(
    command: list[str], nodes: list[Node], directory: Path, lock: int, security: Security | None
) -> None:
    """Run Kafka until a signal stops this process; prints `ready` once it serves."""
    running = {node: _start(command, node, lock) for node in nodes}
    try:
        for node, kafka in running.items():
            _wait_until_ready(kafka, node)
        servers = ",".join(f"localhost:{node.port}" for node in nodes)
        if security:
            _grant(security, servers)
            print(security.exports(servers))
        print("ready", flush=True)
        log.info("Kafka listens on %s; data in %s", servers, directory)
        essential = nodes if len(nodes) == 1 else []
        watch(running, lambda node: _start(command, node, lock), _describe_end, essential)
    finally:
        stop("Kafka", running.values())  # it closes its log: the next start needs no recovery


def _start(command: list[str], node: Node, lock: int) -> subprocess.Popen[bytes]:
    with (node.directory / "kafka.out").open("wb") as output:
        return subprocess.Popen(
            [*command, "kafka.Kafka", "server.properties"],
            cwd=node.directory,
            env=os.environ | java.LOCALE,
            stdout=output,
            stderr=output,
            pass_fds=[lock],
        )


def _wait_until_ready(kafka: subprocess.Popen[bytes], node: Node) -> None:
    """Return when Kafka answers; raises Failure if it ends, or after START_TIMEOUT."""
    deadline = time.monotonic() + START_TIMEOUT
    while not clients.listens(f"127.0.0.1:{node.port}"):
        if kafka.poll() is not None:
            raise Failure(_describe_end(node, kafka.returncode))
        if time.monotonic() > deadline:
            raise Failure(
                f"Kafka did not start within {START_TIMEOUT} s: see {node.directory / 'kafka.log'}"
            )
        time.sleep(0.05)


def _grant(security: Security, servers: str) -> None:
    """Create the scripts' users and grant their rights; raises Failure after START_TIMEOUT."""
    admin = security.settings(servers, ADMIN)
    deadline = time.monotonic() + START_TIMEOUT
    while True:
        try:
            security.make_users(admin)
            return grant(admin, config.load())
        except KafkaError as error:  # the nodes may still be electing their controller
            if time.monotonic() > deadline:
                raise Failure(f"Kafka did not accept the users and their rights: {error}") from None
            time.sleep(0.5)


def _describe_end(node: Node, status: int) -> str:
    """The message that Kafka has ended, and why: the disk is full, or the last error in its log."""
    ended, kafka_log = f"Kafka exited unexpectedly (status {status})", node.directory / "kafka.log"
    if shutil.disk_usage(node.directory).free < MIN_FREE:
        return f"{ended}. The disk of {kafka_log} is full: make room. No published record is lost"
    text = kafka_log.read_text(errors="replace") if kafka_log.exists() else ""
    _, *errors = re.split(" (?:ERROR|FATAL) ", text)
    if errors:
        return f"{ended}: {cause(errors[-1])} (more in {kafka_log})"
    return f"{ended}: see {kafka_log} and {node.directory / 'kafka.out'}"


if __name__ == "__main__":
    runtime.run_tool(main)
