"""Keeps the reader's choices in the query of the page's address.

So a page shows the same after a reload or a lost connection, a view can be shared, and Back undoes
the last choice.
"""

import json
import re
from collections.abc import Iterable
from typing import TypeVar

from nicegui import ui

Choice = TypeVar("Choice", str, int)
NUMBER = re.compile("[0-9]{1,12}")

SCRIPT = """<script>
window.keepInAddress = (name, value, change) => {
  const address = new URL(location);
  address.searchParams.set(name, value);
  history[change](null, "", address);
};
window.addEventListener("popstate", () => location.reload());
</script>"""
"""The script that a page needs in its head."""


def chosen(name: str, choices: Iterable[Choice], default: Choice) -> Choice:
    """The choice that the address of this page names; the default if it names none of them."""
    by_text = {str(choice): choice for choice in choices}
    return by_text.get(ui.context.client.request.query_params.get(name, ""), default)


def chosen_number(name: str) -> int:
    """The number in the address of this page; 0 if there is none."""
    text = ui.context.client.request.query_params.get(name, "")
    return int(text) if NUMBER.fullmatch(text) else 0


def keep(name: str, choice: object, in_history: bool = True) -> None:
    """Put a choice into the address of this page; `in_history`: as a step to which Back returns."""
    arguments = (name, choice, "pushState" if in_history else "replaceState")
    ui.run_javascript(f"keepInAddress({', '.join(map(json.dumps, arguments))})")
