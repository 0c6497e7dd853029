"""A Leaflet map: postal codes as shapes and, from a closer zoom on, stations as dots.

It has a plain background, so it is whole without the network. It knows neither the pipeline nor
the rest of the page: it is told what to show.
"""

import html
import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

from nicegui import ui

CENTER = (48.859, 2.347)  # degrees
STATION_ZOOM = 13.5  # from which the stations are shown

SCRIPT = """
<script>
  // Leaflet gives the shapes no label and no place in the tab order.
  window.paintArea = (layer, [colour, label, escaped]) => {
    const shape = layer.getElement(), code = layer.feature.id;
    if (!layer.getTooltip()) {
      shape.dataset.code = code;
      Object.entries({tabindex: 0, role: "button"}).forEach(([k, v]) => shape.setAttribute(k, v));
      layer.bindTooltip(escaped, {sticky: true});
      layer.on("click", () => emitEvent("area", code));
      layer.on("mouseover", () => emitEvent("area_hover", code));
      shape.addEventListener("keydown", e => e.key === "Enter" && emitEvent("area", code));
    }
    layer.setStyle({fillColor: colour}).setTooltipContent(escaped);
    shape.setAttribute("aria-label", label);
  };
  window.watchWindow = map => map.on("moveend", () => {
    const bounds = map.getBounds();
    emitEvent("window", [bounds.getSouth(), bounds.getWest(), bounds.getNorth(), bounds.getEast()]);
  });
  window.showStations = (map, dots) => {
    const icon = dot => L.divIcon({className: "station " + dot.shape, iconSize: [16, 16],
                                   html: `<i style="background:${dot.colour}"></i>`});
    map.getContainer().classList.toggle("near", dots.length > 0);
    map.dots?.remove();
    map.dots = L.layerGroup(dots.map(dot =>
      L.marker([dot.latitude, dot.longitude], {icon: icon(dot), title: dot.label})
        .on("click", () => emitEvent("station", dot.code)))).addTo(map);
  };
</script>
"""


@dataclass(frozen=True)
class Dot:
    """A station on the map; latitude and longitude in degrees."""

    code: str
    latitude: float
    longitude: float
    colour: str
    shape: str
    label: str


class AreaMap(ui.leaflet):
    """A map of outlines: a GeoJSON FeatureCollection whose ids are postal codes.

    The page gets the events `area`, `area_hover` (with the postal code) and `station` (its code).
    """

    def __init__(self, outlines: dict[str, Any], dots: Callable[[], list[Dot]]) -> None:
        """`dots` gives the stations, whenever some of them are to be shown."""
        super().__init__(center=CENTER, zoom=11, options={"zoomSnap": 0.25, "minZoom": 9})
        self.clear_layers()  # the tiles of OpenStreetMap, which ui.leaflet begins with
        self.areas = self.generic_layer(name="geoJSON", args=[outlines])
        self.streets: Any = None
        self.dots = dots
        self.window = (0.0, 0.0, 0.0, 0.0)  # south, west, north, east, in degrees
        self.on("init", self.fit)
        ui.on("window", lambda event: self.show_window(event.args))

    def is_near(self) -> bool:
        """Whether the stations are shown."""
        return isinstance(self.zoom, (int, float)) and self.zoom >= STATION_ZOOM

    def fit(self) -> None:
        """Zoom so that every area is seen."""
        is_areas = f"layer.id === {json.dumps(self.areas.id)}"
        self.client.run_javascript(
            f"const map = getElement({self.id}).map; watchWindow(map);"
            f"map.eachLayer(layer => {is_areas} && map.fitBounds(layer.getBounds()))"
        )

    def paint(self, areas: dict[str, tuple[str, str]]) -> None:
        """Give each area its colour and its label."""
        painted = {code: (*area, html.escape(area[1])) for code, area in areas.items()}
        paint = f"layer => paintArea(layer, {json.dumps(painted)}[layer.feature.id])"
        self.areas.run_method(":eachLayer", paint)

    def mark_area(self, mark: str, postal_code: str) -> None:
        """Mark this area, and no other, as `chosen` or `hovered`."""
        is_this = f"layer.feature.id === {json.dumps(postal_code)}"
        toggle = f"layer.getElement().classList.toggle({json.dumps(mark)}, {is_this})"
        self.areas.run_method(":eachLayer", f"layer => {toggle} && layer.bringToFront()")

    def show_window(self, window: Any) -> None:
        """Show the stations that lie in a new window: south, west, north and east in degrees."""
        with suppress(TypeError, ValueError):  # a browser may send anything
            south, west, north, east = map(float, window)
            self.window = (south, west, north, east)
            self.show_stations()

    def show_stations(self) -> None:
        """Show the stations that lie in the window if the map is near, else none."""
        south, west, north, east = self.window
        visible = [
            asdict(dot)
            for dot in (self.dots() if self.is_near() else [])
            if south < dot.latitude < north and west < dot.longitude < east
        ]
        self.client.run_javascript(
            f"showStations(getElement({self.id}).map, {json.dumps(visible)})"
        )

    def show_streets(self, wanted: bool) -> None:
        """Put the street tiles of OpenStreetMap under the areas, or take them away."""
        if wanted and self.streets is None:
            self.streets = self.tile_layer(
                url_template="https://tile.openstreetmap.org/{z}/{x}/{y}.png",
                options={"attribution": "© OpenStreetMap contributors", "maxZoom": 19},
            )
        elif not wanted and self.streets is not None:
            self.remove_layer(self.streets)
            self.streets = None
        container = f"getElement({self.id}).map.getContainer()"
        self.client.run_javascript(f"{container}.classList.toggle('streets', {json.dumps(wanted)})")
