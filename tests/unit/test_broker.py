"""What the embedded broker does when a Kafka process ends, with other programs in its place."""

import subprocess
from pathlib import Path

import pytest

from local.broker import Node, _describe_end, _serve, _start, free_port
from local.processes import watch
from velib.errors import Failure
from velib.locks import locked

KAFKA_LOG = """\
2026-11-30T02:20:14,001 ERROR An error of an earlier start (Kafka$)
Caused by: java.lang.RuntimeException: long past
2026-11-30T02:23:20,100 INFO Starting (Kafka$)
2026-11-30T02:23:21,088 ERROR Exiting Kafka due to fatal exception during startup. (Kafka$)
java.lang.RuntimeException: Received a fatal error
\tat kafka.server.BrokerServer.startup(BrokerServer.scala:490)
Caused by: java.net.BindException: Address already in use
2026-11-30T02:23:21,090 INFO Stopped (Kafka$)
"""


def node(number: int, folder: Path) -> Node:
    return Node(number, free_port(), free_port(), free_port(), folder)


def test_a_kafka_that_ends_at_its_start_is_an_error_with_its_own_cause_and_never_ready(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "kafka.log").write_text(KAFKA_LOG)
    reason = (
        r"^Kafka exited unexpectedly \(status 1\): BindException: Address already in use \(more in"
    )
    with locked(tmp_path) as lock, pytest.raises(Failure, match=reason):
        _serve(["false"], [node(1, tmp_path)], tmp_path, lock, None)
    assert capsys.readouterr().out == ""


def test_a_node_of_a_cluster_that_ends_at_once_is_not_restarted_forever(tmp_path: Path) -> None:
    with locked(tmp_path) as lock, subprocess.Popen(["sleep", "60"]) as lasting:
        short = subprocess.Popen(["false"])
        running = {node(1, tmp_path): lasting, node(2, tmp_path): short}
        with pytest.raises(
            Failure, match=r"^Kafka exited unexpectedly \(status 1\): see .*kafka.out"
        ):
            watch(running, lambda node: _start(["false"], node, lock), _describe_end, [])
        lasting.kill()
