"""Maven Central: the proxy of the environment, as Java takes it, and failures in words."""

import pytest

from velib.maven import Proxy, failure, proxy


@pytest.fixture(autouse=True)
def no_proxy_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("http://proxy.corp:3128", Proxy("proxy.corp", 3128, None, None)),
        ("proxy.corp:3128", Proxy("proxy.corp", 3128, None, None)),
        ("http://proxy.corp/", Proxy("proxy.corp", 80, None, None)),
        ("http://me:p%40ss@proxy.corp:3128", Proxy("proxy.corp", 3128, "me", "p@ss")),
    ],
)
def test_https_proxy_and_all_proxy_name_it(
    address: str, expected: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALL_PROXY", address)
    assert proxy() == expected
    monkeypatch.setenv("ALL_PROXY", "http://other:1")
    monkeypatch.setenv("HTTPS_PROXY", address)
    assert proxy() == expected


@pytest.mark.parametrize("excepted", ["*", "maven.org", ".maven.org", "localhost,repo1.maven.org"])
def test_no_proxy_excepts_maven_central(excepted: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.corp:3128")
    monkeypatch.setenv("NO_PROXY", "localhost,127.0.0.1")
    assert proxy() is not None
    monkeypatch.setenv("NO_PROXY", excepted)
    assert proxy() is None


def test_without_a_variable_there_is_no_proxy() -> None:
    assert proxy() is None


def test_the_password_is_not_among_the_options_of_the_command_line() -> None:
    with_user = Proxy("proxy.corp", 3128, "me", "p@ss")
    assert with_user.options() == ["-Dhttps.proxyHost=proxy.corp", "-Dhttps.proxyPort=3128"]
    assert "-Dhttp.proxyPassword=p@ss" in with_user.user_options()


REFUSED = """
==== public: tried
  https://repo1.maven.org/maven2/org/apache/kafka/kafka_2.13/4.4.0/kafka_2.13-4.4.0.pom
::          UNRESOLVED DEPENDENCIES         ::
:: org.apache.kafka#kafka_2.13;4.4.0: not found
:::: ERRORS
Server access error at url https://repo1.maven.org/x.pom (java.io.IOException: No way)
"""


def test_a_failure_says_why_and_names_the_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    assert failure("Kafka", REFUSED) == (
        "Kafka cannot be fetched (java.io.IOException: No way): check the network and type the"
        " same again; behind a proxy set HTTPS_PROXY"
    )
    monkeypatch.setenv("HTTPS_PROXY", "http://me:secret@proxy.corp:3128")
    assert failure("Kafka", REFUSED) == (
        "Kafka cannot be fetched through the proxy proxy.corp:3128 (java.io.IOException: No way):"
        " correct HTTPS_PROXY, or except repo1.maven.org in NO_PROXY"
    )
