// The slide page: the scan under its heatmap, the tile under the pointer, and the regions.
"use strict";
const run = JSON.parse(document.getElementById("run").textContent);
const byId = (id) => document.getElementById(id);
const LABELS = { strong: "HER2-high tumour", weak: "other tumour", tumor: "tumour", non_tumor: "tissue without tumour", unreadable: "unreadable" };

const scan = run.scan_missing
  ? { type: "image", url: `${run.base}/overview.jpg` }
  : {
      width: run.width, height: run.height, tileSize: run.tile, minLevel: 8, maxLevel: run.max_level,
      getTileUrl: (level, x, y) => `${run.base}/tiles/${level}/${x}_${y}.jpg`,
    };
const viewer = OpenSeadragon({
  element: byId("viewer"), tileSources: run.scan_missing && run.pictures_missing ? [] : [scan],
  drawer: "canvas", showNavigationControl: false, showNavigator: true, navigatorPosition: "TOP_LEFT",
  navigatorBackground: "#fff", navigatorOpacity: 0.96, navigatorSizeRatio: 0.16,
  visibilityRatio: 0.6, maxZoomPixelRatio: 3, animationTime: 0.5, imageLoaderLimit: 6,
  gestureSettingsMouse: { clickToZoom: false, dblClickToZoom: true },
});
viewer.canvas.setAttribute("role", "application");
viewer.canvas.setAttribute("aria-label", "The slide. Arrow keys pan, plus and minus zoom, 0 shows all.");
viewer.container.append(byId("scale"));
let heatmap = null;
viewer.addHandler("open", () => {
  document.body.dataset.ready = "scan";
  if (run.pictures_missing || run.tiles_pruned) return;
  viewer.addTiledImage({
    tileSource: { type: "image", url: `${run.base}/overlay.png` }, x: 0, y: 0, width: 1,
    opacity: byId("opacity").value / 100,
    success: ({ item }) => { heatmap = item; setOpacity(byId("opacity").value); document.body.dataset.ready = "all"; },
  });
  if (matchMedia("(hover: hover)").matches) viewer.canvas.focus({ preventScroll: true });
});

function setOpacity(percent) {
  const value = Math.min(100, Math.max(0, Number(percent)));
  byId("opacity").value = value;
  byId("opacity-value").textContent = `${value} %`;
  heatmap?.setOpacity(value / 100);
}
byId("opacity").addEventListener("input", (event) => setOpacity(event.target.value));

// Tiles under the pointer. In viewport coordinates every scan has width 1.
const tiles = new Map();
let regions = [];
// A method that weighs tiles as a whole has no HER2-high regions, and its page no buttons for them.
const hasRegions = byId("region") !== null;
if (run.tiles_pruned) { if (hasRegions) byId("region").textContent = "regions not kept"; }
else fetch(`${run.base}/tiles.json`).then((response) => response.json()).then((rows) => {
  for (const [column, row, tileClass, p, pixels, attention] of rows) tiles.set(`${column},${row}`, { column, row, tileClass, p, pixels, attention });
  document.body.dataset.tiles = rows.length;
  if (!hasRegions) return;
  regions = connected([...tiles.values()].filter((tile) => tile.tileClass === "strong"));
  byId("region").textContent = regions.length ? `${regions.length} HER2-high region${regions.length > 1 ? "s" : ""}` : "no HER2-high region";
  for (const id of ["previous-region", "next-region"]) byId(id).disabled = !regions.length;
});
const rectangle = (left, top, right, bottom) => {
  const unit = run.tile_side / run.width;
  return new OpenSeadragon.Rect(left * unit, top * unit, Math.min(right * unit, 1) - left * unit,
    Math.min(bottom * unit, run.height / run.width) - top * unit);
};

// Adjacent strong tiles form a region; the region with the most tumour comes first.
function connected(strong) {
  const left = new Map(strong.map((tile) => [`${tile.column},${tile.row}`, tile]));
  const found = [];
  for (const start of strong) {
    if (!left.delete(`${start.column},${start.row}`)) continue;
    const region = { left: start.column, right: start.column + 1, top: start.row, bottom: start.row + 1, tiles: 0, pixels: 0 };
    const queue = [start];
    while (queue.length) {
      const tile = queue.pop();
      region.left = Math.min(region.left, tile.column); region.right = Math.max(region.right, tile.column + 1);
      region.top = Math.min(region.top, tile.row); region.bottom = Math.max(region.bottom, tile.row + 1);
      region.tiles += 1; region.pixels += tile.pixels;
      for (const [dx, dy] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) {
        const key = `${tile.column + dx},${tile.row + dy}`;
        if (left.has(key)) { queue.push(left.get(key)); left.delete(key); }
      }
    }
    found.push(region);
  }
  return found.sort((a, b) => b.pixels - a.pixels);
}
let shown = -1;
function showRegion(step) {
  if (!regions.length) return;
  shown = shown < 0 ? (step > 0 ? 0 : regions.length - 1) : (shown + step + regions.length) % regions.length;
  const region = regions[shown];
  viewer.viewport.fitBoundsWithConstraints(rectangle(region.left - 0.4, region.top - 0.4, region.right + 0.4, region.bottom + 0.4));
  byId("region").textContent = `region ${shown + 1} of ${regions.length}: ${region.tiles} tile${region.tiles > 1 ? "s" : ""}`;
}
byId("next-region")?.addEventListener("click", () => showRegion(1));
byId("previous-region")?.addEventListener("click", () => showRegion(-1));

