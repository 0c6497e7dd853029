"""Breaks the real pipeline at random moments, and compares everything that comes out with plain sums over what was served.

    make chaos                                                   five minutes, one broker
    python -m tests.chaos.run --minutes 30 --seed 7 --nodes 3    longer, other moments, a cluster of three

Processes are killed (-9) and started again, or stopped for a while (SIGSTOP); the feed misbehaves; a second producer writes
hostile records and repeats true ones. Status 1 if any total is wrong or missing, a reader saw a part of a snapshot, a dead
letter is missing or too many, or a script ended by itself.
"""

import argparse
import collections
import json
import random
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import psutil
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.errors import KafkaError
from rich.console import Console
from rich.table import Table

import cli
import topics
from cli import Failure, log
from local.broker import free_port
from local.simulator import make_network
from tests import expected
from tests.chaos.feed import BAD, FAULTS, Feed
from tests.integration.conftest import TOPICS, Pipeline, Script

STATIONS, PERIOD = 300, 2
HOSTILE = b"hostile"  # the key of records that nobody can count
QUIET = 300.0  # seconds that the pipeline has, at the end, to bring everything to its end

HOSTILE_VALUES: list[Callable[[random.Random], bytes | None]] = [
    lambda chance: None,
    lambda chance: b"",
    lambda chance: b"[1, 2]",
    lambda chance: b'{"stationCode": "16107", "last_upd',
    lambda chance: chance.randbytes(200),
    lambda chance: chance.randbytes(900_000),
    lambda chance: b"[" * 50_000,
    lambda chance: b'{"stationCode": null}',
    lambda chance: json.dumps(expected.station() | {"last_updated": int(time.time()) + 365 * 24 * 3600}).encode(),
    lambda chance: json.dumps(expected.station() | {"last_updated": "now"}).encode(),
    lambda chance: json.dumps(expected.station(num_bikes_available=chance.choice([-1, 1.5, "3", 2**31]))).encode(),
]


class Chaos:
    """The pipeline, what is done to it, and how often."""

    def __init__(self, folder: Path, seed: int, nodes: int) -> None:
        self.chance = random.Random(seed)
        self.nodes = nodes
        self.counts: collections.Counter[str] = collections.Counter()
        self.ended: list[str] = []
        first = _ports_in_a_row(nodes)
        self.pipeline = Pipeline(",".join(f"localhost:{first + n}" for n in range(nodes)), folder)
        self.feed = Feed(make_network(STATIONS, seed), seed, PERIOD, free_port())
        self.pipeline.environment |= {
            "VELIB_API_URL": f"http://localhost:{self.feed.port}",
            "VELIB_STATIONS": "all",
        }
        self.commands = {
            "broker": ("-m", "local.broker", "--port", str(first), "--data-dir", "kafka", "--nodes", str(nodes)),
            "producer": ("kafka_project.py",),
            "job": ("spark.py",),
            "consumer": ("consumer.py", "--json", "--from-beginning"),
        }
        self.scripts: dict[str, Script] = {}
        self.started: dict[str, float] = {}
        for name in self.commands:
            self.start(name)

    def start(self, name: str) -> None:
        self.scripts[name] = self.pipeline.start(*self.commands[name])
        self.started[name] = time.monotonic()

    def check_running(self) -> None:
        """Note the scripts that ended by themselves, and start them again."""
        for name, script in self.scripts.items():
            if (status := script.process.poll()) is not None:
                last = (script.said().splitlines() or [""])[-1]
                self.ended.append(f"{name} (status {status}): {last}")
                log.error("The %s ended by itself, status %s: %s", name, status, last)
                self.start(name)

    # What is done to it. Each returns whether it could be done now.

    def kill(self, name: str) -> bool:
        if time.monotonic() - self.started[name] < 25:  # it is to do something between two deaths
            return False
        if name == "broker" and self.nodes == 3:
            return self._kill_node()
        self.scripts[name].kill()
        self.start(name)
        return True

    def _kill_node(self) -> bool:
        """Kill one of three, unless another has not caught up yet: that would be two."""
        if not in_sync(self.pipeline, 5):
            return False
        number = self.chance.randint(1, 3)
        configuration = f"kafka/node-{number}/server.properties"
        for process in psutil.Process(self.scripts["broker"].process.pid).children(recursive=True):
            if any(argument.endswith(configuration) for argument in process.cmdline()):
                process.kill()
        self.started["broker"] = time.monotonic()
        return True

    def pause(self, name: str) -> bool:
        """SIGSTOP for a while."""
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

    def misbehave(self, fault: str) -> bool:
        self.feed.fault = fault
        time.sleep(self.chance.uniform(2, 6))
        self.feed.fault = None
        return True

    def refuse(self) -> bool:
        self.feed.stop()
        time.sleep(self.chance.uniform(2, 6))
        self.feed.start()
        return True

    def write_hostile_records(self) -> bool:
        values = [self.chance.choice(HOSTILE_VALUES)(self.chance) for _ in range(20)]
        return self._write([(HOSTILE, value) for value in values])

    def repeat_true_records(self) -> bool:
        """Deliver the stations of a snapshot once more, as they were."""
        try:
            records = self.pipeline.raw()[-STATIONS:]
        except KafkaError:
            return False
        return self._write([(record.key, record.value) for record in records if record.headers])

    def _write(self, records: list[tuple[bytes | None, bytes | None]]) -> bool:
        try:
            with KafkaProducer(**self.pipeline.client, delivery_timeout_ms=30_000) as producer:
                raw = self.pipeline.topic("raw")
                for future in [producer.send(raw, key=key, value=value) for key, value in records]:
                    future.get(timeout=40)
        except KafkaError:
            pass  # Kafka may be dead just now: what arrived is counted at the end
        return True


