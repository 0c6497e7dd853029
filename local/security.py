"""What a secure Kafka on this machine needs: certificates, a user for each script, and ACLs.

Everything is created once, in a folder that only its owner can read. No password is ever on a
command line: Java's tools read them from files, and the scripts from the environment.
"""

import os
import secrets
import shlex
import subprocess
from dataclasses import dataclass
from pathlib import Path

from kafka.admin import (
    ACL,
    ACLOperation,
    ACLPermissionType,
    ResourcePattern,
    ResourceType,
    ScramMechanism,
    UserScramCredentialUpsertion,
)
from kafka.errors import KafkaError
from pydantic import SecretStr

from config import KafkaSettings, Settings
from velib.errors import Failure
from velib.java import LOCALE
from velib.kafka import clients, membership, topics

ADMIN, PRODUCER, JOB, CONSUMER = "velib-admin", "velib-producer", "velib-spark", "velib-consumer"
DASHBOARD = "velib-dashboard"
SCRIPTS = {
    "kafka_project.py": PRODUCER,
    "spark.py": JOB,
    "consumer.py": CONSUMER,
    "dashboard.py": DASHBOARD,
}
BROKER = "velib-broker"  # the name in the certificate with which the brokers trust each other
MECHANISM = "SCRAM-SHA-512"
TEN_YEARS = "3650"  # days

PROPERTIES = """\
listeners=CLIENTS://127.0.0.1:{port},BROKERS://127.0.0.1:{broker_port},CONTROLLER://127.0.0.1:{controller_port}
advertised.listeners=CLIENTS://localhost:{port},BROKERS://127.0.0.1:{broker_port}
listener.security.protocol.map=CLIENTS:SASL_SSL,BROKERS:SSL,CONTROLLER:SSL
inter.broker.listener.name=BROKERS
sasl.enabled.mechanisms={mechanism}
listener.name.clients.{mechanism_key}.sasl.jaas.config={login_module} required;
listener.name.brokers.ssl.client.auth=required
listener.name.controller.ssl.client.auth=required
ssl.keystore.type=PKCS12
ssl.keystore.location={folder}/broker.p12
ssl.keystore.password={password}
ssl.truststore.type=PEM
ssl.truststore.location={folder}/ca.pem
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:CN={broker};User:{admin}
"""
"""Appended to the properties without security: of two lines for a property the last counts."""


@dataclass(frozen=True)
class Security:
    """The folder with the certificates and passwords of a secure Kafka."""

    directory: Path

    @property
    def ca(self) -> Path:
        """The certificate (PEM) of the CA that has signed the brokers' certificate."""
        return self.directory / "ca.pem"

    def password_file(self, user: str) -> Path:
        """The file with a user's password."""
        return self.directory / f"{user}.password"

    def password(self, user: str) -> str:
        """A user's password."""
        return self.password_file(user).read_text()

    def make(self, java: str) -> None:
        """Create the missing passwords and certificates, with Java's keytool; raises Failure."""
        self.directory.mkdir(mode=0o700, exist_ok=True)
        for user in (ADMIN, BROKER, *SCRIPTS.values()):
            file = self.password_file(user)
            if not file.exists():
                file.touch(mode=0o600)
                file.write_text(secrets.token_hex(20))
        if not self.ca.exists():
            self._make_certificates(str(Path(java).with_name("keytool")))

    def _make_certificates(self, keytool: str) -> None:
        """Create a CA, and a certificate for localhost that it has signed.

        The CA's key is not kept: it signs nothing else.
        """
        keys, broker = self.directory / "ca.p12", self.directory / "broker.p12"
        for store in (keys, broker):
            store.unlink(missing_ok=True)
        password = str(self.password_file(BROKER))
        pair = ["-genkeypair", "-keyalg", "EC", "-groupname", "secp256r1", "-validity", TEN_YEARS]
        ca = ["-alias", "ca", "-dname", "CN=velib-ca", "-ext", "bc:c", "-ext", "ku:c=keyCertSign"]
        signed = ["-alias", "broker", "-dname", f"CN={BROKER}", "-signer", "ca"]
        hosts = ["-ext", "san=dns:localhost,ip:127.0.0.1"]
        in_keys = ["-keystore", str(keys), "-storetype", "PKCS12", "-storepass:file", password]
        source = ["-srckeystore", str(keys), "-srcstorepass:file", password, "-srcalias", "broker"]
        target = ["-destkeystore", str(broker), "-deststorepass:file", password]
        for arguments in (
            [*pair, *ca, *in_keys],
            [*pair, *signed, *hosts, *in_keys],
            ["-importkeystore", "-noprompt", *source, *target],
            ["-exportcert", "-rfc", "-alias", "ca", "-file", str(self.ca), *in_keys],
        ):
            done = subprocess.run(
                [keytool, *arguments],
                env=os.environ | LOCALE,
                capture_output=True,
                text=True,
                errors="replace",
            )
            if done.returncode != 0:
                cause = (done.stdout or done.stderr).strip()
                raise Failure(f"{keytool} created no certificate: {cause}")
        keys.unlink()

    def properties(self, folder: str, port: int, broker_port: int, controller_port: int) -> str:
        """The properties that secure a node; `folder` is this directory, relative to the node's."""
        return PROPERTIES.format(
            folder=folder,
            port=port,
            broker_port=broker_port,
            controller_port=controller_port,
            mechanism=MECHANISM,
            mechanism_key=MECHANISM.lower(),
            login_module="org.apache.kafka.common.security.scram.ScramLoginModule",
            password=self.password(BROKER),
            broker=BROKER,
            admin=ADMIN,
        )

    def administrator(self) -> str:
        """The user who creates the others, in the form that Kafka's StorageTool expects."""
        return f"{MECHANISM}=[name={ADMIN},password={self.password(ADMIN)}]"

    def make_users(self, admin: Settings) -> None:
        """Create a user for each script, as the administrator; raises KafkaError.

        An older data directory may lack the user of a new script.
        """
        users = [
            UserScramCredentialUpsertion(
                user, ScramMechanism.SCRAM_SHA_512, password=self.password(user), iterations=4096
            )
            for user in SCRIPTS.values()
        ]
        with clients.Admin(admin) as client:
            failures = client.alter_user_scram_credentials(users)
        for user, failure in failures.items():
            if failure is not None:
                raise KafkaError(f"{user}: {failure}")

    def settings(self, servers: str, user: str) -> Settings:
        """The settings with which a user reaches this Kafka; the others are the environment's."""
        return Settings(
            kafka=KafkaSettings(
                bootstrap_servers=servers,
                security_protocol="SASL_SSL",
                sasl_mechanism=MECHANISM,
                sasl_username=user,
                sasl_password=SecretStr(self.password(user)),
                ssl_cafile=self.ca,
            )
        )

    def exports(self, servers: str) -> str:
        """The settings of each script, as shell commands that read its password from its file."""
        common = (
            f"export KAFKA_BOOTSTRAP_SERVERS={servers} KAFKA_SECURITY_PROTOCOL=SASL_SSL"
            f" KAFKA_SASL_MECHANISM={MECHANISM} KAFKA_SSL_CAFILE={shlex.quote(str(self.ca))}"
        )
        return "\n".join(
            f"# {script}\n{common} KAFKA_SASL_USERNAME={user}"
            f' KAFKA_SASL_PASSWORD="$(cat {shlex.quote(str(self.password_file(user)))})"'
            for script, user in SCRIPTS.items()
        )


