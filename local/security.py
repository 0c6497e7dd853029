"""What a secure Kafka on this machine needs: a CA and a certificate, a user for each script, and what each user may do.

Everything is made once, in a folder that only its owner can read. No password is ever on a command line: Java's tools read
them from files, and the scripts from the environment.
"""

import secrets
import subprocess
from dataclasses import dataclass
from pathlib import Path

from kafka import KafkaAdminClient
from kafka.admin import ACL, ACLOperation, ACLPermissionType, ResourcePattern, ResourceType
from pydantic import SecretStr

from config import Settings
from velib import connection, topics
from velib.errors import Failure

ADMIN, PRODUCER, JOB, CONSUMER = "velib-admin", "velib-producer", "velib-spark", "velib-consumer"
SCRIPTS = {"kafka_project.py": PRODUCER, "spark.py": JOB, "consumer.py": CONSUMER}
BROKER = "velib-broker"  # the name in the brokers' certificate: by it they know each other
MECHANISM = "SCRAM-SHA-512"
YEARS_10 = "3650"  # days

PROPERTIES = """\
listeners=CLIENTS://127.0.0.1:{port},BROKERS://127.0.0.1:{broker_port},CONTROLLER://127.0.0.1:{controller_port}
advertised.listeners=CLIENTS://localhost:{port},BROKERS://127.0.0.1:{broker_port}
listener.security.protocol.map=CLIENTS:SASL_SSL,BROKERS:SSL,CONTROLLER:SSL
inter.broker.listener.name=BROKERS
sasl.enabled.mechanisms={mechanism}
listener.name.clients.{mechanism_key}.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.brokers.ssl.client.auth=required
listener.name.controller.ssl.client.auth=required
ssl.keystore.type=PKCS12
ssl.keystore.location={keystore}
ssl.keystore.password={password}
ssl.truststore.type=PEM
ssl.truststore.location={ca}
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:CN={broker};User:{admin}
"""
"""In front of these stand the properties of a Kafka without security: of two lines for one property the last counts."""


