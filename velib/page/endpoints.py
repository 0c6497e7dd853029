"""What the page's server offers to programs: the totals as JSON and GeoJSON, and metrics."""

import json
import time
from collections.abc import Callable

from fastapi import FastAPI, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Gauge, generate_latest

from velib.page.state import DAY, PipelineState
from velib.totals.areas import outlines


def serve(app: FastAPI, state: PipelineState, count_pages: Callable[[], int]) -> None:
    """Serve the state; `count_pages` returns how many pages are open in browsers."""

    @app.get("/api/totals")
    def totals() -> Response:
        with state.lock:
            values = [state.latest[postal_code][2] for postal_code in sorted(state.latest)]
        return Response(b"[" + b",\n".join(values) + b"]", media_type="application/json")

    @app.get("/api/areas.geojson")
    def areas_with_totals() -> Response:
        with state.lock:
            latest = {code: json.loads(value) for code, (_, _, value) in state.latest.items()}
        features = [
            feature | {"properties": feature["properties"] | latest.get(feature["id"], {})}
            for feature in outlines()["features"]
        ]
        collection = outlines() | {"features": features}
        return Response(json.dumps(collection), media_type="application/geo+json")

    @app.get("/metrics")
    def prometheus() -> Response:
        with state.lock:
            registry = metrics(state, count_pages(), time.time())
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)


def metrics(state: PipelineState, open_pages: int, now: float) -> CollectorRegistry:
    """The metrics of the pipeline; `now` in epoch seconds."""
    registry = CollectorRegistry()

    def gauge(name: str, help_text: str, value: float) -> None:
        Gauge(name, help_text, registry=registry).set(value)

    gauge("velib_kafka_up", "Whether Kafka answers, 1 or 0", state.is_kafka_up)
    gauge("velib_dashboard_pages", "Open pages", open_pages)
    gauge("velib_records_waiting", "Raw records without a total", state.waiting())
    dead_letters = len(state.dead_letters_since(now - DAY))
    gauge("velib_dead_letters_last_day", "Dead letters of the last 24 hours", dead_letters)
    if state.producers is not None:
        gauge("velib_producers", "Producers that run", state.producers)
    if state.raw_snapshot:
        help_text = "The newest snapshot in the raw topic"
        gauge("velib_raw_snapshot_timestamp_seconds", help_text, state.raw_snapshot)
    if state.newest_snapshot:
        help_text = "The newest snapshot with totals"
        gauge("velib_snapshot_timestamp_seconds", help_text, state.newest_snapshot)
        age = now - state.newest_snapshot
        gauge("velib_snapshot_age_seconds", "Age of the newest snapshot with totals", age)
    for name, help_text, count in (
        ("velib_bikes_available", "Available bikes", "num_bikes_available"),
        ("velib_ebikes_available", "Available electric bikes", "ebike"),
        ("velib_docks_available", "Free docks", "num_docks_available"),
        ("velib_stations_counted", "Open stations that were counted", "stations"),
    ):
        by_code = Gauge(name, help_text, ["postal_code"], registry=registry)
        for postal_code, counts in state.totals().items():
            by_code.labels(postal_code).set(getattr(counts, count))
    return registry