def rights(settings: Settings) -> list[tuple[str, ResourceType, str, ACLOperation]]:
    """What each script's user may do, and nothing more: user, resource, its name, operation."""
    raw, final, dead_letters = settings.raw_topic, settings.final_topic, settings.dead_letter_topic
    stations = settings.station_topic
    producers = membership.group(settings)
    topic, group = ResourceType.TOPIC, ResourceType.GROUP
    read, write = ACLOperation.READ, ACLOperation.WRITE
    return [
        (PRODUCER, topic, raw, write),
        (PRODUCER, topic, raw, read),  # which snapshot was published last
        (PRODUCER, topic, raw, ACLOperation.DESCRIBE_CONFIGS),  # whether it is compacted
        (PRODUCER, topic, stations, write),
        (PRODUCER, topic, stations, read),  # what has changed since
        (PRODUCER, ResourceType.TRANSACTIONAL_ID, topics.transactional_id(settings), write),
        (PRODUCER, ResourceType.TRANSACTIONAL_ID, topics.positions_id(settings), write),
        (PRODUCER, group, producers, read),  # which Kafka requires of a member
        (JOB, topic, raw, read),
        (JOB, topic, raw, ACLOperation.DESCRIBE_CONFIGS),
        (JOB, topic, final, write),
        (JOB, topic, dead_letters, write),
        (CONSUMER, topic, final, read),
        (CONSUMER, topic, dead_letters, read),
        *[(DASHBOARD, topic, name, read) for name in (raw, final, dead_letters, stations)],
        (DASHBOARD, group, producers, ACLOperation.DESCRIBE),
        # Whichever of these starts first creates the topics; the consumer waits for its own.
        *[
            (user, topic, name, operation)
            for user in (PRODUCER, JOB, DASHBOARD)
            for name in (raw, final, dead_letters, stations)
            for operation in (ACLOperation.CREATE, ACLOperation.DESCRIBE)
        ],
    ]


def grant(admin: Settings, settings: Settings) -> None:
    """Give the scripts' users their rights on the topics of these settings; raises KafkaError.

    `admin` are the settings with which the administrator reaches Kafka.
    """
    allow = ACLPermissionType.ALLOW
    with clients.Admin(admin) as client:
        client.create_acls(
            [
                ACL(f"User:{user}", "*", operation, allow, ResourcePattern(resource, name))
                for user, resource, name, operation in rights(settings)
            ]
        )
