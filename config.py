"""Every setting of the pipeline, from the environment or a `.env` file: checked, with its default.

No other file reads a setting from the environment. `load()` returns the settings or raises
BadSetting, whose text has a line for each bad value: the variable, what it holds (never a secret)
and what is allowed.
"""

import os
import re
import ssl
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from velib.errors import BadSetting
from velib.runtime import masked

ALL = "all"

SECRETS = ("VELIB_API_KEY", "KAFKA_SASL_PASSWORD")
DEFAULT_CACHE_DIR = Path("~/.cache/velib-projet")


def _must(condition: object) -> None:
    """Refuse a value; what is allowed instead is the description of its field."""
    if not condition:
        raise ValueError


def _url(text: str) -> str:
    url = urlsplit(text)
    _must(
        url.scheme in ("http", "https")
        and url.hostname
        and url.port != 0
        and not re.search(r"\s", text)
    )
    return text


def _header(text: str | None) -> str | None:
    """A text that can be sent as the value of an HTTP header."""
    _must(re.fullmatch(r"[!-~]+", text or "none"))
    return text


def _stations(text: str) -> tuple[str, ...] | str:
    """Station codes as the feed writes them, without leading zeros; `all` stays as it is."""
    if text.strip().lower() == ALL:
        return ALL
    codes = [code.strip().lstrip("0") for code in text.split(",")]
    _must(all(re.fullmatch(r"[0-9]+(_[A-Za-z0-9_]+)?", code) for code in codes))
    return tuple(dict.fromkeys(codes))


def _servers(text: str) -> str:
    servers = [server.strip() for server in text.split(",")]
    for server in servers:
        host, _, port = server.rpartition(":")
        _must(re.fullmatch(r"[A-Za-z0-9._-]+|\[[0-9A-Fa-f:]+\]", host))
        _must(re.fullmatch(r"[0-9]{1,5}", port) and 0 < int(port) < 65536)
    return ",".join(servers)


def _matches(pattern: str) -> AfterValidator:
    def check(text: str) -> str:
        _must(re.fullmatch(pattern, text))
        return text

    return AfterValidator(check)


def _cache_dir(path: Path) -> Path:
    """The absolute path; a `~` stays where this user has no home, and velib/cache.py refuses it."""
    # `:` would end the path in Java's class path, `,` in Spark's list of jars; Ivy has patterns.
    _must(not re.search(r"[:,()\[\]]", str(path)))
    with suppress(RuntimeError):
        return path.expanduser().absolute()
    return path


def _readable_file(path: Path) -> Path:
    _must(os.access(path, os.R_OK) and path.is_file())
    return path


def _certificates(path: Path) -> Path:
    try:
        ssl.create_default_context(cafile=_readable_file(path))
    except ssl.SSLError:  # a file of another kind, such as a Java keystore
        raise ValueError from None
    return path


def _private_key(path: Path) -> Path:
    """Java reads a PEM key in the form of PKCS#8 alone, and the scripts have no password for it."""
    _must("-----BEGIN PRIVATE KEY-----" in _readable_file(path).read_text(errors="replace"))
    return path


_COUNT = "[1-9][0-9]{0,4}"

_EMPTY_IS_NONE = BeforeValidator(lambda value: value or None)

KafkaName = Annotated[str, _matches(r"(?!\.{1,2}$)[A-Za-z0-9._-]{1,249}")]
_NAME = "1 to 249 letters, digits, '.', '_' or '-'"
_TOPIC = f"a Kafka topic name: {_NAME}"


