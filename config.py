"""Every setting of the pipeline, from the environment or a `.env` file: checked, with its default.

No other file reads a setting from the environment. `load()` returns the settings or raises
BadSetting, whose text has a line for each bad value: the variable, its value (never a secret's) and
what is allowed.
"""

import os
import re
import ssl
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

import pydantic
from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationInfo
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

ALL = "all"
CLOCK_TOLERANCE = 3600  # seconds that a snapshot may be ahead of the clock that it is compared with


class BadSetting(Exception):
    """A setting that cannot be used. The text names the variable, its value and what is allowed."""

    status = 2
    """The exit status of the script."""


def _require(condition: object) -> None:
    """Raise ValueError unless the condition holds. pydantic then reports the value, and `_message`
    what is allowed.
    """
    if not condition:
        raise ValueError


def _check_url(text: str) -> str:
    url = urlsplit(text)
    _require(url.scheme in ("http", "https") and url.port != 0 and not re.search(r"\s", text))
    # Raises UnicodeError, a ValueError, if a part between two dots is empty or over 63 letters.
    host = (url.hostname or "").encode("idna")
    _require(0 < len(host) <= 253)
    return text


def _to_servers(text: str) -> str:
    servers = [server.strip() for server in text.split(",")]
    for server in servers:
        _require(re.fullmatch(r"([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]):[0-9]{1,5}", server))
        _check_url(f"http://{server}")
    return ",".join(servers)


def _check_key(key: SecretStr) -> SecretStr:
    """The key is sent as the value of an HTTP header."""
    _require(re.fullmatch(r"[!-~]+", key.get_secret_value()))
    return key


def _to_stations(text: str) -> str | tuple[str, ...]:
    """Station codes as the feed writes them, without leading zeros; `all` stays as it is."""
    if text.strip().lower() == ALL:
        return ALL
    codes = [code.strip().lstrip("0") for code in text.split(",")]
    _require(all(re.fullmatch(r"[0-9]+(_[A-Za-z0-9_]+)?", code) for code in codes))
    return tuple(dict.fromkeys(codes))


def _to_cache_dir(path: Path) -> Path:
    """The absolute path; if this user has no home, `~` is kept, and velib/jars.py refuses it."""
    # `:` would end the path in Java's class path, `,` in Spark's list of jars; to Ivy, brackets are
    # part of a pattern.
    _require(not re.search(r"[:,()\[\]]", str(path)))
    with suppress(RuntimeError):
        return path.expanduser().absolute()
    return path


def _check_readable(path: Path) -> Path:
    _require(os.access(path, os.R_OK) and path.is_file())
    return path


def _check_certificates(path: Path) -> Path:
    try:
        ssl.create_default_context(cafile=_check_readable(path))
    except ssl.SSLError:  # a file of another kind, such as a Java keystore
        raise ValueError from None
    return path


def _check_private_key(path: Path) -> Path:
    """Java reads a PEM key only as PKCS#8, and there is no setting for the password of a key."""
    _require("-----BEGIN PRIVATE KEY-----" in _check_readable(path).read_text(errors="replace"))
    return path


Topic = Annotated[
    str,
    Field(
        pattern=r"^(\.{0,2}[A-Za-z0-9_-]|\.{3})[A-Za-z0-9._-]*$",  # neither "." nor ".."
        max_length=249,
        description="a Kafka topic name: 1 to 249 letters, digits, '.', '_' or '-'",
    ),
]
Certificates = Annotated[Path, AfterValidator(_check_certificates)]
PrivateKey = Annotated[Path, AfterValidator(_check_private_key)]
_N = "[1-9][0-9]{0,4}"
SPARK_MASTER = (
    rf"^(local(\[(\*|{_N})( *, *{_N})?\])?|local-cluster\[ *{_N} *, *{_N} *, *{_N} *\]"
    r"|spark://\S+:[0-9]{1,5}|yarn|k8s://\S+)$"
)


