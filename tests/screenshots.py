"""Takes the pictures of the page for the README and docs/, from a real run of the whole pipeline.

    python -m tests.screenshots [--minutes 5]

The feed is the real day of `data/`, of which the moving picture shows every snapshot.
"""

import argparse
import io
import tempfile
import time
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import Browser, Page, expect, sync_playwright

from local.day import Day
from tests import PROJECT
from tests.shown import Shown, launch

PICTURES = PROJECT / "docs" / "pictures"
PERIOD = 3  # seconds between two simulated snapshots
START_SECONDS = 30  # until the day begins: the page must not miss its morning
DESKTOP, PHONE = (1040, 860), (360, 780)
SECONDS = 10  # of the moving picture


def main() -> None:
    parser = argparse.ArgumentParser(description="Take the pictures of the page.")
    parser.add_argument("--minutes", type=float, default=5, help="of history")
    arguments = parser.parse_args()
    PICTURES.mkdir(exist_ok=True)
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as folder:
        browser = launch(playwright)
        starts = int(time.time()) + START_SECONDS
        shown = Shown(Path(folder), Day(period=PERIOD, start=starts // PERIOD * PERIOD))
        try:
            shown.wait_for_snapshots(1)
            time.sleep(60 * arguments.minutes)
            take_pictures(browser, shown)
        finally:
            shown.pipeline.kill_all()


def take_pictures(browser: Browser, shown: Shown) -> None:
    """All pictures; the last one needs a job that was killed."""
    save(picture(open_page(browser, shown)), "map")
    save(picture(open_page(browser, shown, locale="fr-FR")), "map-fr")
    page = open_page(browser, shown, "?place=75008&hours=1&map=48.8725,2.3125,14.5")
    page.locator(".station").nth(40).click()
    page.wait_for_timeout(1_000)
    save(picture(page), "place")
    dark = picture(open_page(browser, shown, color_scheme="dark"))
    phone = picture(open_page(browser, shown, size=PHONE))
    phone = phone.resize((phone.width * dark.height // phone.height, dark.height))
    save(joined(dark, phone), "dark")
    save_moving(open_page(browser, shown, "?hours=24", device_scale_factor=1), "day")
    shown.job.kill()
    page = open_page(browser, shown)
    expect(page.locator(".badge.bad")).to_contain_text("Spark job", timeout=60_000)
    badge, health = (page.locator(part).bounding_box() for part in (".page > header", ".health"))
    whole = picture(page)
    strips = [
        whole.crop((0, 2 * int(box["y"] - 8), whole.width, 2 * int(box["y"] + box["height"] + 8)))
        for box in (badge, health)
        if box
    ]
    save(joined(*strips, is_vertical=True), "broken")


def open_page(
    browser: Browser,
    shown: Shown,
    query: str = "",
    size: tuple[int, int] = DESKTOP,
    **options: Any,
) -> Page:
    """The page in a window of this size (pixels), once it shows numbers."""
    width, height = size
    defaults: dict[str, Any] = {"locale": "en-GB", "device_scale_factor": 2}
    context = browser.new_context(
        viewport={"width": width, "height": height}, **(defaults | options)
    )
    page = context.new_page()
    page.goto(shown.url + query)
    expect(page.locator(".numbers .value").first).not_to_have_text("–", timeout=30_000)
    expect(page.locator("path[data-code]")).to_have_count(89, timeout=30_000)
    page.wait_for_timeout(3_000)  # the map has drawn, and no number is marked any more
    return page


def picture(page: Page) -> Image.Image:
    """A screenshot of a page, which is then closed."""
    image = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    page.context.close()
    return image


def joined(*pictures: Image.Image, is_vertical: bool = False) -> Image.Image:
    """Pictures beside each other, or below each other."""
    widths, heights = zip(*(image.size for image in pictures), strict=True)
    size = (max(widths), sum(heights)) if is_vertical else (sum(widths), max(heights))
    whole, at = Image.new("RGB", size), 0
    for image in pictures:
        whole.paste(image, (0, at) if is_vertical else (at, 0))
        at += image.height if is_vertical else image.width
    return whole


def save(image: Image.Image, name: str) -> None:
    path = PICTURES / f"{name}.png"
    image.quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)
    print(f"{path} ({path.stat().st_size / 1e3:.0f} KB)", flush=True)


def save_moving(page: Page, name: str) -> None:
    """A picture of each snapshot of the recorded day, from the oldest that the page has."""
    slider, track = page.get_by_role("slider"), page.locator(".q-slider__track-container")
    last = int(slider.get_attribute("aria-valuemax") or 0)
    track.click(position={"x": 0, "y": 5})
    expect(slider).to_have_attribute("aria-valuenow", "0")
    frames: dict[str, Image.Image] = {}
    for number in range(last):
        while (shown := int(slider.get_attribute("aria-valuenow") or 0)) != number:
            track.press("ArrowRight" if shown < number else "ArrowLeft")
            page.wait_for_timeout(300)
        page.wait_for_timeout(700)  # until the colours have changed
        recorded = page.locator(".recorded").inner_text() or str(number)
        if recorded in frames:  # the day has begun again
            break
        frames[recorded] = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    first, *others = (frames[recorded] for recorded in sorted(frames))
    path = PICTURES / f"{name}.webp"
    first.save(
        path,
        save_all=True,
        append_images=others,
        duration=SECONDS * 1000 // len(frames),
        loop=0,
        quality=35,
        method=4,
    )
    print(f"{path} ({path.stat().st_size / 1e6:.1f} MB)", flush=True)


if __name__ == "__main__":
    main()
