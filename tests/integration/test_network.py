"""The network between the producer and Kafka breaks at chosen requests: each snapshot stays whole.

A proxy in front of the broker does it. The tests themselves read the broker past the proxy.
"""

import time
from collections.abc import Iterator

import pytest

from local.broker import free_port
from local.simulator import make_network
from tests.chaos import proxy as network
from tests.chaos.feed import Feed
from tests.chaos.proxy import Api, Proxy, Step, late
from tests.pipeline import Pipeline, Script, wait_until

STATIONS, PERIOD = 1500, 1
PUBLISHED_AFTER = 2  # snapshots


@pytest.fixture(scope="module")
def proxied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str, Proxy]]:
    """A Kafka, its address without and with a proxy, and the proxy."""
    port, ports = free_port(), network.ports(1)
    options = ("--port", str(port), "--data-dir", "data", *network.broker_options(ports))
    broker = Script(
        *("-m", "local.broker", *options), folder=tmp_path_factory.mktemp("kafka"), environment={}
    )
    try:
        wait_until(lambda: "ready" in broker.printed() or broker.has_ended(), "Kafka is ready")
        assert not broker.has_ended(), broker.log()
        yield f"localhost:{port}", f"localhost:{min(ports)}", Proxy(ports)
    finally:
        broker.kill()


@pytest.fixture(scope="module")
def kafka(proxied: tuple[str, str, Proxy]) -> tuple[str, None]:
    """The Kafka of `pipeline`, here without users and passwords."""
    return proxied[0], None


CASES: dict[str, list[Step]] = {
    "a late EndTxn meets the next transaction": late(Api.END_TXN),
    "a late EndTxn meets the second transaction after it": late(Api.END_TXN, transactions=2),
    "a late Produce": late(Api.PRODUCE),
    "a late AddPartitionsToTxn": late(Api.ADD_PARTITIONS_TO_TXN),
    "a late InitProducerId": late(Api.INIT_PRODUCER_ID),
    "EndTxn comes twice": [(Api.END_TXN, network.repeat)],
    "Produce comes twice": [(Api.PRODUCE, network.repeat)],
    "a half-open connection before the records": [(Api.PRODUCE, network.freeze)],
    "a half-open connection before the commit": [(Api.END_TXN, network.freeze)],
    "half of Produce": [(Api.PRODUCE, network.cut_inside)],
    **{f"a cut before {api.name}": [(api, network.cut_before)] for api in Api},
    **{f"the answer to {api.name} is lost": [(api, network.lose_answer)] for api in Api},
}


@pytest.mark.parametrize("steps", CASES.values(), ids=CASES.keys())
def test_each_snapshot_is_published_whole_and_once(
    steps: list[Step], proxied: tuple[str, str, Proxy], pipeline: Pipeline
) -> None:
    _, through_proxy, proxy = proxied
    feed = Feed(make_network(STATIONS, 1), 1, PERIOD, free_port())
    pipeline.environment |= {
        "KAFKA_BOOTSTRAP_SERVERS": through_proxy,
        "VELIB_API_URL": f"http://localhost:{feed.port}",
        "VELIB_POLL_SECONDS": "0.2",
    }
    producer = pipeline.start("kafka_project.py")
    wait_until(lambda: pipeline.records(pipeline.settings.station_topic), "the positions")
    delivered = len(proxy.delivered)
    try:
        proxy.plan(steps, f"{pipeline.settings.raw_topic}-producer")
        wait_until(lambda: not proxy.steps, "the fault")
        hit_at = time.time()
        wait_until(lambda: _published_since(pipeline, hit_at) >= PUBLISHED_AFTER, "new snapshots")
    finally:
        proxy.heal()
        feed.stop()
    assert producer.stop() == 0
    different = {
        snapshot: f"{len(records)} of {len(feed.published(snapshot))} stations"
        for snapshot, records in pipeline.published().items()
        if records != feed.published(snapshot)
    }
    assert different == {}, f"late requests were answered {proxy.delivered[delivered:]}"


def _published_since(pipeline: Pipeline, moment: float) -> int:
    """How many snapshots of the feed that are younger than a time are in the raw topic."""
    return sum(snapshot > moment for snapshot in pipeline.published())
