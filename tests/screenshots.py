"""Takes the pictures of the page for the README and docs/, from a real run of the whole pipeline.

    python -m tests.screenshots [--feed FOLDER] [--minutes 5]

The pictures are of the simulated feed. With a folder that holds `station_status.json` and
`station_information.json`, as the API gives them, the picture of the whole map is of that feed.
"""

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, ViewportSize, expect, sync_playwright

from tests import PROJECT
from tests.shown import Shown, launch

PICTURES = PROJECT / "docs" / "pictures"
PERIOD = 3  # seconds between two simulated snapshots


def main() -> None:
    parser = argparse.ArgumentParser(description="Take the pictures of the page.")
    parser.add_argument("--feed", type=Path, help="a folder with the answers of the API")
    parser.add_argument("--minutes", type=float, default=5, help="of history in the charts")
    arguments = parser.parse_args()
    PICTURES.mkdir(exist_ok=True)
    with sync_playwright() as playwright:
        browser = launch(playwright)
        if arguments.feed:
            picture_feed(browser, arguments.feed)
        picture_simulation(browser, arguments.minutes)
        browser.close()


def open_page(
    shown: Shown, browser: Browser, size: tuple[int, int] = (1440, 900), **options: Any
) -> Page:
    """The page in a window of this size (pixels), once it shows numbers."""
    width, height = size
    viewport: ViewportSize = {"width": width, "height": height}
    page = browser.new_context(viewport=viewport, **({"locale": "en-GB"} | options)).new_page()
    page.goto(shown.url)
    expect(page.locator(".numbers .value").first).not_to_have_text("–", timeout=30_000)
    expect(page.locator("path[data-code]")).to_have_count(89, timeout=30_000)
    page.wait_for_timeout(3_000)  # the map has drawn, and no number is marked any more
    return page


def save(page: Page, name: str) -> None:
    page.screenshot(path=PICTURES / f"{name}.png", full_page=page.viewport_size["width"] < 500)  # type: ignore[index]
    print(PICTURES / f"{name}.png", flush=True)


def picture_feed(browser: Browser, feed: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        shown = Shown(Path(folder), answers=feed)
        try:
            shown.wait_for_snapshots(1)
            save(open_page(shown, browser), "map")
        finally:
            shown.pipeline.kill_all()


def picture_simulation(browser: Browser, minutes: float) -> None:
    with tempfile.TemporaryDirectory() as folder:
        shown = Shown(Path(folder), 1500, PERIOD)
        try:
            shown.wait_for_snapshots(1)
            time.sleep(60 * minutes)
            page = open_page(shown, browser)
            page.locator("path[data-code='75011']").click()
            page.locator(".chart .q-btn-toggle").get_by_text("1 h").click()
            for _ in range(3):
                page.locator(".leaflet-control-zoom-in").click()
                page.wait_for_timeout(600)
            page.locator(".station").nth(40).click()
            page.mouse.move(700, 5)
            page.wait_for_timeout(1_000)
            save(page, "place")
            save(open_page(shown, browser, color_scheme="dark", locale="fr-FR"), "dark")
            save(open_page(shown, browser, (360, 780)), "phone")
            shown.job.kill()
            page = open_page(shown, browser)
            expect(page.locator(".badge.bad")).to_contain_text("Spark job", timeout=60_000)
            page.wait_for_timeout(3_000)
            save(page, "broken")
        finally:
            shown.pipeline.kill_all()


if __name__ == "__main__":
    main()
