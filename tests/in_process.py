"""Scripts within the process of a test: to start one would take longer than the test."""

import json
from collections.abc import Callable
from concurrent.futures import Future
from threading import Event
from typing import TextIO

import pytest

import consumer
from tests.expected import Total
from velib.runtime import in_thread


def own_messages(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What the project has logged, without the warnings of kafka-python about a slow machine."""
    return [record.getMessage() for record in caplog.records if record.name == "velib"]


class Consumer:
    """The consumer in a thread, and what it has printed until now."""

    def __init__(self, output: TextIO, *options: str) -> None:
        """`output` reads the file that is stdout now."""
        self.output, self.out, self.stop = output, "", Event()
        parsed = consumer.parse_options(options)
        self.result: Future[None] = in_thread(lambda: consumer.main(parsed, None, self.stop))

    def printed(self) -> list[str]:
        self.out += self.output.read()
        return self.out.splitlines()

    def printed_totals(self) -> list[Total]:
        """The totals that it has printed with --json."""
        return [json.loads(line) for line in self.printed()]

    def end(self) -> "Consumer":
        """Wait until it ends; raises the exception with which it does."""
        self.result.result(60)
        return self


Start = Callable[..., Consumer]
RunJob = Callable[..., str]
