"""A whole pipeline and the page of dashboard.py over it, for the browser of tests and pictures."""

import json
import shutil
import urllib.request
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Playwright

from local.broker import free_port
from local.day import Day
from tests.pipeline import Pipeline, Script, wait_until
from velib.kafka import clients

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


def launch(playwright: Playwright) -> Browser:
    """The Chromium of this machine."""
    return playwright.chromium.launch(
        executable_path=CHROMIUM, args=["--no-sandbox", "--disable-dev-shm-usage"]
    )


class Shown:
    """A pipeline of all stations, with its own Kafka, job and feed, and the dashboard over it."""

    def __init__(self, folder: Path, day: Day) -> None:
        self.port = free_port()
        self.pipeline = Pipeline(f"localhost:{free_port()}", folder)
        self.pipeline.environment["VELIB_STATIONS"] = "all"
        try:
            self.broker = self.pipeline.start_broker()
            self.feed = self.pipeline.simulate(day)
            self.producer = self.pipeline.start("kafka_project.py")
            self.job = self.pipeline.start("spark.py")
            self.dashboard = self.start_dashboard()
        except BaseException:
            self.pipeline.kill_all()
            raise

    def start_dashboard(self) -> Script:
        script = self.pipeline.start("dashboard.py", "--port", str(self.port))
        script.wait_for("The page: http")
        wait_until(lambda: clients.listens(f"localhost:{self.port}"), "the page is served")
        return script

    def wait_for_snapshots(self, number: int) -> None:
        """Wait until `number` snapshots have totals."""
        wait_until(lambda: "ready" in self.broker.printed(), "Kafka is ready")
        wait_until(
            lambda: len({s for _, s in self.pipeline.totals()}) >= number, f"{number} snapshots"
        )

    @property
    def url(self) -> str:
        return f"http://localhost:{self.port}"

    def get(self, path: str) -> Any:
        """The JSON at a path."""
        with urllib.request.urlopen(self.url + path, timeout=10) as response:
            return json.load(response)
