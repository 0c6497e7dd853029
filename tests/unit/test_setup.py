"""What set-up does at each start, and what only once."""

from pathlib import Path

import pytest

from local import setup
from tests.pipeline import checkout


def test_java_is_prepared_again_only_for_other_packages_or_without_its_archives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(checkout(tmp_path / "clone"))
    archive, runs = Path("kafka.jsa"), Path("runs")
    setup.PYTHON.parent.mkdir(parents=True)
    setup.PYTHON.write_text(f"#!/bin/sh\necho $* >> {runs}\ntouch {archive}\necho {archive}\n")
    setup.PYTHON.chmod(0o755)

    def prepared() -> int:
        setup.prepare_java()
        return runs.read_text().count("-m local.class_data\n")

    assert [prepared(), prepared()] == [1, 1]
    archive.unlink()
    assert [prepared(), prepared()] == [2, 2]
    requirements = Path("requirements.txt")
    text = requirements.read_text()
    requirements.unlink()  # it is a link to the project's
    requirements.write_text(f"{text}\n# another Spark\n")
    assert [prepared(), prepared()] == [3, 3]