def in_sync(pipeline: Pipeline, timeout: float) -> bool:
    """Whether every copy of every partition is up to date, within so many seconds."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        try:
            with KafkaAdminClient(**pipeline.client) as admin:
                described = admin.describe_topics()
            parts = [part for topic in described for part in topic["partitions"]]
            if parts and all(len(part["isr_nodes"]) == len(part["replica_nodes"]) for part in parts):
                return True
        except KafkaError:
            pass
        time.sleep(0.5)
    return False


def short_of_copies(pipeline: Pipeline, nodes: int) -> int:
    """How many of the pipeline's partitions have no copy on every node."""
    with KafkaAdminClient(**pipeline.client) as admin:
        described = admin.describe_topics([pipeline.topic(name) for name in TOPICS])
    return sum(len(part["replica_nodes"]) != nodes for topic in described for part in topic["partitions"])


class Reader(threading.Thread):
    """Reads committed records of the raw topic all the time, and counts how often it saw a part of a snapshot."""

    def __init__(self, pipeline: Pipeline) -> None:
        super().__init__(daemon=True)
        self.pipeline = pipeline
        self.done = threading.Event()
        self.seen: collections.Counter[int] = collections.Counter()
        self.sizes: dict[int, int] = {}
        self.looks = self.incomplete = 0

    def run(self) -> None:
        partition = TopicPartition(self.pipeline.topic("raw"), 0)
        looked = 0  # the end of the topic at the last look
        while not self.done.is_set():
            try:
                with KafkaConsumer(
                    **self.pipeline.client, isolation_level="read_committed", enable_auto_commit=False
                ) as consumer:
                    consumer.assign([partition])
                    consumer.seek(partition, looked)
                    ahead: list[Any] = []
                    while not self.done.wait(0.05):
                        end = consumer.end_offsets([partition])[partition]
                        while consumer.position(partition) < end:
                            ahead += consumer.poll(timeout_ms=200).get(partition, [])
                        self._look([record for record in ahead if record.offset < end])
                        ahead = [record for record in ahead if record.offset >= end]
                        looked = end
            except KafkaError:
                time.sleep(0.5)

    def _look(self, records: list[Any]) -> None:
        """Note the records that have become visible since the last look: all of a snapshot must have, or none."""
        for record in records:
            if record.headers:  # the real producer's
                snapshot = topics.last_updated(record.value)
                self.seen[snapshot] += 1
                self.sizes[snapshot] = int(dict(record.headers)[topics.SNAPSHOT_RECORDS])
        self.looks += 1
        self.incomplete += any(self.seen[snapshot] != size for snapshot, size in self.sizes.items())


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.run", description="Break the pipeline, compare its totals.")
    parser.add_argument("--minutes", type=float, default=5, help="how long (default: %(default)s)")
    parser.add_argument("--seed", type=int, help="of the random moments (default: another each time; it is printed)")
    parser.add_argument("--nodes", type=int, choices=(1, 3), default=1, help="Kafka's nodes (default: %(default)s)")
    arguments = parser.parse_args()
    seed = arguments.seed if arguments.seed is not None else int(time.time())
    log.info("Chaos for %s minutes on %d node(s). Again: --seed %d", arguments.minutes, arguments.nodes, seed)
    with tempfile.TemporaryDirectory(prefix="velib-chaos-") as name:
        chaos = Chaos(Path(name), seed, arguments.nodes)
        try:
            problems = run(chaos, arguments.minutes * 60)
        finally:
            chaos.pipeline.clean_up()
    if problems:
        raise Failure(f"{problems} differences")


