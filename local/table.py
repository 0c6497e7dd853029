"""The table of the demo: that of `consumer.py --table`, which shows the other parts' log lines too.

python -m local.table TITLE      reads the lines from stdin, such as

producer | 10:40:21 WARNING The API at http://localhost:8000 refuses: 404
"""

import logging
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from threading import Thread

import consumer
from velib import runtime
from velib.runtime import log
from velib.totals.table import LiveTable

LINE = re.compile(r" *(\w+) \| (?:[\d:]{8} (INFO|WARNING|ERROR) +)?(.*)\n?")


def main() -> None:
    _, DemoTable.title = sys.argv
    sys.argv = ["consumer.py", "--table"]
    consumer.main(DemoTable)


class DemoTable(LiveTable):
    """The table with a title, and with the log lines of all parts."""

    @contextmanager
    def shown(self) -> Iterator[None]:
        lines = open(0, errors="replace", closefd=False)  # noqa: SIM115  Python closes sys.stdin
        with super().shown():
            Thread(target=log_lines, args=(lines,), daemon=True).start()
            yield


def log_lines(lines: Iterable[str]) -> None:
    """Log the lines of the parts as if they were this process's own, with the part's name.

    A line without a level, such as one of a traceback, is an error.
    """
    for line in lines:
        if match := LINE.fullmatch(line):
            part, level, text = match.groups()
            log.log(getattr(logging, level or "ERROR"), "%s: %s", part, text)


if __name__ == "__main__":
    runtime.run_tool(main)
