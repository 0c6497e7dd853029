"""The page of dashboard.py in a real browser, over the real pipeline."""

import json
import os
import re
import signal
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime, timedelta
from functools import partial
from typing import Any
from urllib.parse import parse_qsl, urlsplit
from zoneinfo import ZoneInfo

import psutil
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, ConsoleMessage, Locator, Page, expect, sync_playwright

from local.day import Day
from tests.expected import Total, simulated_totals
from tests.pages import OpenPages
from tests.pipeline import wait_until
from tests.shown import CHROMIUM, Shown, launch

DAY = Day(200, period=3)
CHART = "getElement(parseInt(document.querySelector('.nicegui-echart').id.slice(1))).chart"
"""The chart, in JavaScript."""

expect.set_options(timeout=30_000)  # milliseconds; the machine may be slow

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = launch(playwright)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shown]:
    """The pipeline with totals of two snapshots."""
    shown = Shown(tmp_path_factory.mktemp("dashboard"), DAY)
    try:
        shown.wait_for_snapshots(2)
        yield shown
        for script in shown.pipeline.scripts:
            assert "Traceback" not in script.log(), script.log()
    finally:
        shown.pipeline.kill_all()


@pytest.fixture
def page(browser: Browser, shown: Shown) -> Iterator[Page]:
    """The page in English, with its numbers; no error in its console, and no other host asked."""
    context = browser.new_context(
        locale="en-GB", timezone_id="Asia/Kolkata", viewport={"width": 1440, "height": 900}
    )
    page = context.new_page()
    page.set_default_timeout(20_000)
    errors: list[str] = []
    foreign: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda line: errors.append(line.text) if is_own_error(line) else None)
    page.on("request", lambda r: None if r.url.startswith(shown.url) else foreign.append(r.url))
    page.goto(shown.url)
    expect(tile(page, "Bikes")).not_to_have_text("–")
    expect(page.locator("path[data-code]")).to_have_count(89)
    yield page
    context.close()
    assert errors == []
    assert [url for url in foreign if url.startswith("http")] == []


def is_own_error(line: ConsoleMessage) -> bool:
    """Whether a line of the console is an error, and not of a connection to a server that ended."""
    is_connection = "WebSocket" in line.text or "net::ERR" in line.text
    return line.type == "error" and not is_connection


def tile(page: Page, name: str) -> Locator:
    """The number under a name on top of the page."""
    return page.locator(".numbers .card", has_text=re.compile(f"^{name}")).locator(".value")


def number(text: str) -> int:
    return int(re.sub(r"[^0-9−-]", "", text))


def newest_snapshot(shown: Shown) -> int:
    """The newest snapshot that has totals."""
    return max(snapshot for _, snapshot in shown.pipeline.totals())


def simulated(*snapshots: int) -> list[Total]:
    """The totals of these snapshots of the simulated feed, independently of the pipeline."""
    return list(simulated_totals(DAY, snapshots).values())


def numbers_of(totals: list[Total]) -> tuple[int, ...]:
    """What the top of the page has to show for these totals."""
    names = ("num_bikes_available", "mechanical", "ebike", "num_docks_available", "stations")
    return tuple(sum(total[name] for total in totals) for name in names)


def shown_numbers(page: Page) -> tuple[int, ...]:
    names = ("Bikes", "Mechanical", "Electric", "Free docks", "Stations open")
    return tuple(number(tile(page, name).inner_text()) for name in names)


def last_minutes() -> list[str]:
    """The last ten minutes on the clock of Paris."""
    now = datetime.now(ZoneInfo("Europe/Paris"))
    return [f"{now - timedelta(minutes=minutes):%H:%M}" for minutes in range(10)]


def row(page: Page, postal_code: str) -> Locator:
    """The row of a postal code in the table."""
    return page.locator(f".ag-center-cols-container [row-id='{postal_code}']")


def health(page: Page, part: str) -> Locator:
    return page.locator(f"[data-part={part}]")


def test_the_numbers_are_plain_sums_of_the_feed_and_change_by_themselves(
    shown: Shown, page: Page
) -> None:
    def agree() -> bool:
        return shown_numbers(page) == numbers_of(simulated(newest_snapshot(shown)))

    wait_until(agree, "the page shows the newest snapshot")
    before = shown_numbers(page)
    wait_until(lambda: shown_numbers(page) != before, "the numbers change without a reload")
    wait_until(agree, "the page shows the next snapshot")
    expect(page.locator(".badge")).to_contain_text("live")
    expect(page.locator(".badge")).to_contain_text(re.compile("|".join(last_minutes())))
    expect(page.locator("header")).to_contain_text("Paris time")
    expect(page.locator(".numbers")).to_contain_text("since the previous snapshot")