const outline = document.createElement("div");
outline.className = "tile-outline";
let outlined = null;
byId("viewer").addEventListener("pointermove", (event) => {
  if (!viewer.world.getItemCount()) return;
  const box = byId("viewer").getBoundingClientRect();
  const at = viewer.viewport.pointFromPixel(new OpenSeadragon.Point(event.clientX - box.left, event.clientY - box.top), true);
  const column = Math.floor((at.x * run.width) / run.tile_side), row = Math.floor((at.y * run.width) / run.tile_side);
  const tile = tiles.get(`${column},${row}`);
  byId("tip").hidden = !tile;
  const key = tile ? `${column},${row}` : null;
  if (key !== outlined) {
    viewer.removeOverlay(outline);
    if (tile) viewer.addOverlay({ element: outline, location: rectangle(column, row, column + 1, row + 1) });
    outlined = key;
  }
  if (!tile) return;
  const share = `${((100 * tile.pixels) / (512 * 512)).toFixed(0)} % tumour`;
  const p = tile.p === null ? "p(strong) not computed" : `p(strong) ${tile.p.toFixed(2)}`;
  const attention = tile.attention === null ? "no attention" : `attention ${(100 * tile.attention).toFixed(1)} %`;
  const found = { strong: p, weak: p, tumor: attention }[tile.tileClass];
  byId("tip").textContent = found ? `${LABELS[tile.tileClass]}\n${found}, ${share}` : LABELS[tile.tileClass];
  byId("tip").style.left = `${Math.min(event.clientX + 16, innerWidth - byId("tip").offsetWidth - 8)}px`;
  byId("tip").style.top = `${Math.min(event.clientY + 18, innerHeight - byId("tip").offsetHeight - 8)}px`;
});
byId("viewer").addEventListener("pointerleave", () => { byId("tip").hidden = true; viewer.removeOverlay(outline); outlined = null; });

// The bar is as long as the largest round length that fits into a seventh of the viewer.
function drawScale() {
  byId("scale").hidden = run.um_per_px === null || !viewer.world.getItemCount();
  if (byId("scale").hidden) return;
  const width = viewer.viewport.getContainerSize().x;
  const umPerPixel = (run.width * run.um_per_px) / width / viewer.viewport.getZoom(true);
  const most = Math.max(72, 0.14 * width) * umPerPixel, power = 10 ** Math.floor(Math.log10(most));
  const length = [5, 2, 1].map((digit) => digit * power).find((value) => value <= most);
  const text = length >= 1000 ? `${length / 1000} mm` : `${Number(length.toPrecision(1))} µm`;
  byId("scale").querySelector("span").textContent = text;
  byId("scale").setAttribute("aria-label", `Scale bar: ${text}`);
  byId("scale").querySelector("i").style.width = `${length / umPerPixel}px`;
}
for (const name of ["open", "animation", "animation-finish", "resize"]) viewer.addHandler(name, drawScale);
for (const tick of document.querySelectorAll(".tick")) tick.style.left = `${((Number(tick.dataset.at) + 2) / 104) * 100}%`;

let before = 65;
const KEYS = {
  h: () => { const now = Number(byId("opacity").value); if (now) before = now; setOpacity(now ? 0 : before); },
  "[": () => setOpacity(Number(byId("opacity").value) - 10),
  "]": () => setOpacity(Number(byId("opacity").value) + 10),
  ".": () => showRegion(1),
  ",": () => showRegion(-1),
  j: () => byId("older")?.click(),
  k: () => byId("newer")?.click(),
  Escape: () => byId("back").click(),
};
// In the capture phase, because OpenSeadragon also handles some of these keys.
document.addEventListener("keydown", (event) => {
  const act = event.ctrlKey || event.metaKey || event.altKey ? undefined : KEYS[event.key.length === 1 ? event.key.toLowerCase() : event.key];
  if (!act) return;
  event.preventDefault();
  event.stopPropagation();
  act();
}, true);
