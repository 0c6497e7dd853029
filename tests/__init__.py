"""The tests: `unit` without Kafka, `integration` with the real scripts on it, `chaos` by hand."""

from pathlib import Path

PROJECT = Path(__file__).parent.parent
