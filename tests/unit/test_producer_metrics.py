"""The producer's metrics, without a producer."""

import math
import time

from prometheus_client import REGISTRY

from velib.feed.snapshot import Snapshot
from velib.producer import metrics


def _value(name: str, **labels: str) -> float:
    value = REGISTRY.get_sample_value(f"velib_producer_{name}", labels)
    assert value is not None
    return value


def test_a_published_snapshot_is_counted_and_its_age_grows() -> None:
    before = _value("snapshots_published_total")
    metrics.published(Snapshot(int(time.time()) - 100, [{}, {}]), 0.3)
    assert _value("snapshots_published_total") == before + 1
    assert _value("stations") == 2
    assert 100 <= _value("feed_age_seconds") < 105
    assert _value("publish_duration_seconds_bucket", le="0.25") == before
    assert _value("publish_duration_seconds_bucket", le="0.5") == before + 1


def test_after_a_restart_the_age_is_that_of_the_snapshot_before() -> None:
    metrics.set_newest_snapshot(int(time.time()) - 1000)
    assert 1000 <= _value("feed_age_seconds") < 1005
    metrics.set_newest_snapshot(0)
    assert not math.isnan(_value("feed_age_seconds"))


def test_errors_are_counted_by_kind() -> None:
    before = _value("poll_errors_total", kind="timeout")
    metrics.poll_failed("timeout")
    assert _value("poll_errors_total", kind="timeout") == before + 1
    assert _value("poll_errors_total", kind="malformed") >= 0
