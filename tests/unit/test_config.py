"""Settings: the defaults, and the line that each bad value gives."""

import re
from pathlib import Path

import certifi
import pytest

import config
from config import BadSetting
from tests import PROJECT
from tests.certificates import make_certificate, openssl


def test_defaults_are_those_of_the_readme() -> None:
    settings = config.load()
    assert (
        settings.api_url
        == "https://velib-metropole-opendata.smovengo.cloud/opendata/Velib_Metropole"
    )
    assert settings.stations == ("16107", "32017")
    assert settings.poll_seconds == 60
    assert settings.raw_topic == "velib-projet"
    assert settings.final_topic == "velib-projet-final-data"
    assert settings.dead_letter_topic == "velib-projet-dead-letters"
    assert settings.station_topic == "velib-projet-stations"
    assert settings.checkpoint_dir == ".velib/checkpoint"
    assert settings.watermark == "10 minutes"
    assert settings.spark_master == "local[*]"
    assert settings.cache_dir == Path.home() / ".cache" / "velib-projet"
    assert settings.kafka.bootstrap_servers == "localhost:9092"
    assert settings.kafka.security_protocol == "PLAINTEXT"


def test_the_example_of_a_file_has_every_setting_with_its_default() -> None:
    example = (PROJECT / ".env.example").read_text(encoding="utf-8")
    assert re.findall(r"^#(\w+)=", example, re.MULTILINE) == list(config.variables())
    defaults = config.load()
    Path(".env").write_text(re.sub(r"^#(?=\w+=)", "", example, flags=re.MULTILINE))
    assert config.load() == defaults


