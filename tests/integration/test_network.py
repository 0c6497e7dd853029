"""The network between the producer and Kafka breaks at chosen requests: each snapshot stays whole.

A proxy in front of the broker does it. The tests themselves read the broker past the proxy.
"""

import json
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from local.broker import free_port
from local.day import Day
from tests.chaos import proxy as network
from tests.chaos.feed import Feed
from tests.chaos.proxy import Api, Proxy, Step, late
from tests.chaos.reading import read
from tests.pipeline import Pipeline, wait_until

STATIONS = 1000  # more than a batch of the producer: a part of it can be in the topic
POLL_SECONDS = 0.5


class SteppingFeed(Feed):
    """Has a new snapshot at each request."""

    newest = int(time.time()) - 3000

    def now(self) -> int:
        self.newest += 1
        return self.newest


class Publishing:
    """A producer that publishes through a proxy, and what it has published."""

    def __init__(self, folder: Path) -> None:
        port, ports = free_port(), network.ports(1)
        self.servers, self.proxy = f"localhost:{port}", Proxy(ports)
        self.feed = SteppingFeed(Day(STATIONS, period=1), 1, free_port())
        self.pipeline = Pipeline(self.servers, folder)
        self.pipeline.environment |= {
            "KAFKA_BOOTSTRAP_SERVERS": f"localhost:{min(ports)}",
            "VELIB_API_URL": f"http://localhost:{self.feed.port}",
            "VELIB_POLL_SECONDS": str(POLL_SECONDS),
        }
        self.broker_options = network.broker_options(ports)
        self.published: dict[int, list[object]] = defaultdict(list)
        """The stations of each snapshot in the raw topic."""
        self.changed: set[int] = set()
        self.next_offset = 0

    def start(self) -> None:
        broker = self.pipeline.start_broker(*self.broker_options)
        wait_until(lambda: "ready" in broker.printed() or broker.has_ended(), "Kafka is ready")
        assert not broker.has_ended(), broker.log()
        self.producer = self.pipeline.start("kafka_project.py")
        self.producer.wait_for("positions")

    def has_published_after(self, snapshot: int) -> bool:
        for record in read(self.servers, self.pipeline.settings.raw_topic, self.next_offset):
            station = json.loads(record.value)
            self.published[station["last_updated"]].append(station)
            self.changed.add(station["last_updated"])
            self.next_offset = record.offset + 1
        return max(self.published, default=0) > snapshot

    def differences(self) -> dict[int, str]:
        """The snapshots that are not in the topic as they were served, once and whole.

        Only those that have changed since the previous call.
        """
        changed, self.changed = self.changed, set()
        return {
            snapshot: f"{len(self.published[snapshot])} of {len(self.feed.published(snapshot))}"
            for snapshot in changed
            if self.published[snapshot] != self.feed.published(snapshot)
        }


@pytest.fixture(scope="module")
def publishing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Publishing]:
    publishing = Publishing(tmp_path_factory.mktemp("network"))
    try:
        publishing.start()
        yield publishing
        assert publishing.producer.stop() == 0
        assert "Traceback" not in publishing.producer.log()
    finally:
        publishing.pipeline.kill_all()
        publishing.feed.stop()


CASES: dict[str, list[Step]] = {
    "a late EndTxn meets the next transaction": late(Api.END_TXN),
    "a late EndTxn meets the second transaction after it": late(Api.END_TXN, transactions=2),
    "a late Produce": late(Api.PRODUCE),
    "a late AddPartitionsToTxn": late(Api.ADD_PARTITIONS_TO_TXN),
    "a late InitProducerId": late(Api.INIT_PRODUCER_ID),
    "a late Produce before the next epoch": late(Api.PRODUCE, during=Api.FIND_COORDINATOR),
    "a late AddPartitionsToTxn before the next epoch": late(
        Api.ADD_PARTITIONS_TO_TXN, during=Api.FIND_COORDINATOR
    ),
    "EndTxn comes twice": [(Api.END_TXN, network.repeat)],
    "Produce comes twice": [(Api.PRODUCE, network.repeat)],
    "a half-open connection before the commit": [(Api.END_TXN, network.freeze)],
    "half of Produce": [(Api.PRODUCE, network.cut_inside)],
    **{f"a cut before {api.name}": [(api, network.cut_before)] for api in Api},
    **{f"the answer to {api.name} is lost": [(api, network.lose_answer)] for api in Api},
}


@pytest.mark.parametrize("steps", CASES.values(), ids=CASES.keys())
def test_each_snapshot_is_published_whole_and_once(
    steps: list[Step], publishing: Publishing
) -> None:
    proxy, producer = publishing.proxy, publishing.producer
    proxy.delivered.clear()
    proxy.plan(steps, f"{publishing.pipeline.settings.raw_topic}-producer")
    wait_until(lambda: not proxy.steps or producer.has_ended(), "the fault")
    newest = publishing.feed.newest
    wait_until(
        lambda: publishing.has_published_after(newest) or producer.has_ended(), "a newer snapshot"
    )
    assert publishing.differences() == {}, f"answers to late requests: {proxy.delivered}"
    assert not producer.has_ended(), producer.log()
