"use strict";
// The page around the graphs: search, facts of the chosen node, charts, theme.
const views = JSON.parse(document.getElementById("graphs").textContent);
const $ = (id) => document.getElementById(id);
const el = (tag, attrs = {}, ...children) => {
  const node = document.createElement(tag);
  for (const [k, v] of Object.entries(attrs)) {
    if (k.startsWith("on")) node.addEventListener(k.slice(2), v);
    else if (v !== undefined) node.setAttribute(k, v);
  }
  node.append(...children.filter((c) => c !== undefined));
  return node;
};

// Chooses a node, and its counterpart in the other pane.
function choose(pane, index, center = true) {
  const other = panes.find((p) => p !== pane);
  pane.chosen = index;
  if (index >= 0 && center) pane.center(index);
  if (other) {
    const twin = index < 0 ? undefined : pane.view.nodes[index].twin;
    other.chosen = twin ?? -1;
    if (twin !== undefined) other.center(twin); else other.redraw();
  }
  pane.redraw();
  showDetails();
}

const number = (x) => (x === null ? "–" : x === 0 ? "0" : Math.abs(x) >= 1e5 || Math.abs(x) < 1e-3 ? x.toExponential(2) : String(+x.toPrecision(4)));

function spark(counts) {
  const most = Math.max(...counts, 1);
  const bars = counts.map((n, i) => `M${i * 4} 24v${-((n / most) * 24).toFixed(1)}h3V24z`).join("");
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  for (const [k, v] of Object.entries({ class: "spark", width: counts.length * 4, height: 24, role: "img", "aria-label": "histogram" })) svg.setAttribute(k, v);
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  path.setAttribute("d", bars);
  svg.append(path);
  return svg;
}

function portRow(port, twin) {
  const cell = el("td", {}, port.type);
  const s = port.stats;
  if (s) {
    const count = s.dims.reduce((a, b) => a * b, 1);
    const parts = [];
    if (s.range) parts.push(`${number(s.range[0])} … ${number(s.range[1])}`, `mean ${number(s.mean)}`, `std ${number(s.std)}`);
    if (s.zeros) parts.push(`${((100 * s.zeros) / count).toFixed(1)} % zeros`);
    if (s.non_finite) parts.push(`${s.non_finite} not finite`);
    if (s.two_four && s.two_four[0] === s.two_four[1]) parts.push("2:4 sparse");
    cell.append(el("br"), parts.join(", "));
    if (count > 1 && s.range) cell.append(el("br"), spark(s.histogram));
  }
  const same = !twin || (twin.type === port.type && JSON.stringify(twin.stats) === JSON.stringify(port.stats));
  return el("tr", { class: same ? undefined : "differs" }, el("td", {}, port.name), cell);
}

function details(pane, index) {
  if (index < 0) return el("section", { class: "note" }, `${pane.name}: nothing chosen`);
  const n = pane.view.nodes[index];
  const other = panes.find((p) => p !== pane);
  const twin = other && n.twin !== undefined ? other.view.nodes[n.twin] : undefined;
  const section = el("section", { "aria-label": pane.name }, el("h3", {}, `${n.op} `, el("span", { class: "note" }, n.name)));
  if (n.state) section.append(el("p", { class: `state ${RIM[n.state]}` }, n.state));
  const add = (title, rows) => {
    if (rows.length) section.append(el("table", {}, el("tbody", {}, el("tr", {}, el("th", { colspan: 2 }, title)), ...rows)));
  };
  add("Attributes", (n.attrs || []).map(([k, v]) => {
    const differs = twin && !(twin.attrs || []).some((a) => a[0] === k && a[1] === v);
    return el("tr", { class: differs ? "differs" : undefined }, el("td", {}, k), el("td", {}, v));
  }));
  for (const [key, title] of [["reads", "Inputs"], ["makes", "Outputs"]])
    add(title, (n[key] || []).map((p, i) => portRow(p, twin && (twin[key] || [])[i])));
  return section;
}

function showDetails() {
  $("details").replaceChildren(...panes.map((p) => details(p, p.chosen)));
}

// Nodes that `test` finds, as buttons, the first of them chosen when `go`.
let hits = [];
let hit = -1;
function list(test) {
  hits = [];
  for (const pane of panes) {
    pane.found = new Set();
    pane.view.nodes.forEach((n, i) => {
      if (test(n)) { hits.push([pane, i]); pane.found.add(i); }
    });
    pane.redraw();
  }
  hit = -1;
  $("count").textContent = hits.length === 1 ? "1 node" : `${hits.length} nodes`;
  const shown = hits.slice(0, 200).map(([pane, i], k) => {
    const n = pane.view.nodes[i];
    const text = `${panes.length > 1 ? pane.name + ": " : ""}${n.op} ${n.name}`;
    return el("li", {}, el("button", { type: "button", title: text, onclick: () => { hit = k; choose(pane, i); } }, text));
  });
  $("results").replaceChildren(...shown);
}
function clear() {
  hits = [];
  hit = -1;
  $("count").textContent = "";
  $("results").replaceChildren();
  for (const pane of panes) { pane.found = new Set(); pane.redraw(); }
}
function next(step) {
  if (!hits.length) return;
  hit = (hit + step + hits.length) % hits.length;
  choose(...hits[hit]);
}

readColours();
const panes = views.map((view, i) => new Pane($(`pane${i}`), view, (pane, node) => choose(pane, node, false)));
$("search").addEventListener("input", (e) => {
  const words = e.target.value.toLowerCase().split(/\s+/).filter(Boolean);
  if (!words.length) return clear();
  list((n) => {
    const text = `${n.op} ${n.name} ${(n.makes || []).map((p) => p.name).join(" ")}`.toLowerCase();
    return words.every((w) => text.includes(w));
  });
});
$("search").addEventListener("keydown", (e) => {
  if (e.key === "Enter") { e.preventDefault(); next(e.shiftKey ? -1 : 1); }
});
for (const button of document.querySelectorAll("[data-state]"))
  button.addEventListener("click", () => { $("search").value = ""; list((n) => n.state === button.dataset.state); next(1); });
$("fit").addEventListener("click", () => panes.forEach((p) => p.fit()));
$("closer").addEventListener("click", () => panes.forEach((p) => p.zoom(1.25)));
$("farther").addEventListener("click", () => panes.forEach((p) => p.zoom(0.8)));
document.addEventListener("keydown", (e) => {
  if (e.key === "/" && !/INPUT|SELECT|TEXTAREA/.test(document.activeElement.tagName)) { e.preventDefault(); $("search").focus(); }
});

const recolour = () => { readColours(); panes.forEach((p) => p.redraw()); };
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", recolour);
$("theme").addEventListener("click", () => {
  const root = document.documentElement;
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
  recolour();
});

// Of charts that belong together, one is shown at a time.
for (const select of document.querySelectorAll("select[data-picks]")) {
  const show = () => {
    for (const figure of document.querySelectorAll(`figure[data-of="${select.dataset.picks}"]`))
      figure.hidden = figure.id !== select.value;
  };
  select.addEventListener("change", show);
  show();
}

showDetails();
window.lapidary = { panes, choose };
