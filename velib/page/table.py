"""The table of all postal codes, with their sums at its foot."""

import json
from collections.abc import Callable
from typing import Any

from nicegui import ui

from velib.page.colours import FILL, value
from velib.page.moment import Moment
from velib.page.text import LANGUAGES, Words
from velib.totals.areas import NAMES
from velib.totals.records import COUNTS, Counts

NO_COUNTS = Counts(*[0 for _ in COUNTS])
NARROW = 400  # pixels
COLUMNS = ("num_bikes_available", "ebike", "num_docks_available")


class Table:
    """A grid that sorts and searches in the browser; a number that changes is marked there."""

    def __init__(
        self,
        moment: Moment,
        words: Words,
        on_choose: Callable[[str], None],
        on_hover: Callable[[str], None],
    ) -> None:
        """The functions are called with the postal code of a row, or the id of the foot."""
        self.moment, self.words = moment, words
        with ui.element("section").classes("table").props(f'aria-label="{words("table")}"'):
            search = ui.input(placeholder=words("search")).props(
                f'dense outlined clearable aria-label="{words("search")}"'
            )
            self.grid = ui.aggrid(grid_options(words), auto_size_columns=False)
        search.on_value_change(lambda event: self.search(event.value or ""))
        # The names limit what the browser sends: AG Grid's events contain more than JSON.
        self.grid.on("cellMouseOver", lambda event: on_hover(event.args["rowId"]), ["rowId"])
        self.grid.on("rowClicked", lambda event: on_choose(event.args["rowId"]), ["rowId"])

    def show(self) -> None:
        with self.moment.state.lock:
            totals, sums = self.moment.totals(), self.moment.sum() or NO_COUNTS
            rows = [row(code, NAMES.get(code, ""), totals[code]) for code in sorted(totals)]
            foot = [row("", self.words("all"), sums)]
        self.grid.run_grid_method("setGridOption", "rowData", rows)
        self.grid.run_grid_method("setGridOption", "pinnedBottomRowData", foot)

    def search(self, text: str) -> None:
        self.grid.run_grid_method("setGridOption", "quickFilterText", text)

    def mark_chosen(self, postal_code: str) -> None:
        """Mark the row of a place, and scroll to it; for "" mark none."""
        self.grid.client.run_javascript(
            f"const grid = getElement({self.grid.id}).api;"
            f"const row = grid.getRowNode({json.dumps(postal_code)}); grid.deselectAll();"
            "if (row) { row.setSelected(true); grid.ensureNodeVisible(row); }"
        )

    def mark_hovered(self, postal_code: str) -> None:
        is_this = f"row.getAttribute('row-id') === {json.dumps(postal_code)}"
        self.grid.client.run_javascript(
            "document.querySelectorAll('.ag-row').forEach("
            f"row => row.classList.toggle('hovered', {is_this}))"
        )


def row(postal_code: str, name: str, counts: Counts) -> dict[str, Any]:
    """A row of the grid."""
    numbers = {column: getattr(counts, column) for column in COLUMNS}
    return {"code": postal_code, "name": name, **numbers, FILL: value(FILL, counts)}


def grid_options(words: Words) -> dict[str, Any]:
    """The options of AG Grid; those that begin with a colon are JavaScript."""
    locale = json.dumps(LANGUAGES[words.language])
    number = f"cell => cell.value?.toLocaleString({locale})"
    percent = f"cell => cell.value?.toLocaleString({locale}, {{style: 'percent'}}) ?? '–'"
    marked = {"type": "rightAligned", "enableCellChangeFlash": True}

    def column(field: str, form: str) -> dict[str, Any]:
        name = words(f"short_{field}")
        room = {"flex": 1, "minWidth": 66, "maxWidth": 90}
        # The search is for places and codes only.
        text = {":valueFormatter": form, ":getQuickFilterText": "() => ''"}
        return marked | room | text | {"field": field, "headerName": name}

    # Créteil is found by `creteil`, too.
    plain = "cell.value.normalize('NFD').replace(/[\\u0300-\\u036f]/g, '')"
    place = {":getQuickFilterText": f"cell => `${{cell.value}} ${{{plain}}}`"}
    return {
        "columnDefs": [
            {"field": "code", "headerName": words("code"), "width": 60},
            {"field": "name", "headerName": words("place"), "flex": 2, "minWidth": 70} | place,
            *(column(count, number) for count in COLUMNS),
            column(FILL, percent),
        ],
        "defaultColDef": {"sortable": True, "resizable": False, "suppressMovable": True},
        "localeText": {"noRowsToShow": words("no_totals")},
        "rowData": [],
        "pinnedBottomRowData": [],
        "ensureDomOrder": True,  # screen readers read the rows in it
        "rowHeight": 30,
        "headerHeight": 34,
        "rowSelection": {"mode": "singleRow", "checkboxes": False, "enableClickSelection": True},
        ":getRowId": "row => row.data.code",
        ":onCellKeyDown": "cell => cell.event.key === 'Enter' && emitEvent('area', cell.node.id)",
        # A phone has no room for every column.
        ":onGridSizeChanged": f"""grid => grid.api.setColumnsVisible(
            ["ebike", "num_docks_available"], grid.clientWidth > {NARROW})""",
    }
