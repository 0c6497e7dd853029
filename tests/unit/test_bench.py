"""The page of the bench: medians with their ranges, and no figure for wrong totals."""

from bench.contenders import COPY, JOB, KAFKA_PYTHON
from bench.measure import Figures
from bench.tables import all_tables, spread

SPEEDS: list[Figures] = [{"records_per_second": speed} for speed in (1_000.0, 3_000.0, 2_000.0)]
WRONG: Figures = {"problem": "wrong totals: 3 missing"}


def test_a_figure_is_the_median_of_its_runs_with_their_range() -> None:
    assert spread(SPEEDS, "records_per_second", "{:,.0f}") == "2,000 (1,000–3,000)"


def test_a_contender_with_a_wrong_total_has_no_figure() -> None:
    assert spread([*SPEEDS, WRONG], "records_per_second", "{:,.0f}") == "wrong in 1 of 4 runs"


def test_a_latency_over_twice_the_latency_of_copying_misses_its_target() -> None:
    def targets(p50: float) -> str:
        run = {"p99": 1.0, "first_total": 9.0, "memory_mb": 500.0, "cpu_per_snapshot": 0.1}
        runs = {
            JOB.name: [run | {"p50": p50}],
            COPY.name: [run | {"p50": 0.05}],
            KAFKA_PYTHON.name: [WRONG],
        }
        section = {"date": "2026-11-26", "machine": {"cores": "2"}, "runs": runs}
        return all_tables({"latency": section})["targets"]

    assert targets(0.09).endswith("| 0.090 s, 1.80 times | yes |")
    assert targets(0.11).endswith("| 0.110 s, 2.20 times | no |")
