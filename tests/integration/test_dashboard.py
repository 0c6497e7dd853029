"""The page of dashboard.py in a real browser, over the real pipeline."""

import json
import re
from collections.abc import Iterator
from typing import Any

import psutil
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, ConsoleMessage, Locator, Page, expect, sync_playwright

from tests import expected
from tests.pages import OpenPages
from tests.pipeline import wait_until
from tests.shown import CHROMIUM, Shown, launch

STATIONS = 200

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
    shown = Shown(tmp_path_factory.mktemp("dashboard"), STATIONS)
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
    context = browser.new_context(locale="en-GB", viewport={"width": 1440, "height": 900})
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


def newest(totals: dict[tuple[str, int], Any]) -> list[Any]:
    """The totals of the newest snapshot."""
    snapshot = max(snapshot for _, snapshot in totals)
    return [total for (_, s), total in totals.items() if s == snapshot]


def sums(totals: list[Any]) -> tuple[int, int, int, int]:
    names = ("num_bikes_available", "mechanical", "ebike", "num_docks_available")
    bikes, mechanical, ebike, docks = (sum(total[name] for total in totals) for name in names)
    return bikes, mechanical, ebike, docks


def shown_sums(page: Page) -> tuple[int, ...]:
    names = ("Bikes", "Mechanical", "Electric", "Free docks")
    return tuple(number(tile(page, name).inner_text()) for name in names)


def row(page: Page, postal_code: str) -> Locator:
    """The row of a postal code in the table."""
    return page.locator(f".ag-center-cols-container [row-id='{postal_code}']")


def health(page: Page, part: str) -> Locator:
    return page.locator(f"[data-part={part}]")


def test_the_numbers_are_those_of_the_topic_and_change_by_themselves(
    shown: Shown, page: Page
) -> None:
    def agree() -> bool:
        return shown_sums(page) == sums(newest(shown.pipeline.totals()))

    wait_until(agree, "the page shows the sums of the newest snapshot")
    before = shown_sums(page)
    wait_until(lambda: shown_sums(page) != before, "the numbers change without a reload")
    wait_until(agree, "the page shows the sums of the next snapshot")
    badge = page.locator(".badge")
    expect(badge).to_contain_text("live")
    expect(page.locator(".numbers")).to_contain_text("since the last snapshot")


def test_stations_open_closed_empty_and_full_are_those_of_the_feed(
    shown: Shown, page: Page
) -> None:
    def agree() -> bool:
        snapshots = shown.pipeline.published()
        stations = snapshots[max(snapshots)]
        is_open = [s for s in stations if s["is_installed"] == 1 and s["is_renting"] == 1]
        empty = sum(s["num_bikes_available"] == 0 for s in is_open)
        full = sum(s["num_docks_available"] == 0 for s in is_open)
        text = page.locator(".numbers").inner_text()
        closed = f"{len(stations) - len(is_open)} closed"
        is_open_shown = tile(page, "Stations open").inner_text() == str(len(is_open))
        return is_open_shown and closed in text and f"{empty} · {full}" in text

    wait_until(agree, "the stations are those of the newest snapshot")


def test_data_for_programs_are_the_records_of_the_topic(shown: Shown, page: Page) -> None:
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


def test_the_colour_goes_by_the_choice(page: Page) -> None:
    fills = {}
    for choice in ("Bikes", "Free docks", "How full"):
        page.locator(".map .q-btn-toggle").get_by_text(choice, exact=True).click()
        expect(page.locator(".legend")).to_contain_text("%" if choice == "How full" else "≥ 1")
        fills[choice] = page.eval_on_selector_all(
            "path[data-code]", "paths => paths.map(path => path.getAttribute('fill'))"
        )
    assert fills["Bikes"] != fills["Free docks"]
    assert len(set(fills["Bikes"])) > 2


def test_an_area_has_its_label_on_hover_and_on_focus(page: Page) -> None:
    area = page.locator("path[data-code='75015']")
    area.focus()
    expect(page.locator(".leaflet-tooltip")).to_contain_text("75015 Paris 15e")

    def row_is_marked() -> bool:
        page.mouse.move(5, 5)  # the map may have moved under the pointer
        page.locator("path[data-code='75013']").hover()
        expect(page.locator(".leaflet-tooltip", has_text="75013 Paris 13e")).to_be_visible()
        page.wait_for_timeout(300)  # from the browser to the server and back
        return "hovered" in (row(page, "75013").get_attribute("class") or "")

    wait_until(row_is_marked, "the row of the area under the pointer is marked")


