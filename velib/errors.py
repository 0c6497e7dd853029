"""The errors that end a script, and what the errors of Kafka, Spark and Java mean for a user.

Imports only the standard library, because `local/setup.py` runs before anything is installed.
"""

import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from config import Settings

SPARK_LOG = ".velib/logs/spark-jvm.log"
MAX_CAUSE = 250  # characters; of a longer cause a message shows the beginning and the end


class Failure(Exception):
    """The script cannot continue. The text tells the user what is wrong and what to do."""

    status = 1
    """The exit status of the script."""


class JavaMissing(Failure):
    """No Java that can run Spark and Kafka was found. The text says how to install one."""


class Known(NamedTuple):
    """An error for which there is a message."""

    pattern: str
    """A regular expression that occurs in the name of the error or in what it says."""
    message: str
    """`describe` fills in its fields; `{0}` is the first group of the pattern."""
    is_retriable: bool = False


KNOWN = (
    # Connecting to Kafka. kafka-python only logs these; in Spark they are Java's exceptions.
    Known(
        r"SaslAuthentication(Failed|E)",
        "{kafka} does not know this KAFKA_SASL_USERNAME with this KAFKA_SASL_PASSWORD",
    ),
    Known(r"UnsupportedSaslMechanism", "{kafka} does not offer this KAFKA_SASL_MECHANISM"),
    Known(
        r"certificate has expired|CertificateExpired",
        "{kafka} has a certificate that has expired, or this machine's clock is wrong",
    ),
    Known(
        r"certificate is not yet valid|CertificateNotYetValid",
        "{kafka} has a certificate that is not valid yet, or this machine's clock is wrong",
    ),
    Known(
        r"certificate is not valid for '(.*?)'",
        "{kafka} has a certificate that is not for the name {0}: use the name in the certificate",
    ),
    Known(
        r"CERTIFICATE_VERIFY_FAILED|PKIX path",
        "{kafka} has a certificate that is not signed by a CA in KAFKA_SSL_CAFILE",
    ),
    Known(r"WRONG_VERSION_NUMBER", "{kafka} does not speak TLS: correct KAFKA_SECURITY_PROTOCOL"),
    Known(
        r"ALERT_(BAD_CERTIFICATE|CERTIFICATE|UNKNOWN_CA|HANDSHAKE_FAILURE)",
        "{kafka} requires a client certificate:"
        " set KAFKA_SSL_CERTFILE and KAFKA_SSL_KEYFILE to one that it trusts",
    ),
    Known(r"Invalid frame length", "{kafka} does not speak this KAFKA_SECURITY_PROTOCOL"),
    # Requests that Kafka refuses however often they are sent.
    Known(
        r"InvalidTransactionTimeout",
        "{refused}: its transaction.max.timeout.ms is below the 20000 ms that a transaction of"
        " kafka_project.py may take: raise it",
    ),
    Known(
        r"(MessageSize|RecordList|Record)TooLarge",
        "{refused}: a record is larger than the topic's max.message.bytes: raise that limit",
    ),
    Known(r"(Not authorized.*)", "{refused}: {0}"),
    Known(
        r"(Authorization|SslAuthentication|SecurityDisabled|PolicyViolation|UnsupportedVersion"
        r"|IncompatibleBroker|Invalid(Config|Topic|Partitions|Record)"
        r"|Unsupported(ForMessageFormat|Compression|Codec))\w*(Error|Exception|Version)\b",
        "{refused}: {error}",
    ),
    # The job's checkpoint, and the Spark and Java on this machine.
    Known(
        r"offset was changed|are gone|out of range for partition|OffsetOutOfRangeException"
        r"|failOnDataLoss|KAFKA_DATA_LOSS"
        r"|STATE_STORE_\w*(SCHEMA|ROW_FORMAT|AFTER_RESTART|NOT_EMPTY)"
        r"|SCHEMA_NOT_COMPATIBLE|sources in the checkpoint",
        "{mismatch}",
    ),
    Known(
        r"Mkdirs failed|ParentNotDirectory|\((Permission denied|Read-only file system)\)"
        r"|AccessControlException|AccessDenied",
        "The checkpoint {checkpoint} cannot be written: {error}",
    ),
    Known(
        r"Failed to find (the )?data source: kafka|DATA_SOURCE_NOT_FOUND",
        "Spark has no Kafka connector: add the --packages that the first lines of spark.py show",
    ),
    Known(
        r"UnsatisfiedLinkError",
        "Java is not allowed to load libraries from its temporary folder, /tmp: choose another one"
        " with JAVA_TOOL_OPTIONS=-Djava.io.tmpdir=FOLDER",
    ),
    Known(
        r"BindException.*Cannot assign requested address",
        "Spark did not start ({error}): set SPARK_LOCAL_IP to an address of this machine",
    ),
    Known(
        r"Invalid UID",
        "Spark did not start: the user id of this process has no entry in /etc/passwd: add one",
    ),
    Known(
        r"Error loading java.security",
        "Java did not start ({error}): allow more open files with `ulimit -n 4096`",
    ),
    Known(
        r"^(Py4JNetworkError|Connection\w*Error|BrokenPipeError)",
        f"Spark's Java process has ended: see {SPARK_LOG}",
    ),
    # Errors that a retry may fix.
    Known(
        r"No space left on device",
        "The disk of {checkpoint} or of Spark's temporary files (/tmp or SPARK_LOCAL_DIRS) is full:"
        " make room",
        is_retriable=True,
    ),
    Known(
        r"KafkaTimeoutError|RequestTimedOut|kafka\.common\.errors\.(Timeout|Disconnect)"
        r"|Cannot fetch record|No resolvable bootstrap urls",
        "{kafka} does not answer",
        is_retriable=True,
    ),
    Known(r"UnknownTopicOrPartition", "{kafka} does not know the topic", is_retriable=True),
    Known(
        r"UnknownHostException",
        "A host name cannot be resolved ({error}):"
        " correct VELIB_CHECKPOINT_DIR, spark-defaults.conf or core-site.xml",
        is_retriable=True,
    ),
)
"""The errors that have a message; the first pattern that matches counts.

Whatever is not listed is retried: a reconnect, or a restart of the query, fixes many errors that
Kafka calls final.
"""

