"""How each script serves its metrics to Prometheus: the option `--metrics-port` and the listener.

Each module defines its own metrics, in the default registry of Prometheus's client.
"""

import argparse

from prometheus_client import disable_created_metrics, start_http_server

from velib import runtime
from velib.errors import Failure
from velib.runtime import log

disable_created_metrics()  # a second time series for each counter, which nobody needs


def add_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--metrics-port",
        type=runtime.port,
        metavar="N",
        help="serve metrics for Prometheus at http://localhost:N/metrics",
    )


def serve(port: int | None) -> None:
    """Serve the metrics of this process on this port of localhost, if any; raises Failure."""
    if port is None:
        return
    try:
        start_http_server(port, runtime.loopback())
    except OSError as error:
        raise Failure(f"--metrics-port {port} cannot be used: {error.strerror}") from None
    log.info("Metrics are at http://localhost:%d/metrics", port)
