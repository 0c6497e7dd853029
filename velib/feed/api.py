"""The Vélib' API over HTTP: `Api(…).get("station_status.json")`, within limits of time and size."""

import re
import time
from concurrent import futures
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Literal
from urllib.parse import urlsplit, urlunsplit

import requests
from pydantic import SecretStr
from requests.utils import select_proxy
from urllib3 import HTTPResponse
from urllib3.exceptions import HTTPError, InvalidHeader
from urllib3.util import Retry

from config import masked
from velib.runtime import in_thread

USER_AGENT = "velib-projet/1.0"  # the API answers 403 to the default User-Agent of a script
API_KEY = "apikey"  # the header in which the region's mobility portal expects its key
TIMEOUT = 15  # seconds for a poll as a whole: DNS, connection, redirects, headers and body
MAX_ANSWER_BYTES = 64 * 1024 * 1024  # a feed of 200,000 stations
MAX_RETRY_AFTER = 3600.0  # seconds that a server may ask its clients to wait

LOCAL_HOSTS = ("localhost", "127.0.0.1", "::1")
"""Hosts that are never reached through a proxy, whatever NO_PROXY says."""

CAUSES = {
    "407 Proxy Authentication Required": "proxy authentication required",
    "Tunnel connection failed": "the proxy refuses",
    "Name or service not known": "unknown host",
    "Failed to resolve": "unknown host",
    "Connection refused": "connection refused",
    "CERTIFICATE_VERIFY_FAILED": "certificate not trusted",
    "redirects": "redirect loop",
    "IncompleteRead": "response truncated",
    "Connection broken": "response truncated",
    "Connection aborted": "the server closed the connection",
    "Missing dependencies for SOCKS": "a SOCKS proxy needs `pip install pysocks`",
}
"""The cause of an HTTP error by what its text contains; the first match counts."""


ErrorKind = Literal["http_status", "unreachable", "timeout", "malformed"]


class FeedError(Exception):
    """The feed cannot be read now. The text says why."""

    def __init__(
        self, reason: str, kind: ErrorKind, retry_after: float = 0, details: str = ""
    ) -> None:
        """retry_after: the seconds that the server asks its clients to wait, 0 if it does not.

        details: the end of the text, which may differ from one poll to the next.
        """
        super().__init__(reason + details)
        self.reason, self.kind, self.retry_after = reason, kind, retry_after


@dataclass(frozen=True)
class Answer:
    """What the API sent."""

    body: bytes
    clock: float | None
    """The time of the API's own clock (epoch seconds), from the header `Date`; None without it."""


class Api:
    """Fetches the files of the API over one connection."""

    def __init__(self, api_url: str, api_key: SecretStr | None = None) -> None:
        """api_url: as VELIB_API_URL, api_key: as VELIB_API_KEY."""
        self.api_url, self.has_key = api_url, api_key is not None
        self.session = _Session()
        self.session.headers["User-Agent"] = USER_AGENT
        if api_key is not None:
            self.session.headers[API_KEY] = api_key.get_secret_value()
        for scheme in ("http", "https"):
            self.session.proxies.update({f"{scheme}://{host}": "" for host in LOCAL_HOSTS})

    def get(self, name: str) -> Answer:
        """Download a file of the API within TIMEOUT seconds; raises FeedError."""
        url = address(self.api_url, name)
        try:
            # A timeout of a socket applies to each call; that of a thread to the whole download.
            return in_thread(lambda: self._get(url)).result(TIMEOUT)
        except (requests.RequestException, HTTPError, futures.TimeoutError) as error:
            is_late = isinstance(error, futures.TimeoutError) or "timed out" in str(error)
            cause = f"no complete answer within {TIMEOUT} s" if is_late else _cause(error)
            raise FeedError(
                f"The API {self._shown(url)} cannot be reached ({cause})",
                "timeout" if is_late else "unreachable",
            ) from None

    def _get(self, url: str) -> Answer:
        with self.session.get(url, timeout=TIMEOUT, stream=True) as response:
            if response.status_code != 200:
                raise FeedError(
                    f"The API {self._shown(url)} returned {response.status_code}"
                    f" {response.reason}{self._key_hint(response.status_code)}",
                    "http_status",
                    _seconds(response.headers.get("Retry-After")),
                )
            return Answer(_body(url, response.raw), _time(response.headers.get("Date")))

    def _shown(self, url: str) -> str:
        """The address without secrets, and the proxy through which it is requested."""
        environment = self.session.merge_environment_settings(url, {}, None, None, None)
        proxy = select_proxy(url, environment["proxies"])
        return masked(url) + (f" (through the proxy {masked(proxy)})" if proxy else "")

    def _key_hint(self, status: int) -> str:
        if status not in (401, 403):
            return ""
        hint = "the key may be wrong" if self.has_key else "the address may need a key"
        return f" ({hint}: VELIB_API_KEY)"


class _Session(requests.Session):
    """Drops the API's key when a redirect leads to another host, as `requests` drops passwords."""

    def rebuild_auth(
        self, prepared_request: requests.PreparedRequest, response: requests.Response
    ) -> None:
        super().rebuild_auth(prepared_request, response)  # type: ignore[no-untyped-call]
        old_url, new_url = response.request.url, prepared_request.url
        if self.should_strip_auth(old_url, new_url):  # type: ignore[no-untyped-call]
            prepared_request.headers.pop(API_KEY, None)


def address(api_url: str, name: str) -> str:
    """The address of a file of the API, with the query string of `api_url`.

    `api_url` is the address of the folder of the files or of any file in it, such as `gbfs.json`,
    by which directories list a feed.
    """
    url = urlsplit(api_url)
    folder = re.sub(r"/[^/]+\.json$", "", url.path.rstrip("/")).rstrip("/")
    return urlunsplit(url._replace(path=f"{folder}/{name}"))


def _body(url: str, response: HTTPResponse) -> bytes:
    deadline = time.monotonic() + TIMEOUT
    body = bytearray()
    # read1 returns what has arrived; read would wait until it has all the bytes asked for.
    while chunk := response.read1(64 * 1024, decode_content=True):
        body += chunk
        if len(body) > MAX_ANSWER_BYTES:
            raise FeedError(
                f"The API {masked(url)} sends more than {MAX_ANSWER_BYTES >> 20} MB", "malformed"
            )
        if time.monotonic() > deadline:  # the caller no longer waits for it
            raise futures.TimeoutError
    return bytes(body)


def _time(date: str | None) -> float | None:
    """The time in a header `Date` (epoch seconds), None if there is none."""
    try:
        return parsedate_to_datetime(date or "").timestamp()
    except (ValueError, OverflowError):
        return None


def _seconds(retry_after: str | None) -> float:
    """The seconds to wait by a header `Retry-After`: seconds or a date; 0 if it is neither."""
    try:
        seconds = Retry().parse_retry_after(retry_after or "0")
    except (InvalidHeader, ValueError, OverflowError):
        return 0.0
    return min(seconds, MAX_RETRY_AFTER)


def _cause(error: Exception) -> str:
    causes = (cause for sign, cause in CAUSES.items() if sign in str(error))
    return next(causes, type(error).__name__)