class Settings(BaseSettings):
    """The settings. A field's description says what is allowed, for the line of a BadSetting."""

    model_config = SettingsConfigDict(
        env_file=".env",
        extra="ignore",
        frozen=True,
        case_sensitive=True,
        hide_input_in_errors=True,
        validate_default=False,
    )

    api_url: Annotated[str, AfterValidator(_url)] = Field(
        "https://velib-metropole-opendata.smovengo.cloud/opendata/Velib_Metropole",
        validation_alias="VELIB_API_URL",
        description="a URL that starts with http:// or https://",
    )
    api_key: Annotated[SecretStr | None, BeforeValidator(_header), _EMPTY_IS_NONE] = Field(
        None,
        validation_alias="VELIB_API_KEY",
        description="a key of ASCII letters, digits and signs, without spaces",
    )
    stations: Annotated[tuple[str, ...] | Literal["all"], NoDecode, BeforeValidator(_stations)] = (
        Field(
            ("16107", "32017"),
            validation_alias="VELIB_STATIONS",
            description="station codes separated by commas, such as 16107,32017, or the word all",
        )
    )
    poll_seconds: float = Field(
        60,
        validation_alias="VELIB_POLL_SECONDS",
        ge=0.1,
        le=86400,
        description="a number of seconds from 0.1 to 86400",
    )
    raw_topic: KafkaName = Field(
        "velib-projet", validation_alias="VELIB_RAW_TOPIC", description=_TOPIC
    )
    final_topic: KafkaName = Field(
        "velib-projet-final-data", validation_alias="VELIB_FINAL_TOPIC", description=_TOPIC
    )
    dead_letter_topic: KafkaName = Field(
        "velib-projet-dead-letters", validation_alias="VELIB_DEAD_LETTER_TOPIC", description=_TOPIC
    )
    station_topic: KafkaName = Field(
        "velib-projet-stations", validation_alias="VELIB_STATION_TOPIC", description=_TOPIC
    )
    transactional_id: Annotated[KafkaName | None, _EMPTY_IS_NONE] = Field(
        None,
        validation_alias="VELIB_TRANSACTIONAL_ID",
        description=f"a name of {_NAME}, or empty for that of the raw topic and -producer",
    )
    checkpoint_dir: Annotated[str, _matches(r"\S(.*\S)?")] = Field(
        ".velib/checkpoint",
        validation_alias="VELIB_CHECKPOINT_DIR",
        description="a folder, or an object-store URL such as s3a://bucket/folder",
    )
    watermark: Annotated[str, _matches(r"[1-9][0-9]{0,6} (second|minute|hour|day)s?")] = Field(
        "10 minutes",
        validation_alias="VELIB_WATERMARK",
        description=(
            "a whole number and a unit, such as '10 minutes' (seconds, minutes, hours or days)"
        ),
    )
    spark_master: Annotated[
        str,
        _matches(
            rf"local(\[(\*|{_COUNT})( *, *{_COUNT})?\])?"
            rf"|local-cluster\[ *{_COUNT} *, *{_COUNT} *, *{_COUNT} *\]"
            r"|spark://\S+:[0-9]{1,5}|yarn|k8s://\S+"
        ),
    ] = Field(
        "local[*]",
        validation_alias="VELIB_SPARK_MASTER",
        description=(
            "a Spark master: local[*], local[N] with N from 1, spark://host:port, yarn"
            " or k8s://host:port"
        ),
    )
    shuffle_partitions: Annotated[Annotated[int, Field(ge=1, le=10_000)] | None, _EMPTY_IS_NONE] = (
        Field(
            None,
            validation_alias="VELIB_SHUFFLE_PARTITIONS",
            description="a whole number from 1 to 10000, or empty for a number that fits",
        )
    )
    cache_dir: Annotated[
        Path, BeforeValidator(lambda value: value or DEFAULT_CACHE_DIR), AfterValidator(_cache_dir)
    ] = Field(
        DEFAULT_CACHE_DIR,
        validation_alias="VELIB_CACHE_DIR",
        validate_default=True,
        description="a folder whose path has none of : , ( ) [ ]",
    )
    metrics_port: Annotated[Annotated[int, Field(ge=1, le=65535)] | None, _EMPTY_IS_NONE] = Field(
        None,
        validation_alias="VELIB_METRICS_PORT",
        description="a port from 1 to 65535, or empty for no metrics",
    )
    bootstrap_servers: Annotated[str, AfterValidator(_servers)] = Field(
        "localhost:9092",
        validation_alias="KAFKA_BOOTSTRAP_SERVERS",
        description="host:port, or several separated by commas",
    )
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT",
        validation_alias="KAFKA_SECURITY_PROTOCOL",
        description="PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL",
    )
    sasl_mechanism: Annotated[
        Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] | None, _EMPTY_IS_NONE
    ] = Field(
        None,
        validation_alias="KAFKA_SASL_MECHANISM",
        description="PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512",
    )
    sasl_username: Annotated[str | None, _EMPTY_IS_NONE] = Field(
        None, validation_alias="KAFKA_SASL_USERNAME", description="a user name"
    )
    sasl_password: Annotated[SecretStr | None, _EMPTY_IS_NONE] = Field(
        None, validation_alias="KAFKA_SASL_PASSWORD", description="a password"
    )
    ssl_cafile: Annotated[Annotated[Path, AfterValidator(_certificates)] | None, _EMPTY_IS_NONE] = (
        Field(
            None,
            validation_alias="KAFKA_SSL_CAFILE",
            description="a readable file of CA certificates (PEM)",
        )
    )
    ssl_certfile: Annotated[
        Annotated[Path, AfterValidator(_certificates)] | None, _EMPTY_IS_NONE
    ] = Field(
        None,
        validation_alias="KAFKA_SSL_CERTFILE",
        description="a readable file with the certificate of this client (PEM)",
    )
    ssl_keyfile: Annotated[Annotated[Path, AfterValidator(_private_key)] | None, _EMPTY_IS_NONE] = (
        Field(
            None,
            validation_alias="KAFKA_SSL_KEYFILE",
            description=(
                "a readable PEM file with the key of KAFKA_SSL_CERTFILE, PKCS#8 without a password"
                " (`openssl pkcs8 -topk8 -nocrypt -in KEY -out NEW` makes one of another key)"
            ),
        )
    )


