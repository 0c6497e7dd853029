"""docs/how-it-works.md shows the code as it stands, and records as the code makes them."""

import json
import re
import textwrap

import pytest

import config
import consumer
from tests import PROJECT, expected
from velib.producer import publisher

PAGE = (PROJECT / "docs" / "how-it-works.md").read_text(encoding="utf-8")
SNIPPETS = re.findall(r"`([\w/]+\.py)`:\n\n```python\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
"""The Python blocks, each with the file that the line before it names."""

BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
BLOCKS = BLOCK.findall(PAGE)
FEED, RAW, PARSED, TOTAL, HEADERS = [text for language, text in BLOCKS if language == "json"]
PRINTED = [line for language, text in BLOCKS if language == "" for line in text.splitlines()]

CODE = "".join(
    path.read_text(encoding="utf-8")
    for path in [*PROJECT.glob("*.py"), *PROJECT.glob("velib/**/*.py")]
)
NOT_IN_THE_CODE = {"dropDuplicates", "kill", "-9", "null"}

SNAPSHOT = 1732004538


def test_every_python_block_names_its_file() -> None:
    assert len(SNIPPETS) == [language for language, _ in BLOCKS].count("python") > 0


@pytest.mark.parametrize(("name", "snippet"), SNIPPETS)
def test_a_python_block_stands_in_its_file(name: str, snippet: str) -> None:
    lines = (PROJECT / name).read_text(encoding="utf-8").splitlines(keepends=True)
    length = len(snippet.splitlines())
    passages = ("".join(lines[start : start + length]) for start in range(len(lines)))
    assert snippet in map(textwrap.dedent, passages)


def test_the_raw_record_is_what_the_producer_makes_of_the_feed() -> None:
    record = publisher.to_record(json.loads(FEED), SNAPSHOT)
    assert record == (b"16107", _joined(RAW).encode())


def test_the_counts_and_the_total_are_those_of_the_station() -> None:
    totals = expected.totals(expected.feed(SNAPSHOT, json.loads(FEED)))
    total = totals["75016", SNAPSHOT]
    assert _joined(TOTAL) == json.dumps(total, separators=(",", ":"))
    assert json.loads(PARSED) == {
        "stationCode": "16107",
        "last_updated": SNAPSHOT,
        "postal_code": "75016",
        "counts": {name: total[name] for name in total.keys() - {"postal_code", "last_updated"}},
        "reason": None,
    }


@pytest.mark.usefixtures("in_utc")
def test_the_lines_of_the_consumer_are_those_that_it_prints() -> None:
    broken = json.loads(FEED) | {"num_bikes_available": None}
    key, value = publisher.to_record(broken, SNAPSHOT + 60)
    assert key is not None
    dead_letter = json.loads(HEADERS) | {"key": key.decode(), "value": value.decode()}
    assert consumer.as_text(json.loads(TOTAL)) in PRINTED
    assert consumer.dead_letter_as_text(dead_letter) in PRINTED


def test_the_lines_of_the_job_have_the_words_that_it_logs() -> None:
    lines = [line.split(maxsplit=1)[1] for line in PRINTED if line.startswith(("INFO", "WARNING"))]
    assert len(lines) == 3
    known = CODE + json.loads(HEADERS)["reason"]
    for line in lines:
        for words in re.split(r", |: |[\d.]+ ?", line):
            assert words in known, line


def test_every_name_in_code_type_is_in_the_code() -> None:
    spans = re.findall(r"`([^`]+)`", BLOCK.sub("", PAGE))
    names = {name for span in spans for name in re.split("[ =]", span)}
    assert names > NOT_IN_THE_CODE
    for name in names - NOT_IN_THE_CODE:
        name = f'"{name}"' if name.startswith("--") else name  # an option that a script has
        assert name in CODE or name in FEED or (PROJECT / name).is_file(), name


def test_the_topics_and_the_settings_are_the_default_ones() -> None:
    variables = config.variables()
    topics = {field.default for name, field in variables.items() if name.endswith("_TOPIC")}
    assert set(re.findall(r"velib-projet[\w-]*", PAGE)) == topics
    assert set(re.findall(r"VELIB_\w+", PAGE)) <= variables.keys()


def test_the_seconds_of_a_transaction_are_those_of_the_producer() -> None:
    assert f"not committed in {publisher.TRANSACTION_TIMEOUT} s " in PAGE


def test_a_codespace_is_set_up_by_a_target_of_the_makefile() -> None:
    settings = json.loads((PROJECT / ".devcontainer" / "devcontainer.json").read_text())
    make, target = settings["postCreateCommand"].split()
    assert make == "make"
    assert re.search(rf"^{target}:", (PROJECT / "Makefile").read_text(), re.MULTILINE)


def _joined(text: str) -> str:
    """The text of a record, without the line breaks that the page adds."""
    return "".join(line.strip() for line in text.splitlines())