def test_stations_that_are_closed_empty_or_full_are_counted(shown: Shown, page: Page) -> None:
    def agree() -> bool:
        snapshots = shown.pipeline.published()
        stations = snapshots[max(snapshots)]
        is_open = [s for s in stations if s["is_installed"] == 1 and s["is_renting"] == 1]
        empty = sum(s["num_bikes_available"] == 0 < s["num_docks_available"] for s in is_open)
        full = sum(s["num_docks_available"] == 0 < s["num_bikes_available"] for s in is_open)
        text = page.locator(".numbers").inner_text()
        return f"{len(stations) - len(is_open)} closed" in text and f"{empty} · {full}" in text

    wait_until(agree, "the stations are those of the newest snapshot")


def test_data_for_programs_are_the_records_of_the_topic(shown: Shown) -> None:
    def agree() -> bool:
        latest: dict[str, Any] = {}
        for record in shown.pipeline.records(shown.pipeline.settings.final_topic):
            latest[record.key.decode()] = json.loads(record.value)
        return bool(shown.get("/api/totals") == [latest[code] for code in sorted(latest)])

    wait_until(agree, "/api/totals has the latest records")
    areas = {f["id"]: f["properties"] for f in shown.get("/api/areas.geojson")["features"]}
    assert len(areas) == 89
    assert areas["75016"]["name"] == "Paris 16e"
    assert areas["75016"]["num_docks_available"] >= 0


def test_the_colour_depends_on_the_choice(page: Page) -> None:
    def fills() -> list[str]:
        get_fills = "paths => paths.map(path => path.getAttribute('fill'))"
        found: list[str] = page.eval_on_selector_all("path[data-code]", get_fills)
        return found

    for choice in ("Bikes", "Free docks", "How full"):
        before = fills()
        page.locator(".map .q-btn-toggle").get_by_text(choice, exact=True).click()
        expect(page.locator(".legend")).to_contain_text("%" if choice == "How full" else "≥ 1")
        wait_until(partial(lambda old: fills() != old, before), f"other colours for {choice}")
        assert len(set(fills())) > 2


def test_an_area_has_its_label_on_hover_and_on_focus(page: Page) -> None:
    area = page.locator("path[data-code='75015']")
    area.focus()
    expect(page.locator(".leaflet-tooltip")).to_contain_text("75015 Paris 15e")

    def row_is_marked() -> bool:
        page.mouse.move(5, 5)  # the map may have moved under the pointer
        page.locator("path[data-code='75013']").hover()
        with suppress(AssertionError):
            expect(row(page, "75013")).to_have_class(re.compile("hovered"), timeout=3_000)
            return True
        return False

    wait_until(row_is_marked, "the row of the area under the pointer is marked")
    expect(page.locator(".leaflet-tooltip", has_text="75013 Paris 13e")).to_be_visible()


def test_the_table_searches_sorts_and_chooses(shown: Shown, page: Page) -> None:
    rows = page.locator(".ag-center-cols-container .ag-row")
    search = page.get_by_label("Search for a place or code")
    search.fill("creteil")
    expect(rows).to_have_count(1)
    expect(rows.first).to_contain_text("Créteil")
    search.fill("92")

    def only_codes_are_searched() -> bool:
        codes = rows.locator("[col-id=code]").all_inner_texts()
        return len(codes) > 1 and all(code.startswith("92") for code in codes)

    wait_until(only_codes_are_searched, "the places of 92")
    search.fill("")
    expect(row(page, "75001")).to_be_visible()
    header = page.locator(".ag-header-cell[col-id=num_bikes_available]")
    for order in ("ascending", "descending"):
        header.click()
        expect(header).to_have_attribute("aria-sort", order)

    def most_bikes_are_on_top() -> bool:
        most = max(t["num_bikes_available"] for t in simulated(newest_snapshot(shown)))
        return bool(number(rows.locator("[col-id=num_bikes_available]").first.inner_text()) == most)

    wait_until(most_bikes_are_on_top, "the place with the most bikes is on top")
    search.fill("75011")

    def is_clicked() -> bool:
        row(page, "75011").click()  # misses if the grid is just drawing new totals
        return "ag-row-selected" in (row(page, "75011").get_attribute("class") or "")

    wait_until(is_clicked, "the row that was clicked is selected")
    expect(page.locator(".chart .name")).to_have_text("75011 Paris 11e")
    expect(page.locator("path[data-code='75011']")).to_have_class(re.compile("chosen"))
    page.keyboard.press("Enter")  # on the cell that was clicked
    expect(page.locator(".chart .name")).to_have_text("All")


