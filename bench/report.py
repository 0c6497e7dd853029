"""Writes docs/benchmarks.md from the results: the tables and plots, around a text written by hand.

    python -m bench.report

The text is bench/benchmarks.md; each $name in it is a table of this file.
"""

import json
import re
from string import Template
from typing import Any

from bench import plots
from bench.contenders import FOLDER, PROJECT
from bench.measure import Figures
from bench.tables import NOT_MEASURED, Results, all_tables
from velib import runtime
from velib.errors import Failure

RESULTS = FOLDER / "results.json"
TEMPLATE = PROJECT / "bench" / "benchmarks.md"
PAGE = PROJECT / "docs" / "benchmarks.md"


def main() -> None:
    write()


def save(results: Results) -> None:
    """Save the results of the sections that were measured, and keep those of the others."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    known = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    RESULTS.write_text(json.dumps(known | results, indent=1))


def write() -> None:
    """Write docs/benchmarks.md and its plots from the kept results; raises Failure."""
    if not RESULTS.exists():
        raise Failure("Nothing has been measured yet: type `make bench`")
    results = json.loads(RESULTS.read_text())
    tables = {name.replace("-", "_"): table for name, table in all_tables(results).items()}
    template = Template(TEMPLATE.read_text(encoding="utf-8"))
    missing = dict.fromkeys(re.findall(r"\$(\w+)", template.template), NOT_MEASURED)
    plots.draw({name: section["runs"] for name, section in results.items()})
    page = template.substitute(missing | tables)
    PAGE.write_text(re.sub(r"!\[.*\]\((.*)\)\n\n", _image_if_drawn, page), encoding="utf-8")


def _image_if_drawn(image: re.Match[str]) -> str:
    """The line of a plot; nothing if its section has not been measured."""
    return image[0] if (PAGE.parent / image[1]).exists() else ""


def show(results: Results) -> None:
    """Print the tables."""
    for name, table in all_tables(results).items():
        print(f"\n{name}\n\n{table}")


def line(figures: Figures) -> str:
    """The figures of a run in a line of the log."""
    return ", ".join(f"{name} {_short(value)}" for name, value in figures.items()) or "done"


def _short(value: Any) -> str:
    if isinstance(value, dict):
        return f"({line(value)})"
    if isinstance(value, float):
        return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
    return str(value)


if __name__ == "__main__":
    runtime.run_tool(main)
