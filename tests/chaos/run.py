"""Breaks the real pipeline at random moments, and compares all that it writes with plain sums.

    make chaos                                           five minutes, one broker
    python -m tests.chaos.run --minutes 30 --seed 7      longer, other moments
    python -m tests.chaos.run --nodes 3                  on a cluster of three brokers

Two producers publish one feed. Processes are killed (-9) and restarted, or stopped for a while
(SIGSTOP); the network between the scripts and Kafka cuts, loses, delays and repeats; the feed
misbehaves; another client writes hostile records and repeats true ones. The exit status is 1 if a
total was ever wrong, or is missing, if a snapshot was published twice, if a reader saw a part of
one, if dead letters are missing or too many, or if a script ended by itself.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from kafka.errors import KafkaError

from tests.chaos.faults import Chaos, faults
from tests.chaos.verdict import Verdict
from velib import runtime
from velib.errors import Failure
from velib.runtime import log

RECOVERY_TIMEOUT = (
    300.0  # seconds after the last fault until everything must be published and summed
)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.chaos.run", description="Break the pipeline, compare its totals."
    )
    parser.add_argument("--minutes", type=float, default=5, help="how long (default: %(default)s)")
    parser.add_argument("--seed", type=int, help="of the random choices (default: a new one)")
    parser.add_argument(
        "--nodes", type=int, choices=(1, 3), default=1, help="Kafka's nodes (default: %(default)s)"
    )
    parser.add_argument(
        "--producers", type=int, default=2, help="on the one feed (default: %(default)s)"
    )
    arguments = parser.parse_args()
    seed = arguments.seed if arguments.seed is not None else int(time.time())
    log.info(
        "Chaos for %s minutes on %d node(s). To repeat it: --seed %d",
        arguments.minutes,
        arguments.nodes,
        seed,
    )
    with tempfile.TemporaryDirectory(prefix="velib-chaos-") as name:
        chaos = Chaos(Path(name), seed, arguments.nodes, arguments.producers)
        try:
            differences = run(chaos, arguments.minutes * 60)
        finally:
            chaos.pipeline.kill_all()
    if differences:
        raise Failure(f"{differences} differences")


def run(chaos: Chaos, seconds: float) -> int:
    """Break the pipeline for `seconds`, let it recover, and print the verdict.

    Returns the number of differences between what came out and what should have.
    """
    wait(chaos, lambda: len(chaos.pipeline.totals()) > 0, "the first totals")
    verdict = Verdict(chaos)
    verdict.watch()
    inject_faults(chaos, seconds)
    chaos.proxy.heal()
    log.info("No more faults: waiting until everything is published and summed")
    now = int(time.time())
    wait(
        chaos,
        lambda: verdict.raw_reader.newest > now,
        "a snapshot after the faults",
    )
    chaos.stop_producers()
    verdict.expect()
    try:
        wait(chaos, verdict.is_complete, "all totals and dead letters")
    except Failure as failure:
        log.error("%s", failure)
    verdict.stop_watching()
    return verdict.show()


def inject_faults(chaos: Chaos, seconds: float) -> None:
    """Inject a fault every few seconds, for `seconds`."""
    possible = faults(chaos)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        time.sleep(chaos.chance.uniform(0.5, 3))
        chaos.restart_ended()
        name, inject = chaos.chance.choice(possible)
        if inject():
            chaos.counts[name] += 1
            log.info("%s", name)


def wait(chaos: Chaos, condition: Callable[[], bool], what: str) -> None:
    """Wait until the condition is true, even while Kafka is away.

    Raises Failure after RECOVERY_TIMEOUT.
    """
    deadline = time.monotonic() + RECOVERY_TIMEOUT
    while time.monotonic() < deadline:
        chaos.restart_ended()
        try:
            if condition():
                return
        except KafkaError:
            pass
        time.sleep(1)
    raise Failure(f"Not within {RECOVERY_TIMEOUT:.0f} s: {what}")


if __name__ == "__main__":
    runtime.run_tool(main)
