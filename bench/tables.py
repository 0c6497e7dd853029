"""The results as tables in Markdown: medians, each with its range."""

import statistics
from collections.abc import Callable, Iterable
from typing import Any

from bench.contenders import CONFLUENT, COPY, DEFAULT_COPY, FLINK, JOB, KAFKA_PYTHON, QUIX
from bench.measure import Figures

NOT_MEASURED = "(not measured)"

Results = dict[str, dict[str, Any]]
"""For each section its `date`, its `machine` and its `runs`."""

Runs = dict[str, list[Figures]]
"""The figures of each run, by contender."""


def all_tables(results: Results) -> dict[str, str]:
    """Each table in Markdown, by the name that it has in the text."""
    makers: dict[str, tuple[str, Callable[[Runs], str]]] = {
        "latency": ("latency", latency),
        "peers-cost": ("latency", peers_cost),
        "catch-up": ("catch-up", catch_up),
        "cost": ("cost", cost),
        "growth-latency": ("growth", growth_latency),
        "growth-catch-up": ("growth", growth_catch_up),
        "publishing": ("publishing", publishing),
    }
    tables = {
        name: make(results[section]["runs"])
        for name, (section, make) in makers.items()
        if section in results
    }
    return {"targets": targets(results), **tables, "machine": machines(results)}


def table(header: str, rows: Iterable[Iterable[str]]) -> str:
    """A table in Markdown; the columns of the header are separated by bars."""
    if not (rows := list(rows)):
        return NOT_MEASURED
    rule = "|".join(" --- " for _ in header.split("|"))
    lines = [f"| {header} |", f"|{rule}|"]
    return "\n".join([*lines, *[f"| {' | '.join(row)} |" for row in rows]])


def valid(runs: list[Figures]) -> list[Figures]:
    """The runs, none if the totals of any were not right."""
    return [] if any("problem" in run for run in runs) else runs


def median(runs: list[Figures], name: str) -> float:
    """The median of a figure; raises StatisticsError if the runs are not valid."""
    return float(statistics.median(run[name] for run in valid(runs)))


def spread(runs: list[Figures], name: str, form: str) -> str:
    """The median of a figure and its range; none if the totals of any run were not right."""
    if problems := [run["problem"] for run in runs if "problem" in run]:
        return f"{problems[0].split()[0]} in {len(problems)} of {len(runs)} runs"
    values = [run[name] for run in runs]
    low, middle, high = min(values), statistics.median(values), max(values)
    if len(values) == 1:
        return form.format(middle)
    return f"{form.format(middle)} ({form.format(low)}–{form.format(high)})"


def bold(name: str) -> str:
    return f"**{name}**" if name == JOB.name else name


def by_median(runs: Runs, name: str, reverse: bool = False) -> list[str]:
    """The contenders in the order of a figure; those without it come last."""
    ranked = sorted(
        (name for name in runs if valid(runs[name])),
        key=lambda contender: median(runs[contender], name),
        reverse=reverse,
    )
    return [*ranked, *[contender for contender in runs if contender not in ranked]]


def latency(runs: Runs) -> str:
    def ratio(name: str) -> str:
        if not has(runs, name, DEFAULT_COPY.name):
            return ""
        return f"{median(runs[name], 'p50') / median(runs[DEFAULT_COPY.name], 'p50'):.2f}"

    return table(
        "| p50, s | p99, s | times copying with Spark's defaults | start to first total, s | runs",
        (
            [
                bold(name),
                spread(runs[name], "p50", "{:.3f}"),
                spread(runs[name], "p99", "{:.3f}"),
                ratio(name),
                spread(runs[name], "first_total", "{:.1f}"),
                str(len(runs[name])),
            ]
            for name in by_median(runs, "p50")
        ),
    )


MEMORY = ("memory, MB", "memory_mb", "{:,.0f}")
CPU = ("CPU seconds per snapshot", "cpu_per_snapshot", "{:.3f}")


def of_figures(first: str, runs: Runs, names: Iterable[str], *columns: tuple[str, str, str]) -> str:
    """A table with a row for each name; a column has a heading, a figure and its format."""
    return table(
        " | ".join([first, *[heading for heading, _, _ in columns]]).lstrip(),
        (
            [bold(name), *[spread(runs[name], figure, form) for _, figure, form in columns]]
            for name in names
        ),
    )


def peers_cost(runs: Runs) -> str:
    return of_figures("", runs, by_median(runs, "cpu_per_snapshot"), MEMORY, CPU)


def catch_up(runs: Runs) -> str:
    return table(
        "| records | records/s | with start-up and shutdown | memory, MB | CPU seconds | runs",
        (
            [
                bold(name),
                f"{runs[name][0].get('records', 0):,}",
                spread(runs[name], "records_per_second", "{:,.0f}"),
                spread(runs[name], "whole_records_per_second", "{:,.0f}"),
                spread(runs[name], "memory_mb", "{:,.0f}"),
                spread(runs[name], "cpu_seconds", "{:,.0f}"),
                str(len(runs[name])),
            ]
            for name in by_median(runs, "records_per_second", reverse=True)
        ),
    )