def test_the_reader_looks_back_plays_and_returns_to_live(shown: Shown, page: Page) -> None:
    slider, badge = page.get_by_role("slider"), page.locator(".badge")

    def show(snapshot: int) -> None:
        """The page shows a snapshot, which has passed."""
        wait_until(
            lambda: shown_numbers(page) == numbers_of(simulated(snapshot)), f"totals of {snapshot}"
        )
        expect(badge).to_contain_text("looking back")
        expect(page).to_have_url(re.compile(f"at={snapshot}"))
        marked = "[0].markLine.data.map(mark => mark.xAxis)"
        marks = f"{CHART}.getOption().series{marked}"
        wait_until(lambda: page.evaluate(marks) == [snapshot * 1000], "the chart's line")
        place = next(t for t in simulated(snapshot) if t["postal_code"] == "75001")
        bikes = row(page, "75001").locator("[col-id=num_bikes_available]")
        expect(bikes).to_have_text(str(place["num_bikes_available"]))

    wait_until(lambda: int(slider.get_attribute("aria-valuemax") or 0) >= 4, "five snapshots")
    snapshots = sorted({snapshot for _, snapshot in shown.pipeline.totals()})
    expect(badge).to_contain_text("live")
    box = slider.bounding_box()
    assert box
    page.mouse.move(box["x"] + box["width"] - 3, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] - 30, box["y"], steps=5)
    page.mouse.up()
    show(snapshots[0])
    page.reload()
    show(snapshots[0])
    page.locator(".q-slider__track-container").press("ArrowRight")
    show(snapshots[1])
    page.get_by_label("Snapshots per second").click(force=True)
    page.get_by_role("option", name="1 / s").click()
    page.locator(".q-slider__track-container").press("Space")
    expect(page.get_by_label("Pause")).to_be_visible()
    wait_until(lambda: shown_numbers(page) != numbers_of(simulated(snapshots[1])), "it plays")
    assert f"at={snapshots[1]}" in page.url, "the address stays where it began"
    page.get_by_label("Snapshots per second").click(force=True)
    page.get_by_role("option", name="20 / s").click()
    expect(badge).to_contain_text("live")
    expect(page).not_to_have_url(re.compile("at=1"))
    page.locator(".q-slider__track-container").press("ArrowLeft")
    expect(badge).to_contain_text("looking back")
    page.get_by_role("button", name="Live").click()
    expect(badge).to_contain_text("live")


def test_a_place_has_a_chart_of_its_exact_history(shown: Shown, page: Page) -> None:
    page.locator("path[data-code='75016']").click()
    expect(page.locator(".chart .name")).to_have_text("75016 Paris 16e")
    page.locator(".chart .q-btn-toggle").get_by_text("1 h").click()

    def agree() -> bool:
        snapshots = sorted({snapshot for _, snapshot in shown.pipeline.totals()})
        history = [
            [
                total["last_updated"] * 1000,
                *(total[n] for n in ("num_bikes_available", "ebike", "num_docks_available")),
            ]
            for total in simulated(*snapshots)
            if total["postal_code"] == "75016"
        ]
        return bool(page.evaluate(f"{CHART}.getOption().dataset[0].source") == history)

    wait_until(agree, "the chart has every total of 75016")
    minutes = set(re.findall(r"\d\d:\d\d", page.locator(".nicegui-echart").inner_text()))
    assert minutes
    assert minutes <= set(last_minutes())


def test_each_choice_is_in_the_address_and_back_undoes_it(page: Page) -> None:
    page.locator("path[data-code='75016']").click()
    page.locator(".map .q-btn-toggle").get_by_text("Bikes", exact=True).click()
    page.locator(".leaflet-control-zoom-in").click()
    expect(page).to_have_url(re.compile("map="))
    page.locator(".chart .q-btn-toggle").get_by_text("24 h").click()
    expect(page).to_have_url(re.compile("hours=24"))
    view = dict(parse_qsl(urlsplit(page.url).query))
    assert re.fullmatch(r"48\.\d{5},2\.\d{5},1[0-9.]+", view.pop("map"))
    assert view == {"place": "75016", "measure": "num_bikes_available", "hours": "24"}
    page.go_back()
    expect(page.locator("button[aria-pressed=true]")).to_have_text(["Bikes", "6 h"])
    expect(page.locator(".chart .name")).to_have_text("75016 Paris 16e")


