"""What all tests share: no setting comes from the environment of the person who runs them."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import config


@pytest.fixture(scope="session", autouse=True)
def clean_environment() -> Iterator[None]:
    """No setting is set in the environment."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        for variable in config.variables():
            monkeypatch.delenv(variable, raising=False)
        yield


@pytest.fixture(autouse=True)
def own_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No `.env` is read, and what a test makes is made in a folder of its own."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def in_paris() -> Iterator[None]:
    """This machine's clock is that of Paris."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("TZ", "Europe/Paris")
        time.tzset()
        yield
    time.tzset()