def run(chaos: Chaos, seconds: float) -> int:
    """Break it for so long, let it come to its end, and print the table; returns how many differences there are."""
    wait(chaos, lambda: len(chaos.pipeline.totals()) > 0, "the first totals")
    reader = Reader(chaos.pipeline)
    reader.start()
    acts = _acts(chaos)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        time.sleep(chaos.chance.uniform(0.5, 3))
        chaos.check_running()
        name, act = chaos.chance.choice(acts)
        if act():
            chaos.counts[name] += 1
            log.info("%s", name)
    log.info("The end of the faults: waiting until everything is published and summed")
    now = int(time.time())
    wait(chaos, lambda: any(snapshot > now for snapshot in chaos.pipeline.published()), "a snapshot after the faults")
    if chaos.scripts["producer"].stop() != 0:
        chaos.ended.append("producer: did not stop cleanly")
    del chaos.scripts["producer"]
    verdict = Verdict(chaos, reader)
    try:
        wait(chaos, verdict.is_complete, "all totals and dead letters")
    except Failure as failure:
        log.error("%s", failure)
    reader.done.set()
    return verdict.show()


def _acts(chaos: Chaos) -> list[tuple[str, Callable[[], bool]]]:
    """What may happen, by name; what is there several times is as much likelier."""
    parts = list(chaos.commands)
    acts: list[tuple[str, Callable[[], bool]]] = []
    acts += [(f"kill -9: {part}", partial(chaos.kill, part)) for part in parts] * 4
    acts += [(f"SIGSTOP: {part}", partial(chaos.pause, part)) for part in parts] * 2
    acts += [(f"the feed: {fault}", partial(chaos.misbehave, fault)) for fault in FAULTS]
    acts += [("the feed: refuses connections", chaos.refuse)]
    acts += [("hostile records", chaos.write_hostile_records), ("true records, again", chaos.repeat_true_records)] * 3
    return acts


def wait(chaos: Chaos, condition: Callable[[], bool], what: str) -> None:
    """Until the condition holds. Kafka may be away meanwhile; raises Failure after a while."""
    deadline = time.monotonic() + QUIET
    while time.monotonic() < deadline:
        chaos.check_running()
        try:
            if condition():
                return
        except KafkaError:
            pass
        time.sleep(1)
    raise Failure(f"Not within {QUIET:.0f} s: {what}")


