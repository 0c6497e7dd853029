"""A user whom Kafka refuses is told so in one line, soon, and no secret shows.

The other integration tests run on the same secure Kafka.
"""

import time
from pathlib import Path

import pytest
from kafka import KafkaAdminClient
from kafka.admin import (
    ACL,
    ACLOperation,
    ACLPermissionType,
    ResourcePattern,
    ResourceType,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

from local.broker import free_port
from local.security import CONSUMER, PRODUCER, SCRIPTS, Security
from tests.expected import feed, station
from tests.in_process import RunJob
from tests.pipeline import Pipeline, Script
from velib import java
from velib.errors import Failure
from velib.kafka import raw_topic


def _options(name: str) -> list[str]:
    """A port of its own for the script that listens on one."""
    return ["--port", str(free_port())] if name == "dashboard.py" else []


def _is_refused(script: Script, line: str) -> None:
    """The script ends by itself, soon, with one error line."""
    started = time.monotonic()
    assert script.end() == 1
    assert time.monotonic() - started < 45
    (error,) = [line for line in script.log().splitlines() if " ERROR " in line]
    assert line in error


def test_a_wrong_password_is_one_line_without_the_password(
    pipeline: Pipeline, run_job: RunJob
) -> None:
    wrong = {"KAFKA_SASL_PASSWORD": "not-the-one"}
    line = "does not know this KAFKA_SASL_USERNAME with this KAFKA_SASL_PASSWORD"
    others = [name for name in SCRIPTS if name != "spark.py"]
    scripts = [pipeline.start(name, *_options(name), **wrong) for name in others]
    with pytest.raises(Failure, match=line) as refusal:
        run_job(**wrong)
    assert "not-the-one" not in str(refusal.value)
    for script in scripts:
        _is_refused(script, line)
        assert "not-the-one" not in script.log()


def test_a_certificate_of_another_authority_is_one_line(pipeline: Pipeline, tmp_path: Path) -> None:
    other = Security(tmp_path / "other")
    other.make(java.find())
    names = ("kafka_project.py", "consumer.py")
    for script in [pipeline.start(name, KAFKA_SSL_CAFILE=str(other.ca)) for name in names]:
        _is_refused(script, "is not signed by a CA in KAFKA_SSL_CAFILE")


def test_a_wrong_protocol_or_mechanism_is_one_line(pipeline: Pipeline) -> None:
    mechanism = pipeline.start("consumer.py", KAFKA_SASL_MECHANISM="PLAIN")
    protocols = [
        pipeline.start("consumer.py", KAFKA_SECURITY_PROTOCOL=protocol)
        for protocol in ("SASL_PLAINTEXT", "PLAINTEXT")
    ]
    _is_refused(mechanism, "does not offer this KAFKA_SASL_MECHANISM")
    for script in protocols:
        _is_refused(script, "does not speak this KAFKA_SECURITY_PROTOCOL")


def _as(pipeline: Pipeline, user: str) -> dict[str, str]:
    assert pipeline.security is not None
    return {"KAFKA_SASL_USERNAME": user, "KAFKA_SASL_PASSWORD": pipeline.security.password(user)}


def test_a_missing_right_is_one_line_that_names_it(pipeline: Pipeline, run_job: RunJob) -> None:
    pipeline.serve_api().put(feed(int(time.time()), station()))
    pipeline.publish_once()
    final = pipeline.settings.final_topic
    producer = pipeline.start("kafka_project.py", **_as(pipeline, CONSUMER))
    _is_refused(producer, f"refused the user {CONSUMER}: ")
    with pytest.raises(Failure, match=rf"{PRODUCER}: Not authorized to access topics: \[{final}\]"):
        run_job(**_as(pipeline, PRODUCER))
    consumer = pipeline.start("consumer.py", **_as(pipeline, PRODUCER))
    _is_refused(consumer, final)


def test_a_compacted_raw_topic_is_refused_by_users_who_may_read_its_configuration(
    pipeline: Pipeline,
) -> None:
    topic = pipeline.settings.raw_topic
    with KafkaAdminClient(**pipeline.client) as admin:
        admin.create_topics({topic: {"configs": {"cleanup.policy": "compact,delete"}}})
    assert pipeline.security is not None
    servers = pipeline.settings.kafka.bootstrap_servers
    producer, consumer = (
        pipeline.security.settings(servers, user).model_copy(update={"raw_topic": topic})
        for user in (PRODUCER, CONSUMER)
    )
    with pytest.raises(Failure, match=f"{topic} has cleanup.policy=compact,delete"):
        raw_topic.refuse_compaction(producer)
    raw_topic.refuse_compaction(consumer)


def test_a_password_with_quotes_and_accents_reaches_kafka_through_every_script(
    pipeline: Pipeline, run_job: RunJob
) -> None:
    user = 'the "new\\job"'  # in ASCII: SCRAM in Kafka takes no other user names
    password = "mot \"de\\passe' à 5 €;"
    with KafkaAdminClient(**pipeline.client) as admin:
        credential = UserScramCredentialUpsertion(
            user, ScramMechanism.SCRAM_SHA_512, password=password, iterations=4096
        )
        assert admin.alter_user_scram_credentials([credential]) == {user: None}
        admin.create_acls(
            [
                ACL(
                    f"User:{user}",
                    "*",
                    ACLOperation.ALL,
                    ACLPermissionType.ALLOW,
                    ResourcePattern(kind, "*"),
                )
                for kind in (ResourceType.TOPIC, ResourceType.TRANSACTIONAL_ID)
            ]
        )
    login = {"KAFKA_SASL_USERNAME": user, "KAFKA_SASL_PASSWORD": password}
    pipeline.serve_api().put(feed(int(time.time()), station()))
    assert pipeline.start("kafka_project.py", "--once", **login).end() == 0
    run_job(**login)
    consumer = pipeline.start("consumer.py", "--max-messages", "1", **login)
    assert consumer.end() == 0
    assert len(consumer.printed()) == 1