class _Environment(BaseSettings):
    """Settings read from the environment or `.env`. The description of a field is what its error
    message says is allowed.
    """

    model_config = SettingsConfigDict(
        env_file=".env",
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,
        validate_default=False,
    )

    @pydantic.field_validator("*", mode="before")
    @classmethod
    def _check_text(cls, value: object, info: ValidationInfo) -> object:
        """Refuse a value that is not UTF-8; an empty value unsets an optional setting."""
        str(value).encode()  # raises UnicodeError, a ValueError
        default = cls.model_fields[str(info.field_name)].default
        is_optional = default is None or isinstance(default, Path)
        return default if value == "" and is_optional else value


class KafkaSettings(_Environment):
    """How to reach Kafka: the variables KAFKA_BOOTSTRAP_SERVERS and so on."""

    model_config = SettingsConfigDict(env_prefix="KAFKA_")

    bootstrap_servers: Annotated[str, AfterValidator(_to_servers)] = Field(
        "localhost:9092", description="host:port, or several separated by commas"
    )
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT", description="PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL"
    )
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] | None = Field(
        None, description="PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512"
    )
    sasl_username: str | None = Field(None, description="a user name")
    sasl_password: SecretStr | None = Field(None, description="a password")
    ssl_cafile: Certificates | None = Field(
        None, description="a readable file of CA certificates (PEM)"
    )
    ssl_certfile: Certificates | None = Field(
        None, description="a readable file with the certificate of this client (PEM)"
    )
    ssl_keyfile: PrivateKey | None = Field(
        None,
        description="a readable PEM file with the key of KAFKA_SSL_CERTFILE, PKCS#8 without a"
        " password (`openssl pkcs8 -topk8 -nocrypt -in KEY -out NEW` converts another key)",
    )


class Settings(_Environment):
    """All settings: the variables VELIB_API_URL and so on, and KafkaSettings."""

    model_config = SettingsConfigDict(env_prefix="VELIB_")

    api_url: Annotated[str, AfterValidator(_check_url)] = Field(
        "https://velib-metropole-opendata.smovengo.cloud/opendata/Velib_Metropole",
        description="a URL that starts with http:// or https://",
    )
    api_key: Annotated[SecretStr, AfterValidator(_check_key)] | None = Field(
        None, description="ASCII letters, digits and punctuation, without spaces"
    )
    stations: Annotated[
        tuple[str, ...] | Literal["all"], NoDecode, BeforeValidator(_to_stations)
    ] = Field(
        ("16107", "32017"),
        description="station codes separated by commas, such as 16107,32017, or the word all",
    )
    poll_seconds: float = Field(
        60, ge=0.1, le=86400, description="a number of seconds from 0.1 to 86400"
    )
    raw_topic: Topic = "velib-projet"
    final_topic: Topic = "velib-projet-final-data"
    dead_letter_topic: Topic = "velib-projet-dead-letters"
    station_topic: Topic = "velib-projet-stations"
    checkpoint_dir: str = Field(
        ".velib/checkpoint",
        pattern=r"^\S(.*\S)?$",
        description="a folder, or an object-store URL such as s3a://bucket/folder",
    )
    watermark: str = Field(
        "10 minutes",
        pattern="^[1-9][0-9]{0,6} (second|minute|hour|day)s?$",
        description="a number and a unit, such as '10 minutes' (seconds, minutes, hours or days)",
    )
    spark_master: str = Field(
        "local[*]",
        pattern=SPARK_MASTER,
        description="a Spark master: local[*], local[N] with N from 1, spark://host:port, yarn or"
        " k8s://host:port",
    )
    shuffle_partitions: Annotated[int, Field(ge=1, le=10_000)] | None = Field(
        None, description="a whole number from 1 to 10000, or empty for an automatic choice"
    )
    cache_dir: Annotated[Path, AfterValidator(_to_cache_dir)] = Field(
        Path("~/.cache/velib-projet"),
        validate_default=True,
        description="a folder whose path contains none of : , ( ) [ ]",
    )
    # The empty dictionary is validated as KafkaSettings: that reads the environment, and reports
    # Kafka's bad values together with the others.
    kafka: Annotated[KafkaSettings, NoDecode] = Field(
        default_factory=dict,
        validate_default=True,
        description="unset: Kafka's settings are KAFKA_BOOTSTRAP_SERVERS and so on",
    )


