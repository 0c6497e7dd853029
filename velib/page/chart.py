"""The chart of one place over the last hours, or of all places together."""

from typing import Any

from nicegui import ui

from velib.page import address
from velib.page.moment import Moment
from velib.page.text import LANGUAGES, PARIS, Words
from velib.totals.areas import NAMES

SPANS = (1, 6, 24)  # hours
GREY = "#7a8594"  # of the grid; page.css has the colour of the text
PAST = "#8a63d2"  # the colour of the badge and the slider
LINES = (
    ("num_bikes_available", "#3b6fb6"),
    ("ebike", "#2a9d6f"),
    ("num_docks_available", "#9a7b1c"),
)


class Chart:
    """Bikes, electric bikes and docks of the chosen place."""

    def __init__(self, moment: Moment, words: Words) -> None:
        self.moment, self.words = moment, words
        self.place = address.chosen("place", NAMES, "")
        self.hours = address.chosen("hours", SPANS, 6)
        self.shown_end = 0  # epoch seconds
        with ui.element("section").classes("chart"):
            with ui.element("div").classes("bar"):
                self.name = ui.label().props("role=heading aria-level=2").classes("name")
                self.summary = ui.label().classes("soft")
                spans = {hours: words("hours", n=hours) for hours in SPANS}
                ui.toggle(
                    spans, value=self.hours, on_change=lambda e: self.choose_hours(e.value)
                ).props("dense no-caps unelevated")
            self.echart = ui.echart(chart_options(words), renderer="svg")

    def show(self) -> None:
        with self.moment.state.lock:
            self.shown_end = self.end()
            series = self.moment.state.series(self.place, self.hours * 3600, self.shown_end)
        source = [
            [snapshot * 1000, *(getattr(counts, name, None) for name, _ in LINES)]
            for snapshot, counts in series
        ]
        self.echart.run_chart_method("setOption", {"dataset": {"source": source}})
        self.show_numbers()

    def end(self) -> int:
        """The end of the span that contains the moment; spans are counted back from the newest
        snapshot.
        """
        newest, span = self.moment.state.newest_snapshot, self.hours * 3600
        return newest - (newest - self.moment.snapshot) // span * span

    def show_moment(self) -> None:
        """Show another moment; draw new lines only if it is outside the shown hours."""
        if self.end() == self.shown_end:
            self.show_numbers()
        else:
            self.show()

    def show_numbers(self) -> None:
        """Show the numbers of the moment, and where it is on the chart."""
        words, moment = self.words, self.moment
        with moment.state.lock:
            totals, sums = moment.totals(), moment.sum()
            counts = totals.get(self.place) if self.place else sums
        self.name.set_text(f"{self.place} {NAMES[self.place]}" if self.place else words("all"))
        if counts is not None:
            summary = words(
                "place_summary",
                bikes=words.number(counts.num_bikes_available),
                ebike=words.number(counts.ebike),
                docks=words.number(counts.num_docks_available),
                stations=words.number(counts.stations),
            )
        else:
            summary = words("place_old" if totals else "no_totals")
        self.summary.set_text(summary)
        mark = [] if moment.is_live else [{"xAxis": moment.snapshot * 1000}]
        self.echart.run_chart_method("setOption", {"series": [{"markLine": {"data": mark}}]})

    def choose_place(self, postal_code: str) -> None:
        self.place = postal_code
        address.keep("place", postal_code)
        self.show()

    def choose_hours(self, hours: Any) -> None:
        if hours in SPANS:
            self.hours = hours
            address.keep("hours", hours)
            self.show()


def chart_options(words: Words) -> dict[str, Any]:
    """The options of ECharts; a row of its dataset is a time (ms) and a number for each line."""
    locale = LANGUAGES[words.language]
    number = f"number => number?.toLocaleString('{locale}') ?? '–'"

    def clock(form: str) -> str:
        form = f"timeZone: '{PARIS.key}', hourCycle: 'h23', {form}"
        return f"new Date(time).toLocaleString('{locale}', {{{form}}})"

    mark = clock("timeStyle: time % 60000 ? 'medium' : 'short'")
    pointer = clock("dateStyle: 'medium', timeStyle: 'long'")
    return {
        "animation": False,
        "textStyle": {"fontFamily": "inherit"},
        "grid": {"left": 8, "right": 28, "top": 28, "bottom": 4, "containLabel": True},
        "legend": {"top": 0, "right": 8},
        "tooltip": {"trigger": "axis", "confine": True, ":valueFormatter": number},
        "dataset": {"source": []},
        "useUTC": True,  # the same marks on the axis for every browser
        "xAxis": {
            "type": "time",
            ":min": "value => Math.min(value.min, value.max - 60_000)",  # one snapshot has no span
            "axisLabel": {
                "hideOverlap": True,
                ":formatter": f"time => {mark}",
                "rich": {"primary": {"fontWeight": "normal"}},
            },
            "axisPointer": {"label": {":formatter": f"({{value: time}}) => {pointer}"}},
        },
        "yAxis": {
            "type": "value",
            "axisLabel": {":formatter": number},
            "splitLine": {"lineStyle": {"color": GREY, "opacity": 0.25}},
        },
        "series": [
            {
                "type": "line",
                "name": words(name),
                "color": colour,
                "encode": {"x": 0, "y": column},
                "symbol": "circle",
                "symbolSize": 3,
                "markLine": {
                    "symbol": "none",
                    "silent": True,
                    "label": {"show": False},
                    "lineStyle": {"color": PAST, "width": 2, "type": "solid"},
                    "data": [],
                },
            }
            for column, (name, colour) in enumerate(LINES, start=1)
        ],
    }
