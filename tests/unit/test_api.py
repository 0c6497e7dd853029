"""Addresses, keys, proxies and redirects: where requests go, and which secrets go nowhere else."""

import base64
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from pydantic import SecretStr

from local.broker import free_port
from velib.feed.api import Api, FeedError, address


class Server:
    """Records the requests that it gets; answers them with its name, or with a redirect."""

    def __init__(self, name: str) -> None:
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.location = ""
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.requests.append((self.path, dict(self.headers)))
                redirects = server.location and "/elsewhere/" not in self.path
                self.send_response(302 if redirects else 200)
                if redirects:
                    self.send_header("Location", server.location)
                self.send_header("Content-Length", "0" if redirects else str(len(name)))
                self.end_headers()
                if not redirects:
                    self.wfile.write(name.encode())

            def do_CONNECT(self) -> None:
                self.send_response(407)
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.http.server_port
        threading.Thread(target=self.http.serve_forever, args=(0.05,), daemon=True).start()


@pytest.fixture
def servers() -> Iterator[tuple[Server, Server]]:
    one, other = Server("one"), Server("other")
    with one.http, other.http:
        yield one, other
        one.http.shutdown()
        other.http.shutdown()


@pytest.mark.parametrize(
    ("api_url", "expected"),
    [
        ("http://h/x", "http://h/x/NAME"),
        ("http://h/x/", "http://h/x/NAME"),
        ("http://h", "http://h/NAME"),
        ("http://h/x/station_status.json", "http://h/x/NAME"),
        ("http://h/station_status.json", "http://h/NAME"),
        ("http://h/x/station_status.json/", "http://h/x/NAME"),
        ("http://h/x/gbfs.json", "http://h/x/NAME"),
        ("http://h/x.json/y//station_information.json//", "http://h/x.json/y/NAME"),
        ("http://h/x/gbfs.json?apikey=K/", "http://h/x/NAME?apikey=K/"),
        ("http://h/x?apikey=K", "http://h/x/NAME?apikey=K"),
        ("http://h/x/?a=1/&b=2", "http://h/x/NAME?a=1/&b=2"),
        ("http://h/x/station_status.json?apikey=K", "http://h/x/NAME?apikey=K"),
        ("http://me:word@[::1]:80/x", "http://me:word@[::1]:80/x/NAME"),
    ],
)
def test_the_setting_is_the_folder_of_the_files_or_the_address_of_one_of_them(
    api_url: str, expected: str
) -> None:
    for name in ("station_status.json", "station_information.json"):
        assert address(api_url, name) == expected.replace("NAME", name)


def test_user_query_and_key_reach_the_api_and_no_error(servers: tuple[Server, Server]) -> None:
    one, _ = servers
    url = f"http://me:SECRET@127.0.0.1:{one.port}/x?token=SECRET"
    assert Api(url, SecretStr("SECRET")).get("station_status.json").body == b"one"
    ((path, headers),) = one.requests
    assert path == "/x/station_status.json?token=SECRET"
    assert headers["apikey"] == "SECRET"
    assert headers["Authorization"] == "Basic " + base64.b64encode(b"me:SECRET").decode()
    one.location = f"{url}/circle"
    with pytest.raises(FeedError) as error:
        Api(url, SecretStr("SECRET")).get("station_status.json")
    assert "SECRET" not in str(error.value)


def test_no_secret_follows_a_redirect_to_another_server(servers: tuple[Server, Server]) -> None:
    one, other = servers
    one.location = f"http://127.0.0.1:{other.port}/elsewhere/"
    url = f"http://me:SECRET@127.0.0.1:{one.port}/x?token=SECRET"
    assert Api(url, SecretStr("SECRET")).get("station_status.json").body == b"other"
    assert "SECRET" in str(one.requests)
    assert "SECRET" not in str(other.requests)
    assert "Authorization" not in str(other.requests)


def test_the_key_follows_a_redirect_within_the_server(servers: tuple[Server, Server]) -> None:
    one, _ = servers
    one.location = "/elsewhere/station_status.json"
    api = Api(f"http://127.0.0.1:{one.port}", SecretStr("SECRET"))
    assert api.get("station_status.json").body == b"one"
    assert [headers["apikey"] for _, headers in one.requests] == ["SECRET", "SECRET"]


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_an_address_of_this_machine_is_not_asked_for_through_a_proxy(
    servers: tuple[Server, Server], monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    one, _ = servers
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("no_proxy", "example.org")
    assert Api(f"http://{host}:{one.port}").get("station_status.json").body == b"one"


def test_another_address_is_asked_for_through_the_proxy(
    servers: tuple[Server, Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, _ = servers
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{one.port}")
    assert Api("http://velib.invalid/x").get("station_status.json").body == b"one"
    assert one.requests[0][0] == "http://velib.invalid/x/station_status.json"


def test_a_proxy_that_is_away_is_named_without_its_password(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    port = free_port()
    monkeypatch.setenv("http_proxy", f"http://me:SECRET@127.0.0.1:{port}")
    with pytest.raises(FeedError) as error:
        Api("http://velib.invalid/x").get("station_status.json")
    assert str(error.value) == (
        "The API http://velib.invalid/x/station_status.json"
        f" (through the proxy http://***@127.0.0.1:{port}) cannot be reached (connection refused)"
    )


def test_a_proxy_that_refuses_is_named(
    servers: tuple[Server, Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, _ = servers
    monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{one.port}")
    with pytest.raises(FeedError) as error:
        Api("https://velib.invalid/x").get("station_status.json")
    assert str(error.value) == (
        "The API https://velib.invalid/x/station_status.json"
        f" (through the proxy http://127.0.0.1:{one.port}) cannot be reached"
        " (proxy authentication required)"
    )


def test_without_a_proxy_none_is_named() -> None:
    with pytest.raises(FeedError) as error:
        Api(f"http://127.0.0.1:{free_port()}").get("station_status.json")
    assert "proxy" not in str(error.value)
