"""The peers of the bench whose packages the tests have: each has the plain sums as its totals."""

from pathlib import Path

from bench.contenders import CONFLUENT, KAFKA_PYTHON
from bench.fill import RECORDS, fill
from bench.measure import RunEnvironment, catch_up
from bench.processes import kafka

SNAPSHOTS = 20


def test_the_totals_of_the_peers_are_the_plain_sums(tmp_path: Path) -> None:
    with kafka(tmp_path) as (address, _):
        expected = fill(
            RunEnvironment(address, "raw", tmp_path / "fill").settings, SNAPSHOTS, partitions=1
        )
        assert len(expected) == SNAPSHOTS * 87
        for number, peer in enumerate((KAFKA_PYTHON, CONFLUENT)):
            environment = RunEnvironment(address, "raw", tmp_path / f"peer-{number}")
            figures = catch_up(peer, environment, expected, SNAPSHOTS * RECORDS)
            assert "problem" not in figures, f"{peer.name}: {figures}"
