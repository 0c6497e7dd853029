"""Compares what came out of the pipeline with what was served to it.

It has its own consumers and its own sums, and uses no code of the scripts: a mistake in one of
their modules cannot hide itself.
"""

import collections
import json
from collections.abc import Iterable
from typing import Any

from kafka import KafkaAdminClient
from rich.console import Console
from rich.table import Table

from tests import expected
from tests.chaos.faults import HOSTILE, Chaos
from tests.chaos.feed import BAD, Feed
from tests.chaos.reading import Reader, read

Totals = dict[tuple[str, int], Any]
"""The total of each postal code and snapshot."""


class RawReader(Reader):
    """Counts how often it saw a part of a snapshot in the raw topic."""

    def __init__(self, servers: str, topic: str, feed: Feed) -> None:
        super().__init__(servers, topic)
        self.feed = feed
        self.seen: collections.Counter[int] = collections.Counter()
        self.sizes: dict[int, int] = {}
        self.newest = self.incomplete = 0

    def saw(self, records: list[Any]) -> None:
        for record in filter(_is_published, records):
            snapshot = json.loads(record.value)["last_updated"]
            self.seen[snapshot] += 1
            self.newest = max(self.newest, snapshot)
            if snapshot not in self.sizes:
                self.sizes[snapshot] = len(self.feed.answer(snapshot)["data"]["stations"])
        self.incomplete += any(self.seen[snapshot] % size for snapshot, size in self.sizes.items())


class FinalReader(Reader):
    """Keeps every value that it ever saw in the final topic."""

    def __init__(self, servers: str, topic: str) -> None:
        super().__init__(servers, topic)
        self.values: set[bytes] = set()

    def saw(self, records: list[Any]) -> None:
        self.values |= {record.value for record in records}


