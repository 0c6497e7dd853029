"""The tests: `unit` without Kafka, `integration` with the real scripts on it, `chaos` by hand."""

import os
from pathlib import Path

PROJECT = Path(__file__).parent.parent


def environment() -> dict[str, str]:
    """The environment of this process, for the scripts that it starts.

    With pytest's own variable NiceGUI would take the dashboard for one of its own tests.
    """
    return {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"}