def load() -> Settings:
    """The settings of this process; raises BadSetting."""
    try:
        settings = Settings()
    except pydantic.ValidationError as error:
        raise BadSetting("\n".join(map(_message, error.errors()))) from None
    except UnicodeDecodeError:
        raise BadSetting("The file .env is not UTF-8 text: save it as UTF-8") from None
    _check_together(settings, settings.kafka)
    return settings


def variables() -> dict[str, FieldInfo]:
    """The field of each environment variable."""
    velib = {f"VELIB_{name.upper()}": field for name, field in Settings.model_fields.items()}
    kafka = {f"KAFKA_{name.upper()}": field for name, field in KafkaSettings.model_fields.items()}
    del velib["VELIB_KAFKA"]
    return velib | kafka


def checkpoint_folder(settings: Settings) -> Path | None:
    """VELIB_CHECKPOINT_DIR as a path; None if it is the URL of an object store.

    The Hadoop of a cluster may keep a path without a scheme elsewhere, such as in HDFS.
    """
    path = re.sub("^file:/+", "/", settings.checkpoint_dir)
    has_scheme = ":" in path.partition("/")[0]
    return None if has_scheme else Path(path)


def under_spark_submit() -> bool:
    """Whether `spark-submit` started this process: it then decides master, packages and memory."""
    return "PYSPARK_GATEWAY_PORT" in os.environ


def masked(url: str) -> str:
    """The URL without what may be secret: user information, query string and fragment."""
    match = re.match(r"\w+://", url)
    scheme = match[0] if match else ""
    rest = url.removeprefix(scheme)
    shown = re.sub(r"^[^?#]*@", "***@", rest)
    if not re.match(r"(\*\*\*@)?(\[[^/?#@]*\]|[^/?#@:]*)(:\d*)?([/?#]|$)", shown):
        # What precedes the first `?` or `#` is not a host and port, so that `?` or `#` is part of
        # a password.
        shown = re.sub(r"(?s)^.*@", "***@", rest)
    return scheme + re.sub(r"(?s)([?#]).*", r"\1***", shown)


def _message(error: ErrorDetails) -> str:
    *group, name = error["loc"]  # ("stations",) or ("kafka", "bootstrap_servers")
    fields = (KafkaSettings if group else Settings).model_fields
    variable = f"{'KAFKA' if group else 'VELIB'}_{name}".upper()
    value = _without_secret(variable, str(error["input"]))
    return f"{variable} is {value}: it must be {fields[str(name)].description}"


def _without_secret(variable: str, value: str) -> str:
    """A value without secrets: any setting may contain one by mistake."""
    if variable in ("VELIB_API_KEY", "KAFKA_SASL_PASSWORD") or "PRIVATE KEY" in value:
        return "(not shown)"
    is_address = variable in ("VELIB_API_URL", "KAFKA_BOOTSTRAP_SERVERS")
    return repr(masked(value) if is_address else value)[:200]


def _check_together(settings: Settings, kafka: KafkaSettings) -> None:
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
    if kafka.security_protocol.startswith("SASL_"):
        for name in ("sasl_mechanism", "sasl_username", "sasl_password"):
            _check_is_set(kafka, name, f"KAFKA_SECURITY_PROTOCOL={kafka.security_protocol}")
    if kafka.ssl_certfile or kafka.ssl_keyfile:
        _check_is_set(kafka, "ssl_keyfile", "KAFKA_SSL_CERTFILE")
        _check_is_set(kafka, "ssl_certfile", "KAFKA_SSL_KEYFILE")
    if kafka.ssl_certfile:
        try:
            ssl.create_default_context().load_cert_chain(kafka.ssl_certfile, kafka.ssl_keyfile)
        except ssl.SSLError as error:
            raise BadSetting(
                f"KAFKA_SSL_KEYFILE is {str(kafka.ssl_keyfile)!r}: it must be the key of the"
                f" certificate in KAFKA_SSL_CERTFILE ({error.reason})"
            ) from None


def _check_is_set(kafka: KafkaSettings, name: str, because_of: str) -> None:
    if getattr(kafka, name) is None:
        raise BadSetting(f"KAFKA_{name.upper()} is not set: {because_of} needs it")