@pytest.mark.parametrize(
    ("variable", "value", "allowed"),
    [
        ("VELIB_API_URL", "ftp://host/feed", "http:// or https://"),
        ("VELIB_API_URL", "http://", "http:// or https://"),
        ("VELIB_API_URL", "http://host:port", "http:// or https://"),
        ("VELIB_API_URL", "http://a..b/feed", "http:// or https://"),
        ("VELIB_API_URL", "http://" + "a" * 64, "http:// or https://"),
        ("VELIB_API_URL", "http://host/\udcff", "http:// or https://"),
        ("VELIB_STATIONS", "", "station codes separated by commas"),
        ("VELIB_STATIONS", "16107;32017", "station codes separated by commas"),
        ("VELIB_STATIONS", "16107,", "station codes separated by commas"),
        ("VELIB_STATIONS", "all,16107", "station codes separated by commas"),
        ("VELIB_POLL_SECONDS", "", "number of seconds"),
        ("VELIB_POLL_SECONDS", "a minute", "number of seconds"),
        ("VELIB_POLL_SECONDS", "0", "number of seconds"),
        ("VELIB_POLL_SECONDS", "-60", "number of seconds"),
        ("VELIB_POLL_SECONDS", "nan", "number of seconds"),
        ("VELIB_POLL_SECONDS", "inf", "number of seconds"),
        ("VELIB_RAW_TOPIC", "a topic", "Kafka topic name"),
        ("VELIB_FINAL_TOPIC", "..", "Kafka topic name"),
        ("VELIB_DEAD_LETTER_TOPIC", "x" * 250, "Kafka topic name"),
        ("VELIB_STATION_TOPIC", "stations/", "Kafka topic name"),
        ("VELIB_CHECKPOINT_DIR", "", "a folder"),
        ("VELIB_WATERMARK", "10", "'10 minutes'"),
        ("VELIB_WATERMARK", "ten minutes", "'10 minutes'"),
        ("VELIB_SPARK_MASTER", "here", "a Spark master"),
        ("VELIB_SHUFFLE_PARTITIONS", "0", "a whole number from 1 to 10000"),
        ("VELIB_SHUFFLE_PARTITIONS", "many", "a whole number from 1 to 10000"),
        ("VELIB_SPARK_MASTER", "local[0]", "local[N] with N from 1"),
        ("VELIB_SPARK_MASTER", "local[2, 0]", "a Spark master"),
        ("VELIB_SPARK_MASTER", "local[all]", "a Spark master"),
        ("VELIB_SPARK_MASTER", "local-cluster[2,1]", "a Spark master"),
        ("VELIB_SPARK_MASTER", "spark://host", "spark://host:port"),
        ("VELIB_CACHE_DIR", "/var/cache:/tmp", "contains none of : , ( ) [ ]"),
        ("KAFKA_BOOTSTRAP_SERVERS", "localhost", "host:port"),
        ("KAFKA_BOOTSTRAP_SERVERS", "localhost:0", "host:port"),
        ("KAFKA_BOOTSTRAP_SERVERS", "localhost:9092,other:99999", "host:port"),
        ("KAFKA_BOOTSTRAP_SERVERS", "a..b:9092", "host:port"),
        ("KAFKA_BOOTSTRAP_SERVERS", "localhost:9092,.b:9092", "host:port"),
        ("KAFKA_BOOTSTRAP_SERVERS", "a" * 64 + ".org:9092", "host:port"),
        ("KAFKA_BOOTSTRAP_SERVERS", "a." * 127 + "org:9092", "host:port"),
        ("KAFKA_SECURITY_PROTOCOL", "TLS", "PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL"),
        ("KAFKA_SASL_MECHANISM", "GSSAPI", "SCRAM-SHA-512"),
        ("KAFKA_SASL_USERNAME", "\udcff", "a user name"),
        ("VELIB_KAFKA", "localhost:9092", "unset: Kafka's settings are KAFKA_BOOTSTRAP_SERVERS"),
        ("KAFKA_SSL_CAFILE", "/no/such/file.pem", "readable file"),
        ("KAFKA_SSL_CAFILE", __file__, "a readable file of CA certificates (PEM)"),
        ("KAFKA_SSL_CERTFILE", "/no/such/file.pem", "readable file"),
        ("KAFKA_SSL_CERTFILE", __file__, "the certificate of this client (PEM)"),
        ("KAFKA_SSL_KEYFILE", "/no/such/file.pem", "readable PEM file"),
        ("KAFKA_SSL_KEYFILE", certifi.where(), "openssl pkcs8 -topk8"),
    ],
)
def test_a_bad_value_is_one_line_with_variable_value_and_what_is_allowed(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, allowed: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(BadSetting) as error:
        config.load()
    line = str(error.value)
    assert line.startswith(f"{variable} is {value[:100]!r}"[:-1])
    assert allowed in line
    assert "\n" not in line


@pytest.mark.parametrize(
    "master",
    [
        "local",
        "local[1]",
        "local[*,3]",
        "local[4, 2]",
        "local-cluster[2, 1, 1024]",
        "spark://one:7077,other:7077",
        "yarn",
        "k8s://https://host:443",
    ],
)
def test_every_form_of_a_spark_master_is_accepted(
    master: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VELIB_SPARK_MASTER", master)
    assert config.load().spark_master == master


def test_the_cache_may_be_anywhere_and_an_empty_setting_is_the_default(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("VELIB_CACHE_DIR", "here")
    assert config.load().cache_dir == tmp_path / "here"
    monkeypatch.setenv("VELIB_CACHE_DIR", "")
    monkeypatch.setenv("HOME", "/home/me")
    assert config.load().cache_dir == Path("/home/me/.cache/velib-projet")


def test_several_bad_values_are_a_line_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VELIB_POLL_SECONDS", "x")
    monkeypatch.setenv("VELIB_WATERMARK", "y")
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "z")
    with pytest.raises(BadSetting) as error:
        config.load()
    variables = [line.split()[0] for line in str(error.value).splitlines()]
    assert variables == ["VELIB_POLL_SECONDS", "VELIB_WATERMARK", "KAFKA_BOOTSTRAP_SERVERS"]


@pytest.mark.parametrize("variable", ["VELIB_FINAL_TOPIC", "VELIB_STATION_TOPIC"])
def test_two_topics_of_one_name_are_refused(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.setenv(variable, "velib-projet")
    with pytest.raises(BadSetting, match="four different topics"):
        config.load()


def test_stations_are_written_as_the_feed_writes_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VELIB_STATIONS", " 06015, 11031_relais ,6015")
    assert config.load().stations == ("6015", "11031_relais")
    monkeypatch.setenv("VELIB_STATIONS", "7101,7101_Relais,31024_relais")
    assert config.load().stations == ("7101", "7101_Relais", "31024_relais")
    monkeypatch.setenv("VELIB_STATIONS", "ALL")
    assert config.load().stations == "all"


def test_a_dotenv_file_is_read_and_the_environment_comes_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Path(".env").write_text("VELIB_POLL_SECONDS=30\nVELIB_STATIONS=all\n")
    monkeypatch.setenv("VELIB_STATIONS", "6015")
    assert config.load().poll_seconds == 30
    assert config.load().stations == ("6015",)


def test_sasl_asks_for_what_it_needs_and_never_shows_the_password(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("KAFKA_SECURITY_PROTOCOL", "SASL_SSL")
    monkeypatch.setenv("KAFKA_SASL_MECHANISM", "SCRAM-SHA-512")
    monkeypatch.setenv("KAFKA_SASL_PASSWORD", "secret-word")
    with pytest.raises(BadSetting, match="KAFKA_SASL_USERNAME is not set") as error:
        config.load()
    assert "secret-word" not in str(error.value)
    monkeypatch.setenv("KAFKA_SASL_USERNAME", "job")
    assert "secret-word" not in repr(config.load())


def test_an_empty_setting_that_may_be_unset_is_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    unset = config.load().model_dump()
    for variable, field in config.variables().items():
        if field.default is None:
            monkeypatch.setenv(variable, "")
    assert config.load().model_dump() == unset


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("VELIB_API_URL", "http//me:SECRET@host/x?apikey=SECRET"),
        ("VELIB_API_URL", "http://me:SEC/RET-SECRET@host/x"),
        ("VELIB_API_URL", "me:SECRET@host"),
        ("VELIB_API_URL", "http://host/x?apikey= \nSECRET"),
        ("KAFKA_BOOTSTRAP_SERVERS", "me:SECRET@host:9092"),
        ("KAFKA_SASL_PASSWORD", "SECRET\udcff"),
        ("VELIB_API_KEY", "a SECRET"),
        ("VELIB_API_KEY", "SECRÉT-SECRET"),
        ("KAFKA_SSL_KEYFILE", "-----BEGIN PRIVATE KEY-----\nSECRET\n-----END PRIVATE KEY-----"),
        ("KAFKA_SSL_CERTFILE", "-----BEGIN PRIVATE KEY-----" + "SECRET" * 1000),
    ],
)
def test_the_line_of_a_bad_value_has_no_secret(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(BadSetting, match=variable) as error:
        config.load()
    assert "SECRET" not in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://host/x", "http://host/x"),
        ("http://me:SECRET@host/x", "http://***@host/x"),
        ("http://me:SEC@RET@host/x", "http://***@host/x"),
        ("http://me:SEC/RET@host/x", "http://***@host/x"),
        ("htp:/me:SECRET@host", "***@host"),
        ("me:SECRET@host/x", "***@host/x"),
        ("http://host/x?apikey=SECRET&b=SECRET", "http://host/x?***"),
        ("http://me:SECRET@host/x?apikey=SECRET", "http://***@host/x?***"),
        ("https://host/path?mail=a@b.org", "https://host/path?***"),
        ("https://me:SECRET@host:443/path?mail=a@b.org", "https://***@host:443/path?***"),
        ("http://[::1]:80/x?a=b@c", "http://[::1]:80/x?***"),
        ("http://host/x#SECRET@b.org", "http://host/x#***"),
        ("http://me:SEC?RET@host/x", "http://***@host/x"),
        ("http://me@b.org:SEC#RET@host/x?SECRET", "http://***@host/x?***"),
        ("http://host/x?a=\nSECRET", "http://host/x?***"),
    ],
)
def test_an_address_is_shown_without_its_secrets(url: str, shown: str) -> None:
    assert config.masked(url) == shown


def test_the_key_of_the_api_is_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    assert config.load().api_key is None
    monkeypatch.setenv("VELIB_API_KEY", "SECRET")
    assert "SECRET" not in repr(config.load())
    monkeypatch.setenv("VELIB_API_KEY", "")
    assert config.load().api_key is None


def test_a_certificate_needs_its_key_and_a_key_its_certificate(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    certificate, key = make_certificate(Path(), "mine")
    _, other_key = make_certificate(Path(), "other")
    monkeypatch.setenv("KAFKA_SSL_CERTFILE", str(certificate))
    with pytest.raises(BadSetting, match="KAFKA_SSL_KEYFILE is not set"):
        config.load()
    monkeypatch.setenv("KAFKA_SSL_KEYFILE", str(other_key))
    with pytest.raises(BadSetting, match=r"KAFKA_SSL_KEYFILE is 'other\.key': it must be the key"):
        config.load()
    monkeypatch.setenv("KAFKA_SSL_KEYFILE", str(key))
    assert config.load().kafka.ssl_keyfile == key
    monkeypatch.delenv("KAFKA_SSL_CERTFILE")
    with pytest.raises(BadSetting, match="KAFKA_SSL_CERTFILE is not set"):
        config.load()


@pytest.mark.parametrize(
    "convert",
    [
        ("rsa", "-traditional"),
        ("pkcs8", "-topk8", "-passout", "pass:secret"),
    ],
)
def test_a_key_that_java_cannot_read_is_refused_with_the_command_that_converts_it(
    monkeypatch: pytest.MonkeyPatch, convert: tuple[str, ...]
) -> None:
    certificate, key = make_certificate(Path(), "mine")
    openssl(*convert, "-in", key, "-out", "old.key")
    monkeypatch.setenv("KAFKA_SSL_CERTFILE", str(certificate))
    monkeypatch.setenv("KAFKA_SSL_KEYFILE", "old.key")
    with pytest.raises(BadSetting, match=r"KAFKA_SSL_KEYFILE is 'old\.key'") as error:
        config.load()
    command = str(error.value).split("`")[1].replace("KEY", "old.key").replace("NEW", "new.key")
    openssl(*command.split()[1:], "-passin", "pass:secret")
    monkeypatch.setenv("KAFKA_SSL_KEYFILE", "new.key")
    assert config.load().kafka.ssl_keyfile == Path("new.key")
