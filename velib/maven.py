"""Maven Central, from which Ivy fetches jars: the proxy on the way, and failures in words."""

import re
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

MAVEN_CENTRAL = "repo1.maven.org"

FAILURES = (
    r"Server access error at url \S+ \((.+)\)",
    r"(?:UNRESOLVED|unresolved|not found|FAILED).*",
)
"""What Ivy writes when it cannot fetch something; the first kind has the cause."""


@dataclass(frozen=True)
class Proxy:
    """A proxy through which Java reaches Maven Central: it does not read HTTPS_PROXY itself."""

    host: str
    port: int
    user: str | None
    password: str | None

    def options(self) -> list[str]:
        """The options with which Java uses the proxy, without its user."""
        return [f"-Dhttps.proxyHost={self.host}", f"-Dhttps.proxyPort={self.port}"]

    def user_options(self) -> list[str]:
        """The options that tell Ivy the proxy's user, if it has one: a secret."""
        if self.user is None:
            return []
        return [
            f"-Dhttp.proxyUser={self.user}",
            f"-Dhttp.proxyPassword={self.password or ''}",
            "-Djdk.http.auth.tunneling.disabledSchemes=",  # Java would refuse a password in clear
        ]


def proxy() -> Proxy | None:
    """The proxy that HTTPS_PROXY or ALL_PROXY names, None if NO_PROXY excepts Maven Central."""
    proxies = getproxies()
    address = proxies.get("https") or proxies.get("all")
    if not address or proxy_bypass(MAVEN_CENTRAL):
        return None
    url = urlsplit(address if "://" in address else f"http://{address}")
    user, password = (text and unquote(text) for text in (url.username, url.password))
    return Proxy(url.hostname or "", url.port or 80, user, password)


def failure(name: str, output: str) -> str:
    """The line for something that could not be fetched, from what Ivy has written."""
    causes = (re.search(pattern, output) for pattern in FAILURES)
    found = next((match for match in causes if match), None)
    cause = (found[1] if found.lastindex else found[0]) if found else "Ivy does not say why"
    if through := proxy():
        return (
            f"{name} cannot be fetched through the proxy {through.host}:{through.port} ({cause}):"
            " correct HTTPS_PROXY, or except repo1.maven.org in NO_PROXY"
        )
    return (
        f"{name} cannot be fetched ({cause}): check the network and type the same again;"
        " behind a proxy set HTTPS_PROXY"
    )
