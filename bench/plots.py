"""The plots of docs/benchmarks.md."""

from pathlib import Path

import pygal

from bench.contenders import PROJECT
from bench.tables import Runs, by_median, median, number, valid

DOCS = PROJECT / "docs"


def draw(results: dict[str, Runs]) -> None:
    """Draw the plots of the measured sections into docs/bench-*.svg."""
    if latency := results.get("latency"):
        names = by_median(latency, "p50")
        title = "Live latency, p50 in ms: less is better"
        _bars(title, {n: _of(latency, n, "p50", 1e3) for n in names}, DOCS / "bench-latency.svg")
    if catch_up := results.get("catch-up"):
        names = by_median(catch_up, "records_per_second", reverse=True)
        title = "Catch-up, thousands of records a second: more is better"
        speeds = {n: _of(catch_up, n, "records_per_second", 1e-3) for n in names}
        _bars(title, speeds, DOCS / "bench-catch-up.svg")
    if growth := results.get("growth"):
        _growth(growth, DOCS / "bench-growth.svg")


def _of(runs: Runs, name: str, figure: str, unit: float) -> float | None:
    return round(median(runs[name], figure) * unit, 1) if valid(runs[name]) else None


def _bars(title: str, values: dict[str, float | None], file: Path) -> None:
    """A bar for each contender, the first one on top."""
    chart = pygal.HorizontalBar(
        title=title,
        show_legend=False,
        print_values=True,
        truncate_label=-1,
        height=90 + 45 * len(values),
        js=(),
        style=pygal.style.DefaultStyle,
    )
    chart.x_labels = list(values)[::-1]
    chart.add("", list(values.values())[::-1])
    file.write_bytes(chart.render())


def _growth(runs: Runs, file: Path) -> None:
    """Latency over the number of stations, both by powers of ten, beside a latency that grows as
    the network does.
    """
    sizes = [name for name in runs if name.endswith("stations") and valid(runs[name])]
    points = [(number(name), median(runs[name], "p50")) for name in sizes]
    if not points:
        return
    chart = pygal.XY(
        title="Latency of the job, p50 in seconds, as a snapshot grows",
        x_title="stations of a snapshot",
        logarithmic=True,
        xrange=(1_000, 200_000),
        x_labels=[stations for stations, _ in points],
        truncate_label=-1,
        truncate_legend=-1,
        legend_at_bottom=True,
        js=(),
        style=pygal.style.DefaultStyle,
    )
    stations, seconds = points[0]
    chart.add("measured", points)
    chart.add("if it grew as the network does", [(x, seconds * x / stations) for x, _ in points])
    file.write_bytes(chart.render())