def test_the_table_searches_sorts_and_chooses(shown: Shown, page: Page) -> None:
    rows = page.locator(".ag-center-cols-container .ag-row")
    page.get_by_label("Search a place or code").fill("paris 1")
    expect(row(page, "75016")).to_be_visible()
    expect(row(page, "92100")).to_have_count(0)
    page.get_by_label("Search a place or code").fill("")
    expect(row(page, "75001")).to_be_visible()
    page.locator(".ag-header-cell[col-id=bikes]").click()
    page.locator(".ag-header-cell[col-id=bikes]").click()

    def most_bikes_are_on_top() -> bool:
        most = max(total["num_bikes_available"] for total in newest(shown.pipeline.totals()))
        return bool(number(rows.locator("[col-id=bikes]").first.inner_text()) == most)

    wait_until(most_bikes_are_on_top, "the place with the most bikes is on top")
    page.get_by_label("Search a place or code").fill("75011")

    def shows_the_place() -> bool:
        row(page, "75011").click()  # goes astray if the grid draws new totals meanwhile
        return page.locator(".chart .name").inner_text() == "75011 Paris 11e"

    wait_until(shows_the_place, "the chart of the row that was clicked")
    expect(page.locator("path[data-code='75011']")).to_have_class(re.compile("chosen"))


def test_a_place_has_a_chart_of_its_exact_history(shown: Shown, page: Page) -> None:
    page.locator("path[data-code='75016']").click()
    expect(page.locator(".chart .name")).to_have_text("75016 Paris 16e")
    page.locator(".chart .q-btn-toggle").get_by_text("1 h").click()

    def agree() -> bool:
        totals = shown.pipeline.totals()
        history = [
            [s * 1000, t["num_bikes_available"], t["ebike"], t["num_docks_available"]]
            for (code, s), t in sorted(totals.items(), key=lambda item: item[0][1])
            if code == "75016"
        ]
        chart = page.evaluate(
            "getElement(parseInt(document.querySelector('.nicegui-echart').id.slice(1)))"
            ".chart.getOption().dataset[0].source"
        )
        return bool(chart == history)

    wait_until(agree, "the chart has every total of 75016")


def test_a_station_has_a_card(shown: Shown, page: Page) -> None:
    expect(page.locator(".map .foot")).not_to_contain_text("without a position")
    near(page)
    dot = page.locator(".station").first
    dot.click()
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


def near(page: Page) -> None:
    """Zoom in until the stations are shown."""
    zoom_in = page.locator(".leaflet-control-zoom-in")
    for _ in range(4):
        zoom_in.click()
        page.wait_for_timeout(400)  # Leaflet leaves out a click while it still zooms
        if page.locator(".station").count():
            return
    expect(page.locator(".station").first).to_be_visible()


def test_hostile_texts_stay_text(shown: Shown, page: Page) -> None:
    pipeline, hostile = shown.pipeline, "<script>document.title='owned'</script>\x1b[2J<img src=x>"
    entry = {"stationCode": "16107", "name": hostile + "x" * 10_000, "lat": 48.86, "lon": 2.276}
    pipeline.write(pipeline.settings.station_topic, (b"16107", json.dumps(entry).encode()))
    pipeline.write(pipeline.settings.raw_topic, (b"<b>", hostile.encode() + b"y" * 10_000))
    expect(page.locator(".health ul")).to_contain_text("<script>", timeout=60_000)
    expect(health(page, "dead_letters")).to_contain_text("1 in 24 hours")
    page.evaluate(
        "getElement(parseInt(document.querySelector('.nicegui-leaflet').id.slice(1)))"
        ".map.setView([48.86, 2.276], 15, {animate: false})"
    )
    page.locator(".station[title*='script']").click()
    expect(page.locator(".station-card")).to_contain_text("<script>")
    assert page.title() == "Vélib’"
    assert page.locator(".station-card img, .health img").count() == 0


