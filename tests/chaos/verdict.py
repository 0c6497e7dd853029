"""Compares what came out of the pipeline with what was served to it."""

import collections
import json
import threading
import time
from typing import Any

from kafka import KafkaAdminClient, KafkaConsumer, TopicPartition
from kafka.errors import KafkaError
from rich.console import Console
from rich.table import Table

from tests import expected
from tests.chaos.faults import HOSTILE, Chaos
from tests.chaos.feed import BAD, Feed
from tests.pipeline import Pipeline
from velib.kafka import topics

Totals = dict[tuple[str, int], Any]
"""The total of each postal code and snapshot."""


class Reader(threading.Thread):
    """Reads the committed records of the raw topic all the time.

    Counts how often it looked, and how often it saw a part of a snapshot.
    """

    def __init__(self, pipeline: Pipeline, feed: Feed) -> None:
        super().__init__(daemon=True)
        self.pipeline, self.feed = pipeline, feed
        self.done = threading.Event()
        self.seen: collections.Counter[int] = collections.Counter()
        self.sizes: dict[int, int] = {}
        self.looks = self.incomplete = 0

    def run(self) -> None:
        partition = TopicPartition(self.pipeline.settings.raw_topic, 0)
        options = {"isolation_level": "read_committed", "enable_auto_commit": False}
        last_end = 0
        while not self.done.is_set():
            try:
                with KafkaConsumer(**self.pipeline.client, **options) as consumer:
                    consumer.assign([partition])
                    consumer.seek(partition, last_end)
                    ahead: list[Any] = []  # records that were read behind the end of a look
                    while not self.done.wait(0.05):
                        end = consumer.end_offsets([partition])[partition]
                        while consumer.position(partition) < end:
                            ahead += consumer.poll(timeout_ms=200).get(partition, [])
                        self._look([record for record in ahead if record.offset < end])
                        ahead = [record for record in ahead if record.offset >= end]
                        last_end = end
            except KafkaError:
                time.sleep(0.5)

    def _look(self, records: list[Any]) -> None:
        """Count the stations that have become visible since the last look: all of a snapshot's
        must have, or none.
        """
        for record in records:
            if not record.headers:
                snapshot = json.loads(record.value)["last_updated"]
                self.seen[snapshot] += 1
                if snapshot not in self.sizes:
                    self.sizes[snapshot] = len(self.feed.answer(snapshot)["data"]["stations"])
        self.looks += 1
        self.incomplete += any(self.seen[snapshot] != size for snapshot, size in self.sizes.items())


class Verdict:
    """What must have come out, from what was served and published, and what did come out."""

    def __init__(self, chaos: Chaos, reader: Reader) -> None:
        self.chaos, self.reader = chaos, reader
        self.published = chaos.pipeline.published()
        self.totals: Totals = {}
        for snapshot in self.published:
            answer = chaos.feed.answer(snapshot)
            stations = answer["data"]["stations"]
            answer["data"]["stations"] = [station for station in stations if BAD not in station]
            self.totals |= expected.totals(answer)
        self.dead = {
            record.offset
            for record in chaos.pipeline.raw()
            if record.key == HOSTILE or b'"bad":true' in (record.value or b"")
        }

    def is_complete(self) -> bool:
        """Whether every total is in the final topic and printed, and every dead letter written."""
        return (
            self.chaos.pipeline.totals().keys() >= self.totals.keys()
            and self._dead_letters() >= self.dead
            and self._printed().keys() >= self.totals.keys()
        )

    def _dead_letters(self) -> set[int]:
        """The offsets of the raw records that are dead letters."""
        records = self.chaos.pipeline.dead_letters()
        return {int(dict(record.headers)["offset"]) for record in records}

    def _printed(self) -> dict[tuple[str, int], list[Any]]:
        """The totals that the consumers printed. One that was killed may have left half a line."""
        printed: dict[tuple[str, int], list[Any]] = collections.defaultdict(list)
        for script in self.chaos.pipeline.scripts:
            for line in script.printed() if script.out.name.startswith("consumer") else []:
                if line.endswith("}"):
                    total = json.loads(line)
                    printed[total["postal_code"], total["last_updated"]].append(total)
        return printed

    def show(self) -> int:
        """Print the faults and the results; returns the number of differences."""
        chaos = self.chaos
        faults = Table("fault", "times", title="Faults")
        for name, times in sorted(chaos.counts.items()):
            faults.add_row(name, str(times))
        faults.add_row("bad answers of the feed, in all", str(chaos.feed.faulty_answers))
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
            "totals compared": len(self._written()),
            "looks of a reader at the raw topic": self.reader.looks,
            "dead letters expected": len(self.dead),
        }

    def _differences(self) -> dict[str, int]:
        written, printed, dead = self._written(), self._printed(), self._dead_letters()
        return {
            "published, but not as served": self._published_otherwise(),
            "totals wrong": sum(self.totals.get(_key(total)) != total for total in written),
            "totals missing": len(self.totals.keys() - {_key(total) for total in written}),
            "totals printed wrong": sum(
                self.totals.get(key) != total for key, some in printed.items() for total in some
            ),
            "totals not printed": len(self.totals.keys() - printed.keys()),
            "incomplete snapshots visible": self.reader.incomplete,
            "dead letters missing": len(self.dead - dead),
            "dead letters too many": len(dead - self.dead),
            "partitions without a copy on every node": self._partitions_short_of_copies(),
            "scripts that ended by themselves": len(self.chaos.ended),
        }

    def _written(self) -> list[Any]:
        """Every total that was ever written: each must be right, not only the last of its key."""
        records = self.chaos.pipeline.records(self.chaos.pipeline.settings.final_topic)
        return [json.loads(record.value) for record in records]

    def _published_otherwise(self) -> int:
        """How many snapshots were published with other stations than were served."""
        served = self.chaos.feed.served
        return sum(
            snapshot not in served or stations != _as_published(served[snapshot])
            for snapshot, stations in self.published.items()
        )

    def _partitions_short_of_copies(self) -> int:
        names = list(topics.configurations(self.chaos.pipeline.settings))
        with KafkaAdminClient(**self.chaos.pipeline.client) as admin:
            described = admin.describe_topics(names)
        partitions = [partition for topic in described for partition in topic["partitions"]]
        return sum(len(one["replica_nodes"]) != self.chaos.nodes for one in partitions)


def _key(total: dict[str, Any]) -> tuple[str, int]:
    return total["postal_code"], total["last_updated"]


def _as_published(answer: dict[str, Any]) -> list[Any]:
    last_updated = {"last_updated": answer["lastUpdatedOther"]}
    return [station | last_updated for station in answer["data"]["stations"]]
