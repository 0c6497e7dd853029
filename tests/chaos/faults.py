"""The pipeline under test, and every fault that is injected into it."""

import collections
import json
import random
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import psutil
from kafka import KafkaAdminClient
from kafka.errors import KafkaError

from local.broker import free_port
from local.day import Day
from tests import expected
from tests.chaos import proxy
from tests.chaos.feed import FAULTS, YEAR, Feed
from tests.chaos.proxy import Api, Proxy
from tests.chaos.reading import read
from tests.pipeline import Pipeline, Script
from velib.runtime import log

STATIONS, PERIOD = 1500, 3
"""A snapshot of 1,500 stations takes several requests, so a part of it can be in the topic."""
MIN_LIFE = 25.0  # seconds: a process does some work between two kills
MAX_PLAN = 20.0  # seconds that the plan for a late request may take
HOSTILE = b"hostile"  # the key of records that cannot be counted

Fault = Callable[[], bool]
"""Does something harmful; returns whether that was possible now."""

HOSTILE_VALUES: list[Callable[[random.Random], bytes | None]] = [
    lambda chance: None,
    lambda chance: b"",
    lambda chance: b"[1, 2]",
    lambda chance: b'{"stationCode": "16107", "last_upd',
    lambda chance: chance.randbytes(200),
    lambda chance: chance.randbytes(900_000),
    lambda chance: b"[" * 50_000,
    lambda chance: b'{"stationCode": null}',
    lambda chance: _station(last_updated=int(time.time()) + YEAR),
    lambda chance: _station(last_updated="now"),
    lambda chance: _station(num_bikes_available=chance.choice([-1, 1.5, "3", 2**31])),
]


DISTURBANCES: dict[str, tuple[proxy.Fault, float]] = {
    "cuts before requests": (proxy.cut_before, 0.3),
    "cuts inside requests": (proxy.cut_inside, 0.3),
    "lost answers": (proxy.lose_answer, 0.3),
    "repeated requests": (proxy.repeat, 0.3),
    "half-open connections": (proxy.freeze, 0.05),
    "delays": (proxy.delay(2.0), 0.3),
    "slow link": (proxy.slow_link(50_000), 1.0),
}
"""The random network faults by name, each with the share of the requests that it hits."""


def _station(**fields: Any) -> bytes:
    return json.dumps(expected.station(**fields)).encode()


def faults(chaos: "Chaos") -> list[tuple[str, Fault]]:
    """The possible faults with their names; a fault that is likelier is there several times."""
    parts = list(chaos.commands)
    kills = [(f"kill -9: {part}", partial(chaos.kill, part)) for part in parts]
    pauses = [(f"SIGSTOP: {part}", partial(chaos.pause, part)) for part in parts]
    of_network = [
        (f"the network: {name}", partial(chaos.disturb, fault, share))
        for name, (fault, share) in DISTURBANCES.items()
    ]
    late = [
        ("the network: a late commit", partial(chaos.deliver_late, [Api.END_TXN], [Api.PRODUCE])),
        ("the network: a late request", partial(chaos.deliver_late, list(Api), list(Api))),
    ]
    of_feed = [(f"the feed: {fault}", partial(chaos.misbehave, fault)) for fault in FAULTS]
    refusal = [("the feed: refuses connections", chaos.refuse)]
    records = [
        ("hostile records", chaos.write_hostile_records),
        ("true records, again", chaos.repeat_true_records),
    ]
    return [
        *kills * 4,
        *pauses * 2,
        *of_network * 3,
        *late * 6,
        *of_feed,
        *refusal,
        *records * 3,
    ]