def test_a_station_has_a_card(shown: Shown, page: Page) -> None:
    expect(page.locator(".map .foot")).not_to_contain_text("without a position")
    show_stations(page, 48.857, 2.352)
    page.locator(".station").first.focus()
    page.keyboard.press("Enter")
    card = page.locator(".station-card")
    expect(card).to_be_visible()
    code = card.inner_text().split("·")[0].split()[-1]

    def agree() -> bool:
        snapshots = shown.pipeline.published()
        (station,) = [s for s in snapshots[max(snapshots)] if s["stationCode"] == code]
        types = {k: n for entry in station["num_bikes_available_types"] for k, n in entry.items()}
        text = card.inner_text()
        return (
            f"Mechanical: {types['mechanical']}\n" in text
            and f"Electric: {types['ebike']}\n" in text
            and f"Free docks: {station['num_docks_available']}\n" in text
        )

    wait_until(agree, "the card shows the station of the newest snapshot")
    card.get_by_label("Close").click()
    expect(card).not_to_be_visible()


def show_stations(page: Page, latitude: float, longitude: float) -> None:
    """Move the map to a place, near enough for its stations to be shown."""
    page.evaluate(
        "getElement(parseInt(document.querySelector('.nicegui-leaflet').id.slice(1)))"
        f".map.setView([{latitude}, {longitude}], 15, {{animate: false}})"
    )
    expect(page.locator(".station").first).to_be_visible()


def test_hostile_texts_stay_text(shown: Shown, page: Page) -> None:
    pipeline, hostile = shown.pipeline, "<script>document.title='owned'</script>\x1b[2J<img src=x>"
    entry = {"stationCode": "16107", "name": hostile + "x" * 10_000, "lat": 48.86, "lon": 2.276}
    pipeline.write(pipeline.settings.station_topic, (b"16107", json.dumps(entry).encode()))
    pipeline.write(pipeline.settings.raw_topic, (b"<b>", hostile.encode() + b"y" * 10_000))
    expect(page.locator(".health ul")).to_contain_text("<script>", timeout=60_000)
    expect(health(page, "dead_letters")).to_contain_text("1 in the last 24 hours")
    show_stations(page, 48.86, 2.276)
    page.locator(".station[title*='script']").click()
    expect(page.locator(".station-card")).to_contain_text("<script>")
    assert page.title() == "Vélib’"
    assert page.locator(".station-card img, .health img").count() == 0


def test_a_phone_shows_all_of_it_in_its_language_and_the_view_of_the_address(
    shown: Shown, browser: Browser
) -> None:
    context = browser.new_context(locale="fr-FR", viewport={"width": 360, "height": 780})
    page = context.new_page()
    page.goto(f"{shown.url}?place=75016&measure=ebike&hours=24&map=48.86,2.3,14")
    expect(page.locator(".numbers")).to_contain_text("Vélos")
    expect(page.get_by_role("button", name="Zoom avant")).to_be_visible()
    expect(page.locator("button[aria-pressed=true]")).to_have_text(["Électriques", "24 h"])
    expect(page.locator("path.chosen[data-code='75016']")).to_have_count(1)
    expect(page.locator(".ag-row-selected")).to_contain_text("Paris 16e")
    expect(page.locator(".station").first).to_be_visible()
    expect(page.locator("path[data-code]")).to_have_count(89)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    page.get_by_text("English").click()
    expect(page.locator(".numbers")).to_contain_text("Bikes")
    expect(page.locator(".chart .name")).to_have_text("75016 Paris 16e")
    expect(page.locator("button[aria-pressed=true]")).to_have_text(["Electric", "24 h"])
    context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(shown: Shown, browser: Browser, scheme: Any) -> None:
    context = browser.new_context(
        color_scheme=scheme,
        reduced_motion="reduce",  # a colour that is still fading is not a finding
        viewport={"width": 1440, "height": 900},
    )
    page = context.new_page()
    page.goto(shown.url)
    expect(page.locator("path[data-code='75016']")).to_be_visible()
    page.locator("path[data-code='75016']").press("Enter")  # a click may miss: the map still zooms
    expect(page.locator(".chart .name")).to_have_text("75016 Paris 16e")
    page.wait_for_timeout(1_000)  # the grid fades what it marks by a timer of its own
    found = Axe().run(page).response["violations"]
    serious = [
        (violation["id"], [node["html"][:200] for node in violation["nodes"]][:5])
        for violation in found
        if violation["impact"] in ("serious", "critical")
    ]
    assert serious == []
    context.close()


