"""Short runs of `make chaos` and `make cluster-demo`, and that the verdict is independent."""

import ast
import subprocess
import sys

import pytest

from tests import PROJECT

SEED = 2435  # its first half minute has most faults of the network, and kills a producer and a node


def test_every_total_is_right_whatever_breaks() -> None:
    options = ["--minutes", "0.35", "--seed", str(SEED), "--nodes", "3"]
    command = [sys.executable, "-m", "tests.chaos.run", *options]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr + done.stdout


def test_totals_are_right_on_a_spark_cluster() -> None:
    size = ["--stations", "1500", "--nodes", "1", "--workers", "1"]
    command = [sys.executable, "-m", "tests.chaos.cluster", *size, "--snapshots=1", "--kills=0"]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr + done.stdout
    assert "totals compared" in done.stdout


@pytest.mark.parametrize("name", ["chaos/verdict.py", "chaos/reading.py", "expected.py"])
def test_the_verdict_uses_no_code_of_the_product(name: str) -> None:
    scripts = {path.stem for path in PROJECT.glob("*.py")}
    nodes = list(ast.walk(ast.parse((PROJECT / "tests" / name).read_text())))
    imported = [node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)]
    imported += [
        alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names
    ]
    assert not {module.partition(".")[0] for module in imported} & (scripts | {"velib"})