class Chaos:
    """A running pipeline, its feed and its network, and how often each fault was injected."""

    def __init__(self, folder: Path, seed: int, nodes: int, producers: int) -> None:
        self.chance = random.Random(seed)
        self.nodes = nodes
        self.counts: collections.Counter[str] = collections.Counter()
        self.ended: list[str] = []
        port, proxied = ports_in_a_row(nodes), proxy.ports(nodes)
        self.proxy = Proxy(proxied, seed)
        self.servers = _addresses(range(port, port + nodes))
        """Kafka past the proxy; the scripts go through it."""
        self.pipeline = Pipeline(self.servers, folder)
        self.feed = Feed(Day(STATIONS, PERIOD), seed, free_port())
        self.pipeline.environment |= {
            "VELIB_API_URL": f"http://localhost:{self.feed.port}",
            "VELIB_STATIONS": "all",
            "KAFKA_BOOTSTRAP_SERVERS": _addresses(proxied),
        }
        self.producers = [f"producer {n + 1}" for n in range(producers)]
        broker = ("-m", "local.broker", "--data-dir", "kafka", "--port", str(port))
        self.commands: dict[str, tuple[str, ...]] = {
            "broker": (*broker, "--nodes", str(nodes), *proxy.broker_options(proxied)),
            **dict.fromkeys(self.producers, ("kafka_project.py",)),
            "job": ("spark.py",),
            "consumer": ("consumer.py", "--json", "--from-beginning"),
        }
        self.planned_at = 0.0  # on the monotonic clock
        self.scripts: dict[str, Script] = {}
        self.started: dict[str, float] = {}
        for name in self.commands:
            self.start(name)

    def start(self, name: str) -> None:
        """Start the broker, a producer, the job or the consumer."""
        self.scripts[name] = self.pipeline.start(*self.commands[name])
        self.started[name] = time.monotonic()

    def restart_ended(self) -> None:
        """Record the scripts that ended by themselves, and start them again."""
        for name, script in self.scripts.items():
            if script.has_ended():
                status = script.process.returncode
                last = (script.log().splitlines() or [""])[-1]
                self.ended.append(f"{name} (status {status}): {last}")
                log.error("The %s ended by itself, status %s: %s", name, status, last)
                self.start(name)

    def stop_producers(self) -> None:
        """Stop the producers; reports one that does not stop cleanly."""
        for name in self.producers:
            if self.scripts.pop(name).stop() != 0:
                self.ended.append(f"{name}: did not stop cleanly")

    def kill(self, name: str) -> bool:
        """Kill -9 a part and start it again; of three brokers, kill one."""
        if time.monotonic() - self.started[name] < MIN_LIFE:
            return False
        if name == "broker" and self.nodes == 3:
            return self._kill_node()
        self.scripts[name].kill()
        self.start(name)
        return True

    def _kill_node(self) -> bool:
        """Kill one of three, unless another one has not caught up yet: then two would be away."""
        if not are_in_sync(self.pipeline, 5):
            return False
        folder = f"kafka/node-{self.chance.randint(1, 3)}"
        for process in psutil.Process(self.scripts["broker"].process.pid).children(recursive=True):
            if process.cwd().endswith(folder):
                process.kill()
        self.started["broker"] = time.monotonic()
        return True

    def pause(self, name: str) -> bool:
        """Stop the processes of a part for a while (SIGSTOP)."""
        processes = [psutil.Process(self.scripts[name].process.pid)]
        processes += processes[0].children(recursive=True)
        for process in processes:
            with suppress(psutil.NoSuchProcess):  # a node that was killed just now
                process.suspend()
        time.sleep(self.chance.uniform(2, 8))
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.resume()
        return True

    def disturb(self, fault: proxy.Fault, share: float) -> bool:
        """Let a fault of the network hit a share of all requests for some seconds."""
        self.proxy.disturb(fault, share, self.chance.uniform(2, 8))
        return True

    def deliver_late(self, kept: list[Api], during: list[Api]) -> bool:
        """Deliver one of these requests during one of these requests of a later transaction."""
        if self.proxy.steps and time.monotonic() - self.planned_at < MAX_PLAN:
            return False
        steps = proxy.late(
            self.chance.choice(kept), self.chance.randint(1, 2), self.chance.choice(during)
        )
        self.proxy.plan(steps, f"{self.pipeline.settings.raw_topic}-producer")
        self.planned_at = time.monotonic()
        return True

    def misbehave(self, fault: str) -> bool:
        """Let the feed answer badly for a while."""
        self.feed.fault = fault
        time.sleep(self.chance.uniform(2, 6))
        self.feed.fault = None
        return True

    def refuse(self) -> bool:
        """Let the feed refuse connections for a while."""
        self.feed.stop()
        time.sleep(self.chance.uniform(2, 6))
        self.feed.start()
        return True

    def write_hostile_records(self) -> bool:
        """Put records that cannot be counted into the raw topic."""
        values = [self.chance.choice(HOSTILE_VALUES)(self.chance) for _ in range(20)]
        return self._write([(HOSTILE, value) for value in values])

    def repeat_true_records(self) -> bool:
        """Deliver the producer's last records once more, as they were."""
        try:
            records = read(self.servers, self.pipeline.settings.raw_topic, -STATIONS)
        except KafkaError:
            return False
        true = [(record.key, record.value) for record in records if not record.headers]
        return bool(true) and self._write(true)

    def _write(self, records: list[tuple[bytes | None, bytes | None]]) -> bool:
        with suppress(KafkaError):  # it may be dead; the verdict is on the records that arrived
            self.pipeline.write(self.pipeline.settings.raw_topic, *records)
        return True


def are_in_sync(pipeline: Pipeline, timeout: float) -> bool:
    """Whether every replica of every partition is in sync within `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        with suppress(KafkaError), KafkaAdminClient(**pipeline.client) as admin:
            partitions = [part for topic in admin.describe_topics() for part in topic["partitions"]]
            if partitions and all(
                len(part["isr_nodes"]) == len(part["replica_nodes"]) for part in partitions
            ):
                return True
        time.sleep(0.5)
    return False


def ports_in_a_row(count: int) -> int:
    """The first of `count` consecutive free ports."""
    while True:
        first = free_port()
        ports = range(first, first + count)
        if max(ports) < 65536 and all(free_port(port) == port for port in ports):
            return first


def _addresses(ports: Iterable[int]) -> str:
    return ",".join(f"localhost:{port}" for port in ports)
