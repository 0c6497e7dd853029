"""Several producers: each of a feed of its own, and a standby that takes over."""

import json
import signal
import time
from collections import Counter

from tests.expected import feed, station
from tests.pipeline import Pipeline, Script, wait_until
from velib.last_poll import RENEWAL
from velib.standby import TAKEOVER


def _counts(pipeline: Pipeline) -> Counter[tuple[str, int]]:
    """How often each station of each snapshot is in the raw topic."""
    stations = [json.loads(record.value) for record in pipeline.raw()]
    return Counter((one["stationCode"], one["last_updated"]) for one in stations)


def test_a_standby_takes_over_within_a_minute_and_no_snapshot_is_published_twice(
    pipeline: Pipeline,
) -> None:
    now = int(time.time())
    api, raw = pipeline.serve_api(), pipeline.settings.raw_topic
    first = pipeline.start("kafka_project.py", "--standby")
    first.wait_for("404")  # there is nothing to publish yet
    second = pipeline.start("kafka_project.py", "--standby")
    second.wait_for("Standing by")

    stations = [station(str(code)) for code in range(15_000)]  # the transaction takes its time
    api.put(feed(now, *stations))
    wait_until(lambda: pipeline.records(raw, committed=False), "records of the transaction")
    first.kill()
    assert pipeline.raw() == [], "the producer was not killed in the middle"
    taken_over_in = _seconds_until(second, "Published 15000 stations")
    assert "No sign of the producer" in second.log()
    assert TAKEOVER - RENEWAL < taken_over_in < 60

    first = pipeline.start("kafka_project.py", "--standby")
    first.wait_for("Standing by")
    second.process.send_signal(signal.SIGSTOP)
    requests = api.requests()
    api.put(feed(now + 1, station("1"), station("2")))
    assert _seconds_until(first, "No sign of the producer") < 60
    assert api.requests() < requests + 5, "the standby has asked the feed meanwhile"
    first.wait_for("Published 2 stations")
    second.process.send_signal(signal.SIGCONT)
    second.wait_for("Another kafka_project.py publishes")
    wait_until(lambda: second.log().count("Standing by") == 2, "it stands by again")

    assert first.stop() == 0
    assert _seconds_until(second, "has stopped: taking over") < 10
    api.put(feed(now + 2, station("1"), station("2"), station("3")))
    second.wait_for("Published 3 stations")
    assert second.stop() == 0
    assert second.log().count("Published") - second.log().count("positions") == 2
    assert set(_counts(pipeline).values()) == {1}
    published = {snapshot: len(stations) for snapshot, stations in pipeline.published().items()}
    assert published == {now: 15_000, now + 1: 2, now + 2: 3}


def _seconds_until(script: Script, text: str) -> float:
    """The seconds until the log of a script has this text."""
    started = time.monotonic()
    script.wait_for(text)
    return time.monotonic() - started
