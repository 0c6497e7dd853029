"""The option for a script's metrics, and the listener."""

import argparse
import socket

import pytest

from velib import metrics
from velib.errors import Failure


@pytest.mark.parametrize("port", ["0", "65536", "-1", "http", "9101.0"])
def test_an_invalid_port_is_refused(port: str, capsys: pytest.CaptureFixture[str]) -> None:
    parser = argparse.ArgumentParser()
    metrics.add_option(parser)
    with pytest.raises(SystemExit):
        parser.parse_args([f"--metrics-port={port}"])
    assert (
        f"argument --metrics-port: {port} is not a port: use 1 to 65535" in capsys.readouterr().err
    )


def test_a_port_in_use_is_one_clear_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        line = rf"--metrics-port {port} cannot be used: Address already in use"
        with pytest.raises(Failure, match=line):
            metrics.serve(port)
