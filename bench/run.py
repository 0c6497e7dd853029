"""Measures this pipeline against what a user would pick instead, all on one machine.

    make bench                               everything: over two hours on two cores
    make bench QUICK=1                       all sections, small, in about three minutes, without
                                             two contenders and the catch-up by cores
    python -m bench.run [--quick] [SECTION …]   some sections: latency, catch-up, cost, growth,
                                                publishing

Each run has topics of its own on one Kafka, and its totals are compared with plain sums before its
figures count. The results go to .velib/bench/results.json, a section at a time, and from there to
docs/benchmarks.md; a quick run only prints its tables.
"""

import argparse
import logging
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from confluent_kafka import KafkaException
from kafka.errors import KafkaError

from bench import report, sections
from bench.bench import FULL, QUICK, Bench, Task
from bench.contenders import prepare_peers
from bench.measure import Figures
from bench.processes import kafka
from velib import runtime
from velib.errors import Failure

log = logging.getLogger("bench")


def main() -> None:
    log.setLevel(logging.INFO)
    arguments = parse_arguments()
    size = QUICK if arguments.quick else FULL
    no_peers = prepare_peers()
    if no_peers:
        log.warning("Without Quix Streams and PyFlink: %s", no_peers)
    runtime.log.setLevel(
        logging.WARNING
    )  # the topics that are made, the snapshots that are published
    with tempfile.TemporaryDirectory(prefix="velib-bench-") as name, kafka(Path(name)) as server:
        bench = Bench(Path(name), *server, size, no_peers)
        chosen = {name: sections.ALL[name](bench) for name in arguments.sections or sections.ALL}
        for section in run(chosen, bench):
            if not arguments.quick:
                report.save({section: bench.results[section]})
    if arguments.quick:
        report.show(bench.results)
    else:
        report.write()


def run(chosen: dict[str, list[Task]], bench: Bench) -> Iterator[str]:
    """Do the tasks of the sections in their order, each with a line that shows the progress.

    Yields the name of each section that is done.
    """
    all_tasks = [task for tasks in chosen.values() for task in tasks]
    total = sum(task.seconds for task in all_tasks)
    log.info("%d runs, about %.0f min", len(all_tasks), total / 60)
    started, number, expected = time.monotonic(), 0, 0.0
    for section, tasks in chosen.items():
        for task in tasks:
            number += 1
            pace = (time.monotonic() - started) / expected if expected else 1.0
            left = pace * (total - expected) / 60
            title = f"{section}: {task.title}"
            log.info("%d of %d, %.0f min left: %s", number, len(all_tasks), left, title)
            figures = _figures(task)
            expected += task.seconds
            log.info("    %s", report.line(figures))
            bench.add_figures(section, task.name, figures)
        yield section
    log.info("%.0f min", (time.monotonic() - started) / 60)


def _figures(task: Task) -> Figures:
    """What a task has measured. A failed one does not stop the others."""
    try:
        return task.run()
    except (Failure, KafkaException, KafkaError) as error:
        return {"problem": f"failed ({error})"}


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.run", description="Measure the pipeline and its peers."
    )
    parser.add_argument("--quick", action="store_true", help="all of them small; prints the tables")
    parser.add_argument(
        "sections", nargs="*", metavar="SECTION", help=f"of {', '.join(sections.ALL)} (all)"
    )
    arguments = parser.parse_args()
    for section in arguments.sections:
        if section not in sections.ALL:
            parser.error(f"{section} is not a section: use some of {', '.join(sections.ALL)}")
    return arguments


if __name__ == "__main__":
    runtime.run_tool(main)