@pytest.mark.parametrize(("locale", "text"), [("fr-FR", "Vélos"), ("en-US", "Bikes")])
def test_a_phone_has_all_of_it_in_its_language(
    shown: Shown, browser: Browser, locale: str, text: str
) -> None:
    context = browser.new_context(locale=locale, viewport={"width": 360, "height": 780})
    page = context.new_page()
    page.goto(shown.url)
    expect(page.locator(".numbers")).to_contain_text(text)
    expect(page.locator("path[data-code]")).to_have_count(89)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    other = "English" if locale == "fr-FR" else "Français"
    page.get_by_text(other).click()
    expect(page.locator(".numbers")).to_contain_text("Bikes" if text == "Vélos" else "Vélos")
    context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(shown: Shown, browser: Browser, scheme: Any) -> None:
    context = browser.new_context(
        color_scheme=scheme,
        reduced_motion="reduce",  # a colour on its way to another is no finding
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


def test_two_hundred_pages_cost_one_reader_and_little_memory(shown: Shown, page: Page) -> None:
    process = psutil.Process(shown.dashboard.process.pid)
    kafka = int(shown.pipeline.settings.kafka.bootstrap_servers.rpartition(":")[2])

    def connections() -> int:
        return sum(c.raddr.port == kafka for c in process.net_connections() if c.raddr)

    before = connections()
    with OpenPages(shown.url, 200) as pages:
        wait_until(lambda: len(pages.messages) == 200, "every page gets messages")
        assert connections() <= before + 3  # a check has one of its own for a moment
        seen = dict(pages.messages)
        wait_until(
            lambda: all(pages.messages[number] > count + 5 for number, count in seen.items()),
            "every page goes on getting messages",
        )
        wait_until(
            lambda: shown_sums(page) == sums(newest(shown.pipeline.totals())), "the page is current"
        )
        memory = process.memory_info().rss / 1e6
        assert memory < 600, f"{memory:.0f} MB"
    assert not shown.dashboard.has_ended()


def test_what_a_hostile_browser_sends_stops_no_other_page(
    shown: Shown, browser: Browser, page: Page
) -> None:
    hostile = browser.new_context().new_page()
    hostile.goto(shown.url)
    expect(hostile.locator("path[data-code='75016']")).to_be_visible()
    for event in ("area", "area_hover", "station", "time_zone", "window"):
        for argument in ("null", "[]", "{}", "1e999", "'../../etc/passwd'"):
            hostile.evaluate(f"emitEvent('{event}', {argument})")
    before = shown_sums(page)
    wait_until(lambda: shown_sums(page) != before, "the numbers still change")
    hostile.context.close()


# Each part is killed in turn, and started again.


def test_a_feed_that_stands_still_is_named(shown: Shown, page: Page) -> None:
    shown.feed.kill()
    expect(health(page, "feed")).to_contain_text("cannot be read")
    expect(page.locator(".badge.bad")).to_contain_text("Feed cannot be read")
    expect(health(page, "job")).to_contain_text("0 records wait")


def test_a_producer_that_stands_still_is_named(shown: Shown, page: Page) -> None:
    shown.producer.kill()
    expect(health(page, "producer")).to_contain_text("stands still", timeout=60_000)
    expect(page.locator(".badge.bad")).to_contain_text("Producer stands still")


def test_a_job_that_stands_still_is_named_and_what_waits_is_counted(
    shown: Shown, page: Page
) -> None:
    shown.job.kill()
    shown.feed = shown.pipeline.simulate(STATIONS, period=3)
    shown.producer = shown.pipeline.start("kafka_project.py")
    expect(health(page, "producer")).to_contain_text("polled the feed")
    expect(health(page, "job")).to_contain_text("stands still", timeout=60_000)
    expect(page.locator(".badge.bad")).to_contain_text("records wait")

    def agree() -> bool:
        done = max(snapshot for _, snapshot in shown.pipeline.totals())
        waiting = sum(len(s) for time, s in shown.pipeline.published().items() if time > done)
        text = health(page, "job").inner_text()
        return number(text.split(":")[-1]) == waiting

    wait_until(agree, "what waits is counted")
    shown.job = shown.pipeline.start("spark.py")
    expect(page.locator(".badge.good")).to_contain_text("live", timeout=120_000)


def test_the_page_survives_a_restart_of_kafka_and_of_its_server(shown: Shown, page: Page) -> None:
    shown.broker.kill()
    expect(page.locator(".badge.bad")).to_contain_text("Kafka does not answer")
    shown.broker = shown.pipeline.start_broker()
    expect(page.locator(".badge.good")).to_contain_text("live", timeout=120_000)
    shown.dashboard.kill()
    expect(page.get_by_text("Connection lost").first).to_be_visible(timeout=30_000)
    shown.dashboard = shown.start_dashboard()
    expect(page.locator(".badge.good")).to_contain_text("live", timeout=120_000)


def test_expected_sums_are_those_of_the_simulator(shown: Shown) -> None:
    """What the page is compared with is right: the totals in the topic are plain sums."""
    snapshots = shown.pipeline.published()
    totals = shown.pipeline.totals()
    newest_snapshot = max(snapshot for _, snapshot in totals)
    feed = {
        "lastUpdatedOther": newest_snapshot,
        "data": {"stations": snapshots[newest_snapshot]},
    }
    for key, total in expected.totals(feed).items():
        assert totals[key] == total
