"""Several producers: each of a feed of its own, and a standby that takes over."""

import json
import time
from collections import Counter

from local.security import grant
from tests.expected import feed, station
from tests.pipeline import Api, Pipeline, Script, wait_until
from velib.cli import local_time


def _counts(pipeline: Pipeline) -> Counter[tuple[str, int]]:
    """How often each station of each snapshot is in the raw topic."""
    stations = [json.loads(record.value) for record in pipeline.raw()]
    return Counter((one["stationCode"], one["last_updated"]) for one in stations)


def test_producers_of_several_feeds_publish_to_one_topic_and_each_goes_on_after_its_own(
    pipeline: Pipeline,
) -> None:
    now = int(time.time())
    newest = {"": now, "north": now - 90, "south.1": now - 400}
    """The newest snapshot of each producer, by its VELIB_TRANSACTIONAL_ID; one has none."""
    codes = {"": "16107", "north": "18001", "south.1": "14001"}
    apis: dict[str, Api] = {}
    urls: dict[str, str] = {}
    producers: dict[str, Script] = {}

    def start(name: str) -> Script:
        own = {"VELIB_TRANSACTIONAL_ID": name, "VELIB_API_URL": urls[name]}
        return pipeline.start("kafka_project.py", VELIB_STATIONS="all", **own)

    def publish(name: str) -> None:
        """Have a feed show its next snapshot, and wait until that is published."""
        newest[name] += 1
        apis[name].put(feed(newest[name], station(codes[name])))
        key = (codes[name], newest[name])
        wait_until(lambda: key in _counts(pipeline), f"{key} is published")

    for name in newest:
        own = {"transactional_id": name or None}
        grant(pipeline.settings, pipeline.settings.model_copy(update=own))
        apis[name] = pipeline.serve_api(f"api-{name}")
        urls[name] = pipeline.environment["VELIB_API_URL"]
        producers[name] = start(name)
    for name in [*newest, *reversed(newest)]:
        publish(name)
    for name in newest:
        assert producers[name].stop() == 0, "it was fenced"
        producers[name] = start(name)
        producers[name].wait_for("published already")
        going_on = f"Going on after the snapshot of {local_time(newest[name])}"
        assert going_on in producers[name].log()
    for name in newest:
        publish(name)
        assert producers[name].stop() == 0, "it was fenced"
    assert set(_counts(pipeline).values()) == {1}
    assert len(pipeline.raw()) == 9
    of_code = {code: name for name, code in codes.items()}
    for record in pipeline.raw():
        name = of_code[json.loads(record.value)["stationCode"]]
        assert record.headers == ([("producer", name.encode())] if name else [])