def test_a_hundred_pages_cost_one_reader_and_little_memory(shown: Shown, page: Page) -> None:
    process = psutil.Process(shown.dashboard.process.pid)
    kafka = int(shown.pipeline.settings.kafka.bootstrap_servers.rpartition(":")[2])

    def connections() -> int:
        return sum(c.raddr.port == kafka for c in process.net_connections() if c.raddr)

    before = connections()
    with OpenPages(shown.url, 100) as pages:
        wait_until(lambda: len(pages.messages) == 100, "every page gets messages")
        assert connections() <= before + 3  # a check has one of its own for a moment
        seen = dict(pages.messages)
        wait_until(
            lambda: all(pages.messages[number] > count + 5 for number, count in seen.items()),
            "every page keeps getting messages",
        )
        wait_until(
            lambda: shown_numbers(page) == numbers_of(simulated(newest_snapshot(shown))),
            "the page is current",
        )
        memory = process.memory_info().rss / 1e6
        assert memory < 400, f"{memory:.0f} MB"
    assert not shown.dashboard.has_ended()


def test_a_hostile_browser_stops_no_other_page(shown: Shown, browser: Browser, page: Page) -> None:
    hostile = browser.new_context().new_page()
    hostile.goto(f"{shown.url}?place=x&measure=x&hours=1e999&map=48,x,1e999&at=-1&x=%00")
    expect(hostile.locator("path[data-code='75016']")).to_be_visible()
    for event in ("area", "area_hover", "station", "window"):
        for argument in ("null", "[]", "{}", "1e999", "'../../etc/passwd'"):
            hostile.evaluate(f"emitEvent('{event}', {argument})")
    before = shown_numbers(page)
    wait_until(lambda: shown_numbers(page) != before, "the numbers still change")
    hostile.context.close()


# The parts stop, and run again.


def test_each_part_that_has_stopped_is_named(shown: Shown, page: Page) -> None:
    os.killpg(shown.job.process.pid, signal.SIGSTOP)
    last = newest_snapshot(shown)
    wait_until(lambda: max(shown.pipeline.published()) > last, "a snapshot waits for the job")
    expect(health(page, "producer")).to_contain_text("running, published")
    expect(health(page, "producer").get_by_role("img", name="OK")).to_be_visible()
    shown.feed.kill()
    shown.producer.kill()
    expect(health(page, "job")).to_contain_text("stalled since")
    expect(health(page, "feed")).to_contain_text("no new snapshot since")
    expect(health(page, "producer")).to_contain_text("not running")

    def agree() -> bool:
        last = newest_snapshot(shown)
        published = shown.pipeline.published()
        waiting = sum(len(stations) for time, stations in published.items() if time > last)
        return number(health(page, "job").inner_text().split(":")[-1]) == waiting

    wait_until(agree, "the waiting records are counted")
    expect(page.locator(".badge.bad")).to_contain_text(re.compile("stalled since|not running"))
    shown.broker.kill()
    expect(page.locator(".badge.bad")).to_contain_text("Kafka · does not answer")


def test_the_page_recovers_with_the_pipeline_and_with_its_own_server(
    shown: Shown, page: Page
) -> None:
    shown.broker = shown.pipeline.start_broker()
    shown.feed = shown.pipeline.simulate(DAY)
    shown.producer = shown.pipeline.start("kafka_project.py")
    os.killpg(shown.job.process.pid, signal.SIGCONT)
    expect(page.locator(".badge.good")).to_contain_text("live", timeout=120_000)
    expect(health(page, "producer")).to_contain_text("running, published")
    page.locator("path[data-code='75016']").press("Enter")
    expect(page).to_have_url(re.compile("place=75016"))
    shown.dashboard.kill()
    expect(page.get_by_text("Connection lost").first).to_be_visible()
    shown.dashboard = shown.start_dashboard()
    expect(page.locator(".badge.good")).to_contain_text("live")
    expect(page.locator(".chart .name")).to_have_text("75016 Paris 16e")
    assert shown.dashboard.stop() == 0
