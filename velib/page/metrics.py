"""The metrics of the page server for Prometheus: totals by postal code, and health."""

import time

from fastapi import Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Gauge, generate_latest

from velib.page.state import DAY, Live


def response(live: Live, open_pages: int) -> Response:
    """The answer to Prometheus: what is known now."""
    registry = CollectorRegistry()

    def gauge(name: str, help_text: str, value: float) -> None:
        Gauge(name, help_text, registry=registry).set(value)

    now = time.time()
    with live.lock:
        gauge("velib_kafka_up", "Whether Kafka answers, 1 or 0", live.is_kafka_up)
        gauge("velib_dashboard_pages", "Open pages", open_pages)
        gauge("velib_records_waiting", "Raw records without a total", live.waiting())
        dead_letters = len(live.dead_letters_since(now - DAY))
        gauge("velib_dead_letters_last_day", "Dead letters of the last 24 hours", dead_letters)
        for name, help_text, snapshot in (
            ("velib_snapshot", "The newest snapshot with totals", live.newest_snapshot),
            ("velib_raw_snapshot", "The newest snapshot in the raw topic", live.raw_snapshot),
        ):
            if snapshot:
                gauge(f"{name}_timestamp_seconds", help_text, snapshot)
        if live.newest_snapshot:
            age = now - live.newest_snapshot
            gauge("velib_snapshot_age_seconds", "Age of the newest snapshot with totals", age)
        if live.last_poll is not None:
            age = now - live.last_poll.polled_at
            gauge("velib_producer_poll_age_seconds", "Time since the producer's last poll", age)
        for name, help_text, field in (
            ("velib_bikes_available", "Available bikes", "num_bikes_available"),
            ("velib_ebikes_available", "Available electric bikes", "ebike"),
            ("velib_docks_available", "Free docks", "num_docks_available"),
            ("velib_stations_counted", "Open stations that were counted", "stations"),
        ):
            by_code = Gauge(name, help_text, ["postal_code"], registry=registry)
            for postal_code, counts in live.totals().items():
                by_code.labels(postal_code).set(getattr(counts, field))
    return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)