def load() -> Settings:
    """The settings of this process; raises BadSetting."""
    try:
        settings = Settings()
    except ValidationError as error:
        raise BadSetting(
            "\n".join(_line(e["loc"][0], e["input"]) for e in error.errors())
        ) from None
    except UnicodeDecodeError:
        raise BadSetting("The file .env is not UTF-8 text: save it as UTF-8") from None
    _check_together(settings)
    return settings


def under_spark_submit() -> bool:
    """Whether `spark-submit` started this process: it then decides master, packages and memory."""
    return "PYSPARK_GATEWAY_PORT" in os.environ


def _line(location: int | str, value: object) -> str:
    field = next(f for f in Settings.model_fields.values() if f.validation_alias == location)
    return f"{location} is {_shown(location, str(value))}: it must be {field.description}"


def _shown(location: int | str, value: str) -> str:
    """A setting's value as a line may show it: it may hold a secret, also where none belongs."""
    if location in SECRETS or "PRIVATE KEY" in value:
        return "(not shown)"
    return repr(masked(value) if location == "VELIB_API_URL" else value)[:200]


def _check_together(settings: Settings) -> None:
    """Rules that need more than one setting."""
    topics = {
        "VELIB_RAW_TOPIC": settings.raw_topic,
        "VELIB_FINAL_TOPIC": settings.final_topic,
        "VELIB_DEAD_LETTER_TOPIC": settings.dead_letter_topic,
        "VELIB_STATION_TOPIC": settings.station_topic,
    }
    if len(set(topics.values())) < len(topics):
        raise BadSetting(
            f"{', '.join(topics)} are {', '.join(map(repr, topics.values()))}:"
            " they must be four different topics"
        )
    if settings.security_protocol.startswith("SASL_"):
        for variable, value in (
            ("KAFKA_SASL_MECHANISM", settings.sasl_mechanism),
            ("KAFKA_SASL_USERNAME", settings.sasl_username),
            ("KAFKA_SASL_PASSWORD", settings.sasl_password),
        ):
            if value is None:
                raise BadSetting(
                    f"{variable} is not set:"
                    f" KAFKA_SECURITY_PROTOCOL={settings.security_protocol} needs it"
                )
    _check_key_pair(settings.ssl_certfile, settings.ssl_keyfile)


def _check_key_pair(certfile: Path | None, keyfile: Path | None) -> None:
    if certfile and not keyfile:
        raise BadSetting("KAFKA_SSL_KEYFILE is not set: KAFKA_SSL_CERTFILE needs it")
    if keyfile and not certfile:
        raise BadSetting("KAFKA_SSL_CERTFILE is not set: KAFKA_SSL_KEYFILE needs it")
    if certfile:
        try:
            ssl.create_default_context().load_cert_chain(certfile, keyfile)
        except ssl.SSLError as error:
            raise BadSetting(
                f"KAFKA_SSL_KEYFILE is {str(keyfile)!r}: it must be the key of the certificate"
                f" in KAFKA_SSL_CERTFILE ({error.reason})"
            ) from None