CAUSES = (
    r"(?s:.*)^Caused by: (.+)",  # Java's own, the last one
    r"^An error occurred while calling .*\n: (.+)",
    r'^Exception in thread "[^"]+" (.+)',
    r" ERROR \S+: (.+)",  # Spark's log
    r"^\s+Server access error at url \S+ \((.+)\)",  # Ivy
    r"^:::: WARNINGS\s+(.+?)\.?(?: url=.*)?$",
    r"^(?!Picked up|WARNING|NOTE)(.*\S.*)",
)
"""The patterns of a cause in a text; the first one that matches counts."""


def is_retriable(error: Exception | str) -> bool:
    """Whether a retry may succeed. True for an error without an entry in KNOWN."""
    known = _find(error)
    return known is None or known[0].is_retriable


def is_known(error: Exception | str) -> bool:
    """Whether KNOWN has a message for the error."""
    return _find(error) is not None


def describe(error: Exception | str, settings: "Settings", unknown: str = "{error}") -> str:
    """One line that tells the user what an error, or the text of a log, means.

    Without an entry in KNOWN the line is `unknown`; its field `{error}` is what `cause` returns.
    """
    known, groups = _find(error) or (Known("", unknown), ())
    kafka = f"Kafka at {settings.kafka.bootstrap_servers}"
    user = f" the user {settings.kafka.sasl_username}" if settings.kafka.sasl_username else ""
    recreated = (
        "the job has changed, or the topic was recreated or has lost records that were not read yet"
    )
    return known.message.format(
        *groups,
        error=cause(error),
        kafka=kafka,
        refused=f"{kafka} refused{user}",
        checkpoint=settings.checkpoint_dir,
        mismatch=mismatch(settings, recreated),
    )


def mismatch(settings: "Settings", reason: str) -> str:
    """The message for a checkpoint with which the job cannot continue."""
    return (
        f"The checkpoint {settings.checkpoint_dir} does not fit the topic {settings.raw_topic}:"
        f" {reason}. To start over from the topic's earliest record, type:"
        " python spark.py --reset-checkpoint"
    )


def cause(error: Exception | str) -> str:
    """The most informative line of an error or of a log: for Java the last `Caused by`."""
    found = (re.search(pattern, _text(error), re.MULTILINE) for pattern in CAUSES)
    nothing = "no reason is given" if isinstance(error, str) else type(error).__name__
    line = next((match[1] for match in found if match), nothing)
    # The packages of Java's exceptions and Kafka's error numbers tell a user nothing.
    line = re.sub(r"\b([a-z]\w*\.)+(?=[A-Z]\w*(Error|Exception)\b)|^\[Error -?\d+\] ", "", line)
    line = re.sub(r" SQLSTATE: .*", "", line).strip()
    half = MAX_CAUSE // 2
    return line if len(line) <= MAX_CAUSE else f"{line[:half]} … {line[-half:]}"


def _find(error: Exception | str) -> tuple[Known, tuple[str, ...]] | None:
    """The first entry of KNOWN that fits, with the groups of its pattern."""
    text = f"{type(error).__name__}: {_text(error)}"
    text = re.sub(r"\n\s+at .*", "", text)  # method names do not say what went wrong
    for known in KNOWN:
        if match := re.search(known.pattern, text):
            return known, match.groups("")
    return None


def _text(error: Exception | str) -> str:
    """The text of an error, with the Java causes that an exception of Spark leaves out."""
    spark_cause = getattr(error, "_cause", None)
    return f"{error}\nCaused by: {spark_cause._stackTrace}" if spark_cause else str(error)
