// What Python cannot tell Leaflet: velib/page/map.py calls these functions.

// Leaflet's shapes have neither a label nor a place in the tab order.
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