class Verdict:
    """What must have come out, from what was served and published, and what did come out."""

    def __init__(self, chaos: Chaos) -> None:
        self.chaos, self.servers = chaos, chaos.servers
        self.topics = {
            name: chaos.pipeline.environment[f"VELIB_{name}_TOPIC"]
            for name in ("RAW", "FINAL", "DEAD_LETTER", "STATION")
        }
        self.raw_reader = RawReader(self.servers, self.topics["RAW"], chaos.feed)
        self.final_reader = FinalReader(self.servers, self.topics["FINAL"])

    def watch(self) -> None:
        """Start to read the raw and the final topic, which must exist."""
        self.raw_reader.start()
        self.final_reader.start()

    def stop_watching(self) -> None:
        for reader in (self.raw_reader, self.final_reader):
            reader.done.set()
            reader.join()

    def expect(self) -> None:
        """Work out what must come out, now that nothing more is published; raises KafkaError."""
        raw = self._read("RAW")
        self.published: dict[int, list[bytes]] = collections.defaultdict(list)
        for record in filter(_is_published, raw):
            self.published[json.loads(record.value)["last_updated"]].append(record.value)
        self.right = _sums(self.chaos.feed)
        """The totals of every snapshot that the feed served: no other total may ever be read."""
        self.wanted = {key for key in self.right if key[1] in self.published}
        self.dead = {
            record.offset
            for record in raw
            if record.key == HOSTILE or b'"bad":true' in (record.value or b"")
        }

    def is_complete(self) -> bool:
        """Whether every total is in the final topic and printed, and every dead letter written."""
        return (
            self._written().keys() >= self.wanted
            and self._dead_letters() >= self.dead
            and self._printed().keys() >= self.wanted
        )

    def _read(self, name: str) -> list[Any]:
        return read(self.servers, self.topics[name])

    def _written(self) -> dict[tuple[str, int], list[Any]]:
        """Every total that was ever read in the final topic, or is there now."""
        values = self.final_reader.values | {record.value for record in self._read("FINAL")}
        return _by_key(json.loads(value) for value in values)

    def _dead_letters(self) -> set[int]:
        """The offsets of the raw records that are dead letters."""
        return {int(dict(record.headers)["offset"]) for record in self._read("DEAD_LETTER")}

    def _printed(self) -> dict[tuple[str, int], list[Any]]:
        """The totals that the consumers printed. One that was killed may have left half a line."""
        return _by_key(
            json.loads(line)
            for script in self.chaos.pipeline.scripts
            if script.out.name.startswith("consumer")
            for line in script.printed()
            if line.endswith("}")
        )

    def show(self) -> int:
        """Print the faults and the results; returns the number of differences."""
        chaos = self.chaos
        faults = Table("fault", "times", title="Faults")
        for name, times in sorted(chaos.counts.items()):
            faults.add_row(name, str(times))
        faults.add_row("requests and answers that the network harmed", str(chaos.proxy.harmed))
        faults.add_row("requests that came late or twice", str(len(chaos.proxy.delivered)))
        faults.add_row("bad feed responses", str(chaos.feed.faulty_answers))
        results = Table("", "", title="Results")
        facts, differences = self._facts(), self._differences()
        for name, number in (facts | differences).items():
            style = "bold red" if differences.get(name) else None
            results.add_row(name, f"{number:,}", style=style)
        console = Console()
        console.print(faults, results)
        for line in chaos.ended:
            console.print(line, highlight=False, markup=False)
        return sum(differences.values())

    def _facts(self) -> dict[str, int]:
        return {
            "snapshots served": len(self.chaos.feed.served),
            "snapshots published": len(self.published),
            "totals compared": sum(map(len, self._written().values())),
            "reads of the raw topic": self.raw_reader.reads,
            "reads of the final topic": self.final_reader.reads,
            "dead letters expected": len(self.dead),
        }

    def _differences(self) -> dict[str, int]:
        written, printed, dead = self._written(), self._printed(), self._dead_letters()
        twice, otherwise = self._count_published_otherwise()
        return {
            "snapshots published twice": twice,
            "snapshots published in part or not as served": otherwise,
            "reads that saw a part of a snapshot": self.raw_reader.incomplete,
            "totals wrong": self._count_wrong(written),
            "totals missing": len(self.wanted - written.keys()),
            "totals printed wrong": self._count_wrong(printed),
            "totals not printed": len(self.wanted - printed.keys()),
            "dead letters missing": len(self.dead - dead),
            "dead letters too many": len(dead - self.dead),
            "partitions without a replica on every node": self._partitions_short_of_replicas(),
            "scripts that ended by themselves": len(self.chaos.ended),
        }

    def _count_published_otherwise(self) -> tuple[int, int]:
        """How many snapshots were published whole but twice, and how many in any other form."""
        twice = otherwise = 0
        for snapshot, values in self.published.items():
            served = self.chaos.feed.published(snapshot)
            copies = len(values) // len(served) if served else 0
            is_whole = copies > 0 and [json.loads(value) for value in values] == copies * served
            twice += is_whole and copies > 1
            otherwise += not is_whole
        return twice, otherwise

    def _count_wrong(self, totals: dict[tuple[str, int], list[Any]]) -> int:
        return sum(self.right.get(key) != total for key, some in totals.items() for total in some)

    def _partitions_short_of_replicas(self) -> int:
        with KafkaAdminClient(bootstrap_servers=self.servers.split(",")) as admin:
            described = admin.describe_topics(list(self.topics.values()))
        partitions = [partition for topic in described for partition in topic["partitions"]]
        return sum(len(each["replica_nodes"]) != self.chaos.nodes for each in partitions)


def _is_published(record: Any) -> bool:
    """Whether the producer wrote a raw record: the records of tests have a header."""
    return not record.headers


def _sums(feed: Feed) -> Totals:
    """The totals of each snapshot that a feed served."""
    sums: Totals = {}
    for snapshot in feed.served:
        answer = feed.answer(snapshot)
        stations = [station for station in answer["data"]["stations"] if BAD not in station]
        sums |= expected.totals(answer | {"data": {"stations": stations}})
    return sums


def _by_key(totals: Iterable[Any]) -> dict[tuple[str, int], list[Any]]:
    grouped: dict[tuple[str, int], list[Any]] = collections.defaultdict(list)
    for total in totals:
        grouped[total["postal_code"], total["last_updated"]].append(total)
    return grouped
