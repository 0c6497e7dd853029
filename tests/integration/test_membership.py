"""A producer is a member of a consumer group, by which the page knows whether one runs."""

import time
import urllib.request

from kafka import KafkaAdminClient
from kafka.admin import ACL, ACLOperation, ACLPermissionType, ResourcePattern, ResourceType
from kafka.errors import CoordinatorNotAvailableError

from local.broker import free_port
from local.day import Day
from local.security import DASHBOARD, PRODUCER
from tests.pipeline import Pipeline, wait_until
from velib.kafka import clients, membership


def seconds_until(pipeline: Pipeline, number: int) -> float:
    """How long it takes until the dashboard's user sees this number of producers."""
    assert pipeline.security is not None
    servers, raw_topic = pipeline.settings.kafka.bootstrap_servers, pipeline.settings.raw_topic
    settings = pipeline.security.settings(servers, DASHBOARD).model_copy(
        update={"raw_topic": raw_topic}
    )
    started = time.monotonic()

    def is_reached() -> bool:
        try:
            return membership.count(admin, settings) == number
        except CoordinatorNotAvailableError:  # a new Kafka makes its topic of groups
            return False

    with KafkaAdminClient(**clients.kafka_python_options(settings)) as admin:
        wait_until(is_reached, f"{number} producers run")
    return time.monotonic() - started


def test_a_producer_counts_until_it_stops(pipeline: Pipeline) -> None:
    pipeline.simulate(Day(10, period=2))
    seconds_until(pipeline, 0)
    first, _second = pipeline.start("kafka_project.py"), pipeline.start("kafka_project.py")
    seconds_until(pipeline, 2)
    assert first.stop() == 0
    assert seconds_until(pipeline, 1) < 5, "a producer that stops leaves the group"


def test_a_missing_right_to_the_group_costs_one_warning(pipeline: Pipeline) -> None:
    group = ResourcePattern(ResourceType.GROUP, membership.group(pipeline.settings))
    denied = ((PRODUCER, ACLOperation.READ), (DASHBOARD, ACLOperation.DESCRIBE))
    with KafkaAdminClient(**pipeline.client) as admin:
        admin.create_acls(
            [
                ACL(f"User:{user}", "*", operation, ACLPermissionType.DENY, group)
                for user, operation in denied
            ]
        )
    pipeline.simulate(Day(10, period=1))
    port = free_port()
    dashboard = pipeline.start("dashboard.py", "--port", str(port))
    producer = pipeline.start("kafka_project.py")
    producer.wait_for("The dashboard cannot tell")
    dashboard.wait_for("The dashboard cannot tell")
    enough = len(pipeline.published()) + 12  # one a second: both have tried again
    wait_until(lambda: len(pipeline.published()) >= enough, f"{enough} snapshots")
    assert producer.log().count("The dashboard cannot tell that this producer runs") == 1
    assert dashboard.log().count("The dashboard cannot tell whether a producer runs") == 1
    with urllib.request.urlopen(f"http://localhost:{port}/metrics", timeout=10) as answer:
        metrics = answer.read().decode()
    assert "velib_kafka_up 1.0" in metrics
    assert "velib_producers" not in metrics
    assert (producer.stop(), dashboard.stop()) == (0, 0)
