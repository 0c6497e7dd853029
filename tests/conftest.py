"""What all tests share: the project's settings do not come from the environment of whoever runs the tests."""

from pathlib import Path

import pytest

import config

PROJECT = Path(__file__).parent.parent


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No setting is set, no `.env` is read, and what a test makes is made in a folder of its own."""
    for field in config.Settings.model_fields.values():
        monkeypatch.delenv(str(field.validation_alias), raising=False)
    monkeypatch.chdir(tmp_path)