@dataclass(frozen=True)
class Security:
    """The folder with the certificates and the passwords of a secure Kafka."""

    directory: Path

    @property
    def ca(self) -> Path:
        """The certificate of the CA, for who wants to know whom he talks to."""
        return self.directory / "ca.pem"

    def password_file(self, user: str) -> Path:
        return self.directory / f"{user}.password"

    def password(self, user: str) -> str:
        return self.password_file(user).read_text()

    def make(self, java: str) -> None:
        """Make what is missing of the passwords and certificates; raises Failure."""
        self.directory.mkdir(mode=0o700, exist_ok=True)
        for user in (ADMIN, BROKER, *SCRIPTS.values()):
            if not self.password_file(user).exists():
                self.password_file(user).touch(mode=0o600)
                self.password_file(user).write_text(secrets.token_hex(20))
        if not self.ca.exists():
            self._make_certificates(str(Path(java).with_name("keytool")))

    def _make_certificates(self, keytool: str) -> None:
        """A CA, and a certificate for localhost that it has signed. Its key is not kept: it signs nothing else."""
        keys, broker = self.directory / "ca.p12", self.directory / "broker.p12"
        for store in (keys, broker):
            store.unlink(missing_ok=True)
        password = str(self.password_file(BROKER))
        pair = ["-genkeypair", "-keyalg", "EC", "-groupname", "secp256r1", "-validity", YEARS_10]
        store_of_keys = [
            "-keystore",
            str(keys),
            "-storetype",
            "PKCS12",
            "-storepass:file",
            password,
        ]
        commands = [
            [
                *pair,
                "-alias",
                "ca",
                "-dname",
                "CN=velib-ca",
                "-ext",
                "bc:c",
                "-ext",
                "ku:c=keyCertSign",
                *store_of_keys,
            ],
            [
                *[*pair, "-alias", "broker", "-dname", f"CN={BROKER}", "-signer", "ca"],
                *["-ext", "san=dns:localhost,ip:127.0.0.1", *store_of_keys],
            ],
            [
                *[
                    "-importkeystore",
                    "-noprompt",
                    "-srckeystore",
                    str(keys),
                    "-srcstorepass:file",
                    password,
                ],
                *[
                    "-srcalias",
                    "broker",
                    "-destkeystore",
                    str(broker),
                    "-deststorepass:file",
                    password,
                ],
            ],
            ["-exportcert", "-rfc", "-alias", "ca", "-file", str(self.ca), *store_of_keys],
        ]
        for command in commands:
            done = subprocess.run([keytool, *command], capture_output=True, text=True)
            if done.returncode != 0:
                raise Failure(
                    f"{keytool} made no certificate: {(done.stdout or done.stderr).strip()}"
                )
        keys.unlink()

    def properties(self, port: int, broker_port: int, controller_port: int) -> str:
        """What a node's configuration has besides."""
        return PROPERTIES.format(
            port=port,
            broker_port=broker_port,
            controller_port=controller_port,
            mechanism=MECHANISM,
            mechanism_key=MECHANISM.lower(),
            keystore=self.directory / "broker.p12",
            password=self.password(BROKER),
            ca=self.ca,
            broker=BROKER,
            admin=ADMIN,
        )

    def users(self) -> list[str]:
        """The users, as the tool that formats a data directory takes them."""
        return [
            f"{MECHANISM}=[name={user},password={self.password(user)}]"
            for user in (ADMIN, *SCRIPTS.values())
        ]

    def settings(self, servers: str, user: str) -> Settings:
        """The settings with which a user reaches this Kafka: those of the environment for the rest."""
        return Settings().model_copy(
            update={
                "bootstrap_servers": servers,
                "security_protocol": "SASL_SSL",
                "sasl_mechanism": MECHANISM,
                "sasl_username": user,
                "sasl_password": SecretStr(self.password(user)),
                "ssl_cafile": self.ca,
            }
        )

    def shown(self, servers: str) -> str:
        """The settings of each script as a shell takes them. A password stays in its file until then."""
        common = (
            f"export KAFKA_BOOTSTRAP_SERVERS={servers} KAFKA_SECURITY_PROTOCOL=SASL_SSL"
            f" KAFKA_SASL_MECHANISM={MECHANISM} KAFKA_SSL_CAFILE='{self.ca}'"
        )
        return "\n".join(
            f"# {script}\n{common} KAFKA_SASL_USERNAME={user} KAFKA_SASL_PASSWORD=\"$(cat '{self.password_file(user)}')\""
            for script, user in SCRIPTS.items()
        )


def rights(settings: Settings) -> list[tuple[str, ResourceType, str, ACLOperation]]:
    """What each script's user may do, and nothing more: user, resource, operation."""
    raw, final, dead = settings.raw_topic, settings.final_topic, settings.dead_letter_topic
    topic, read, write = ResourceType.TOPIC, ACLOperation.READ, ACLOperation.WRITE
    return [
        (PRODUCER, topic, raw, write),
        (PRODUCER, topic, raw, read),  # which snapshot is the last
        (PRODUCER, ResourceType.TRANSACTIONAL_ID, topics.transactional_id(settings), write),
        (JOB, topic, raw, read),
        (JOB, topic, final, write),
        (JOB, topic, dead, write),
        (CONSUMER, topic, final, read),
        (CONSUMER, topic, dead, read),
        # Whichever script starts first makes the topics.
        *[
            (user, topic, name, operation)
            for user in SCRIPTS.values()
            for name in (raw, final, dead)
            for operation in (ACLOperation.CREATE, ACLOperation.DESCRIBE)
        ],
    ]


def grant(admin: Settings, settings: Settings) -> None:
    """Give the scripts' users their rights on the topics of these settings; raises KafkaError."""
    with KafkaAdminClient(**connection.kafka_python_options(admin)) as client:
        client.create_acls(
            [
                ACL(
                    f"User:{user}",
                    "*",
                    operation,
                    ACLPermissionType.ALLOW,
                    ResourcePattern(resource, name),
                )
                for user, resource, name, operation in rights(settings)
            ]
        )