def cost(runs: Runs) -> str:
    whole = valid(runs["pipeline"])
    if not whole:
        return "failed"
    parts = [name for name, figures in whole[0].items() if isinstance(figures, dict)]
    rows = [
        [
            part,
            spread([run[part] for run in whole], "memory_mb", "{:,.0f}"),
            spread([run[part] for run in whole], "cpu_per_snapshot", "{:.3f}"),
        ]
        for part in parts
    ]
    disk = [
        ["raw topic, KB per snapshot", spread(whole, "raw_kb", "{:,.1f}")],
        ["final topic, KB per snapshot", spread(whole, "final_kb", "{:,.1f}")],
        ["checkpoint, MB", spread(whole, "checkpoint_mb", "{:,.1f}")],
    ]
    return "\n\n".join(
        [table("| memory, MB | CPU seconds per snapshot", rows), table("on disk |", disk)]
    )


def growth_latency(runs: Runs) -> str:
    return of_figures(
        "a snapshot has",
        runs,
        (name for name in runs if name.endswith("stations")),
        ("p50, s", "p50", "{:.2f}"),
        ("p99, s", "p99", "{:.2f}"),
        MEMORY,
        ("CPU seconds per snapshot", "cpu_per_snapshot", "{:.2f}"),
    )


def growth_catch_up(runs: Runs) -> str:
    return of_figures(
        "catch-up with",
        runs,
        (name for name in runs if name.startswith("cores")),
        ("records/s", "records_per_second", "{:,.0f}"),
        MEMORY,
    )


def publishing(runs: Runs) -> str:
    return table(
        "a snapshot has | records/s | seconds per snapshot | share of a minute",
        (
            [
                name,
                spread(figures, "records_per_second", "{:,.0f}"),
                spread(figures, "seconds", "{:.3f}"),
                f"{median(figures, 'seconds') / 60:.2%}" if valid(figures) else "",
            ]
            for name, figures in runs.items()
        ),
    )


def targets(results: Results) -> str:
    """Which of the targets are met."""
    runs = {name: section["runs"] for name, section in results.items()}
    latencies, speeds = runs.get("latency", {}), runs.get("catch-up", {})
    larger = runs.get("growth", {})
    rows: list[tuple[str, str, bool]] = []
    for copy, options in ((DEFAULT_COPY, "its defaults"), (COPY, "this job's options")):
        if has(latencies, JOB.name, copy.name):
            ours, floor = (median(latencies[name], "p50") for name in (JOB.name, copy.name))
            figure = f"{ours:.3f} s, {ours / floor:.2f} times"
            target = f"latency (p50) at most twice that of Spark copying with {options}"
            rows.append((target, figure, ours <= 2 * floor))
    for peer in (KAFKA_PYTHON, CONFLUENT, QUIX, FLINK):
        if has(speeds, JOB.name, peer.name):
            ours, theirs = (median(speeds[n], "records_per_second") for n in (JOB.name, peer.name))
            figure = f"{ours:,.0f} against {theirs:,.0f} records/s"
            rows.append((f"catch-up ahead of {peer.name}", figure, ours > theirs))
    sizes = [name for name in larger if name.endswith("stations") and valid(larger[name])]
    if len(sizes) > 1:
        first, last = (median(larger[name], "p50") for name in (sizes[0], sizes[-1]))
        factor = number(sizes[-1]) / number(sizes[0])
        figure = f"{last / first:.0f} times for {factor:.0f} times the stations"
        rows.append(
            ("latency grows more slowly than the number of stations", figure, last / first < factor)
        )
    scaled = "cores: 2, partitions: 1"
    if has(speeds, JOB.name) and has(larger, scaled):
        small, large = median(larger[scaled], "memory_mb"), median(speeds[JOB.name], "memory_mb")
        figure = f"{large:,.0f} MB over the long backlog, {small:,.0f} MB over the short one"
        rows.append(("memory bounded whatever the backlog", figure, large < 1.25 * small))
    return table(
        "target | measured | met",
        ([name, figure, "yes" if is_met else "no"] for name, figure, is_met in rows),
    )


def has(runs: Runs, *names: str) -> bool:
    """Whether there are valid figures of all of these."""
    return all(valid(runs.get(name, [])) for name in names)


def number(name: str) -> int:
    """The number at the beginning of a name such as `1,500 stations`."""
    return int(name.split()[0].replace(",", ""))


def machines(results: Results) -> str:
    """On what each section was measured, and when; one table if it was the same for all."""
    dates = ", ".join(f"{name} {section['date']}" for name, section in results.items())
    facts: dict[str, str] = {}
    for section in results.values():
        facts |= section["machine"]
    return table("measured |", [["date", dates], *([k, v] for k, v in facts.items())])
