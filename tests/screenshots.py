"""Takes the pictures of the page for the README and docs/, from a real run of the whole pipeline.

    python -m tests.screenshots [--feed FOLDER] [--minutes 5]

The pictures are of the simulated feed. With a folder that holds `station_status.json` and
`station_information.json`, as the API gives them, the picture of the whole map is of that feed.
"""

import argparse
import shutil
import tempfile
import time
from pathlib import Path

from playwright.sync_api import Browser, Page, expect, sync_playwright

from local.broker import free_port
from tests import PROJECT
from tests.pipeline import Pipeline, wait_until

PICTURES = PROJECT / "docs" / "pictures"
PERIOD = 3  # seconds between two simulated snapshots


def main() -> None:
    parser = argparse.ArgumentParser(description="Take the pictures of the page.")
    parser.add_argument("--feed", type=Path, help="a folder with the answers of the API")
    parser.add_argument("--minutes", type=float, default=5, help="of history in the charts")
    arguments = parser.parse_args()
    PICTURES.mkdir(exist_ok=True)
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        if arguments.feed:
            picture_feed(browser, arguments.feed)
        picture_simulation(browser, arguments.minutes)
        browser.close()


class Run:
    """The whole pipeline, with all stations, and its page."""

    def __init__(self, folder: Path, feed: Path | None = None) -> None:
        folder.mkdir()
        self.port = free_port()
        self.pipeline = Pipeline(f"localhost:{free_port()}", folder)
        self.pipeline.environment["VELIB_STATIONS"] = "all"
        broker = self.pipeline.start_broker()
        if feed:
            api = self.pipeline.serve_api()
            for name in ("station_status.json", "station_information.json"):
                shutil.copy(feed / name, api.folder / name)
        else:
            self.pipeline.simulate(1500, PERIOD)
        self.pipeline.start("kafka_project.py")
        self.job = self.pipeline.start("spark.py")
        self.pipeline.start("dashboard.py", "--port", str(self.port))
        wait_until(lambda: "ready" in broker.printed(), "Kafka is ready")
        wait_until(self.pipeline.totals, "the first totals")

    def open(self, browser: Browser, size: tuple[int, int], **options: str) -> Page:
        """The page in a window of this size (pixels), once it shows numbers."""
        width, height = size
        context = browser.new_context(
            viewport={"width": width, "height": height},
            timezone_id="Europe/Paris",
            locale=options.get("locale", "en-GB"),
            color_scheme="dark" if options.get("scheme") == "dark" else "light",
        )
        page = context.new_page()
        page.goto(f"http://localhost:{self.port}")
        expect(page.locator(".numbers .value").first).not_to_have_text("–", timeout=30_000)
        expect(page.locator("path[data-code]")).to_have_count(89, timeout=30_000)
        page.wait_for_timeout(3_000)  # the map has drawn, and no number is marked any more
        return page


def save(page: Page, name: str) -> None:
    page.screenshot(path=PICTURES / f"{name}.png", full_page=page.viewport_size["width"] < 500)  # type: ignore[index]
    print(PICTURES / f"{name}.png", flush=True)


def picture_feed(browser: Browser, feed: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        run = Run(Path(folder) / "feed", feed)
        try:
            save(run.open(browser, (1440, 900)), "map")
        finally:
            run.pipeline.kill_all()


def picture_simulation(browser: Browser, minutes: float) -> None:
    with tempfile.TemporaryDirectory() as folder:
        run = Run(Path(folder) / "simulation")
        try:
            time.sleep(60 * minutes)
            page = run.open(browser, (1440, 900))
            page.locator("path[data-code='75011']").click()
            page.locator(".chart .q-btn-toggle").get_by_text("1 h").click()
            for _ in range(3):
                page.locator(".leaflet-control-zoom-in").click()
                page.wait_for_timeout(600)
            page.locator(".station").nth(40).click()
            page.mouse.move(700, 5)
            page.wait_for_timeout(1_000)
            save(page, "place")
            save(run.open(browser, (1440, 900), scheme="dark", locale="fr-FR"), "dark")
            save(run.open(browser, (360, 780)), "phone")
            run.job.kill()
            page = run.open(browser, (1440, 900))
            expect(page.locator(".badge.bad")).to_contain_text("Spark job", timeout=60_000)
            page.wait_for_timeout(3_000)
            save(page, "broken")
        finally:
            run.pipeline.kill_all()


if __name__ == "__main__":
    main()
