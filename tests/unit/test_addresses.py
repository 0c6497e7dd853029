"""Where the parts of this machine listen, whatever its resolver says of `localhost`."""

import socket
from typing import Any

import pytest

from dashboard import address_of, shown
from local.broker import free_port
from velib import metrics, runtime
from velib.errors import Failure

IPV4 = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 0))
IPV6 = (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", 0, 0, 0))


def resolve_to(found: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Resolve every name to these addresses, as another /etc/hosts would."""
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **options: found)


def test_the_page_is_served_at_an_ipv4_address_though_localhost_is_first_an_ipv6_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    port = free_port()
    resolve_to([IPV6, IPV4], monkeypatch)
    assert address_of("localhost", port) == runtime.loopback() == "127.0.0.1"
    resolve_to([IPV6], monkeypatch)
    with pytest.raises(Failure, match=r"^localhost is not 127\.0\.0\.1 here: add the line"):
        metrics.serve(port)


@pytest.mark.parametrize("host", ["192.0.2.1", "a..b", "nowhere.invalid"])
def test_a_host_that_is_not_this_machine_is_one_clear_line(host: str) -> None:
    reason = (
        rf"^The page cannot be served at {host}:8080 \([^()]+\): choose another --port or --host"
    )
    with pytest.raises(Failure, match=reason):
        address_of(host, 8080)


def test_a_port_in_use_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(Failure, match=f"{port} .Address already in use"):
            address_of("127.0.0.1", port)


def test_the_page_is_shown_at_an_address_that_a_browser_takes() -> None:
    assert [shown(host, 80) for host in ("::1", "localhost")] == ["[::1]:80", "localhost:80"]