class Verdict:
    """What must have come out, from what was served and published, and what did."""

    def __init__(self, chaos: Chaos, reader: Reader) -> None:
        self.chaos, self.reader = chaos, reader
        raw = chaos.pipeline.raw()
        served = {snapshot: _as_published(answer) for snapshot, answer in chaos.feed.served.items()}
        published: dict[int, list[Any]] = collections.defaultdict(list)
        for record in raw:
            if record.headers:  # the real producer's
                station = json.loads(record.value)
                published[station["last_updated"]].append(station)
        self.published = set(published)
        self.unlike = [snapshot for snapshot, stations in published.items() if stations != served.get(snapshot)]
        self.totals: dict[tuple[str, int], Any] = {}
        for snapshot in published:
            answer = chaos.feed.answer(snapshot)
            answer["data"]["stations"] = [station for station in answer["data"]["stations"] if BAD not in station]
            self.totals |= expected.totals(answer)
        self.dead = {record.offset for record in raw if record.key == HOSTILE or b'"bad":true' in (record.value or b"")}

    def is_complete(self) -> bool:
        return (
            self.chaos.pipeline.totals().keys() >= self.totals.keys()
            and self._dead_letters() >= self.dead
            and self._printed().keys() >= self.totals.keys()
        )

    def _dead_letters(self) -> set[int]:
        letters = self.chaos.pipeline.records(self.chaos.pipeline.topic("dead_letter"))
        return {int(dict(letter.headers)["offset"]) for letter in letters}

    def _printed(self) -> dict[tuple[str, int], list[Any]]:
        """What the consumer printed, over all its lives. A life may have ended in the middle of a line."""
        printed: dict[tuple[str, int], list[Any]] = collections.defaultdict(list)
        for script in self.chaos.pipeline.scripts:
            for line in script.printed() if script.out.name.startswith("consumer") else []:
                if line.endswith("}"):
                    total = json.loads(line)
                    printed[total["postal_code"], total["last_updated"]].append(total)
        return printed

    def show(self) -> int:
        """Print the tables; returns the number of differences."""
        chaos = self.chaos
        # Every record that was ever written must be right, not only the last one of its kind.
        values = [json.loads(r.value) for r in chaos.pipeline.records(chaos.pipeline.topic("final"))]
        written = {(total["postal_code"], total["last_updated"]) for total in values}
        wrong = sum(self.totals.get((total["postal_code"], total["last_updated"])) != total for total in values)
        printed = self._printed()
        misprinted = sum(self.totals.get(key) != total for key, some in printed.items() for total in some)
        dead = self._dead_letters()
        faults = Table("fault", "times", title="Done to it")
        for name, times in sorted(chaos.counts.items()):
            faults.add_row(name, str(times))
        faults.add_row("bad answers of the feed, in all", str(chaos.feed.faulty_answers))
        facts = [
            ("snapshots served", len(chaos.feed.served), None),
            ("snapshots published", len(self.published), None),
            ("published, but not as served", len(self.unlike), 0),
            ("totals compared", len(values), None),
            ("totals wrong", wrong, 0),
            ("totals missing", len(self.totals.keys() - written), 0),
            ("totals printed wrong", misprinted, 0),
            ("totals not printed", len(self.totals.keys() - printed.keys()), 0),
            ("looks of a reader at the raw topic", self.reader.looks, None),
            ("incomplete snapshots visible", self.reader.incomplete, 0),
            ("dead letters expected", len(self.dead), None),
            ("dead letters missing", len(self.dead - dead), 0),
            ("dead letters too many", len(dead - self.dead), 0),
            ("partitions without a copy on every node", short_of_copies(chaos.pipeline, chaos.nodes), 0),
            ("scripts that ended by themselves", len(chaos.ended), 0),
        ]
        results = Table("", "", title="What came of it")
        for name, number, allowed in facts:
            results.add_row(name, f"{number:,}", style=None if allowed is None or number == allowed else "bold red")
        console = Console()
        console.print(faults, results)
        for line in chaos.ended:
            console.print(line, highlight=False, markup=False)
        return sum(number for _, number, allowed in facts if allowed is not None)


def _as_published(answer: dict[str, Any]) -> list[Any]:
    return [station | {"last_updated": answer["lastUpdatedOther"]} for station in answer["data"]["stations"]]


def _ports_in_a_row(count: int) -> int:
    """The first of so many ports that nothing uses now."""
    while True:
        first = free_port()
        if first + count < 65536 and not any(topics.listens(f"localhost:{first + n}") for n in range(count)):
            return first


if __name__ == "__main__":
    cli.run(main)
