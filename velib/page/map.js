// What only JavaScript can do with Leaflet: velib/page/map.py calls these functions.

// Leaflet's shapes have neither a label nor a place in the tab order.
window.paintArea = (layer, [colour, label, escaped]) => {
  const shape = layer.getElement(), code = layer.feature.id;
  if (!layer.getTooltip()) {
    shape.dataset.code = code;
    Object.entries({tabindex: 0, role: "button"}).forEach(([k, v]) => shape.setAttribute(k, v));
    layer.bindTooltip(escaped, {sticky: true});
    layer.on("click", () => emitEvent("area", code));
    layer.on("mouseover", () => {
      layer.bringToFront();  // at once: moved between button down and up it would get no click
      emitEvent("area_hover", code);
    });
    shape.addEventListener("keydown", event => {
      if (![" ", "Enter"].includes(event.key)) return;
      event.preventDefault();  // the space bar would scroll the page
      emitEvent("area", code);
    });
  }
  layer.setStyle({fillColor: colour}).setTooltipContent(escaped);
  shape.setAttribute("aria-label", label);
};

// A marked shape comes to the front; moving it would take the focus away.
window.markArea = (layer, mark, code) => {
  const shape = layer.getElement(), hasFocus = shape === document.activeElement;
  if (shape.classList.toggle(mark, layer.feature.id === code)) layer.bringToFront();
  if (hasFocus) shape.focus();
};

window.moveTo = (layer, code) => {
  const map = layer._map, bounds = layer.getBounds();
  if (layer.feature.id === code && !map.getBounds().intersects(bounds)) map.panTo(bounds.getCenter());
};

window.nameZoomButtons = (map, zoomIn, zoomOut) => {
  for (const [button, name] of [["in", zoomIn], ["out", zoomOut]]) {
    const link = map.getContainer().querySelector(`.leaflet-control-zoom-${button}`);
    link.title = name;
    link.setAttribute("aria-label", name);
  }
};

window.watchWindow = map => map.on("moveend", () => {
  const bounds = map.getBounds();
  emitEvent("window", [bounds.getSouth(), bounds.getWest(), bounds.getNorth(), bounds.getEast()]);
});

// A part is its centre's latitude and longitude, and the zoom.
window.showPart = (map, bounds) => {
  const part = (new URLSearchParams(location.search).get("map") ?? "").split(",").map(parseFloat);
  const [latitude, longitude, zoom] = part;
  if (part.length === 3 && part.every(Number.isFinite))
    map.setView([latitude, longitude], zoom, {animate: false});
  else
    map.fitBounds(bounds, {animate: false});
  map.on("moveend", () => {
    const {lat, lng} = map.getCenter();
    keepInAddress("map", `${lat.toFixed(5)},${lng.toFixed(5)},${map.getZoom()}`, "replaceState");
  });
};

window.showStations = (map, dots) => {
  const icon = dot => L.divIcon({className: `station ${dot.shape} ${dot.is_chosen ? "ringed" : ""}`, iconSize: [16, 16],
                                 html: `<i style="background:${dot.colour}"></i>`});
  const focused = document.activeElement?.dataset.station;
  map.getContainer().classList.toggle("near", dots.length > 0);
  map.dots?.remove();
  map.dots = L.layerGroup().addTo(map);
  for (const dot of dots) {
    const marker = L.marker([dot.latitude, dot.longitude], {icon: icon(dot), title: dot.label});
    const choose = () => emitEvent("station", dot.code);
    marker.on("click", choose).on("keypress", e => e.originalEvent.key === "Enter" && choose());
    const element = marker.addTo(map.dots).getElement();
    element.dataset.station = dot.code;
    if (dot.code === focused) element.focus();
  }
};
