"use strict";
// One graph on a canvas: pan, zoom, nodes and edges with as much detail as can be seen.
let colours = {};
const readColours = () => {
  const style = getComputedStyle(document.documentElement);
  for (const name of ["paper", "text", "muted", "grid", "before", "after", "mark", "added", "linear", "quant", "node"])
    colours[name] = style.getPropertyValue("--" + name).trim();
};
const FILL = { port: "paper", linear: "linear", quant: "quant", other: "node" };
const RIM = { changed: "after", added: "added", removed: "mark" };
const FONT = "12px ui-monospace, 'DejaVu Sans Mono', monospace";
const shorten = (s, n) => (s.length <= n ? s : s.slice(0, Math.floor(n / 3)) + "…" + s.slice(s.length - (n - 1 - Math.floor(n / 3))));

class Pane {
  // `choose` is called with the index of the node that is clicked, or -1.
  constructor(canvas, view, choose) {
    Object.assign(this, { canvas, view, name: view.name, choose: (i) => choose(this, i), scale: 1, x: 0, y: 0, chosen: -1, found: new Set(), dirty: false });
    this.context = canvas.getContext("2d");
    for (const e of view.edges) {
      e.top = Math.min(...e.points.map((p) => p[1]));
      e.bottom = Math.max(...e.points.map((p) => p[1]));
      e.left = Math.min(...e.points.map((p) => p[0]));
      e.right = Math.max(...e.points.map((p) => p[0]));
    }
    // Places by height, so that drawing looks at what is visible only.
    this.byHeight = view.nodes.map((_, i) => i).sort((a, b) => view.nodes[a].box[1] - view.nodes[b].box[1]);
    this.tops = this.byHeight.map((i) => view.nodes[i].box[1]);
    this.listen();
    new ResizeObserver(() => this.resize()).observe(canvas);
    this.resize();
    this.start();
  }

  resize() {
    const ratio = window.devicePixelRatio || 1;
    const { clientWidth: w, clientHeight: h } = this.canvas;
    if (!w || !h) return;
    this.canvas.width = Math.round(w * ratio);
    this.canvas.height = Math.round(h * ratio);
    this.ratio = ratio;
    this.redraw();
  }

  redraw() {
    if (this.dirty) return;
    this.dirty = true;
    requestAnimationFrame(() => { this.dirty = false; this.draw(); });
  }

  // Shows the whole graph.
  fit() {
    const [w, h] = this.view.size;
    const { clientWidth: cw, clientHeight: ch } = this.canvas;
    this.scale = Math.min(1.2, (cw - 24) / Math.max(w, 1), (ch - 24) / Math.max(h, 1));
    this.x = w / 2 - cw / 2 / this.scale;
    this.y = h / 2 - ch / 2 / this.scale;
    this.redraw();
  }

  // Shows the beginning at a size that can be read.
  start() {
    this.fit();
    if (this.scale >= 0.7 || !this.view.nodes.length) return;
    const [x, , w] = this.view.nodes[this.byHeight[0]].box;
    const { clientWidth: cw } = this.canvas;
    this.scale = 0.8;
    this.x = x + w / 2 - cw / 2 / this.scale;
    this.y = -16 / this.scale;
  }

  zoom(factor, cx = this.canvas.clientWidth / 2, cy = this.canvas.clientHeight / 2) {
    const scale = Math.min(4, Math.max(0.004, this.scale * factor));
    this.x += cx / this.scale - cx / scale;
    this.y += cy / this.scale - cy / scale;
    this.scale = scale;
    this.redraw();
  }

  center(index) {
    const [x, y, w, h] = this.view.nodes[index].box;
    this.scale = Math.max(this.scale, 0.8);
    this.x = x + w / 2 - this.canvas.clientWidth / 2 / this.scale;
    this.y = y + h / 2 - this.canvas.clientHeight / 2 / this.scale;
    this.redraw();
  }

  // First place in `tops` that is not above y.
  from(y) {
    let [lo, hi] = [0, this.tops.length];
    while (lo < hi) {
      const mid = (lo + hi) >> 1;
      if (this.tops[mid] < y) lo = mid + 1; else hi = mid;
    }
    return lo;
  }

  *visible() {
    const bottom = this.y + this.canvas.clientHeight / this.scale;
    const right = this.x + this.canvas.clientWidth / this.scale;
    for (let k = this.from(this.y - 60); k < this.tops.length && this.tops[k] <= bottom; k++) {
      const i = this.byHeight[k];
      const [x, , w] = this.view.nodes[i].box;
      if (x <= right && x + w >= this.x) yield i;
    }
  }

  draw() {
    const { context: c, scale, ratio } = this;
    c.setTransform(1, 0, 0, 1, 0, 0);
    c.fillStyle = colours.paper;
    c.fillRect(0, 0, this.canvas.width, this.canvas.height);
    c.setTransform(scale * ratio, 0, 0, scale * ratio, -this.x * scale * ratio, -this.y * scale * ratio);
    this.drawEdges();
    this.drawNodes();
  }

  drawEdges() {
    const { context: c, scale } = this;
    const bottom = this.y + this.canvas.clientHeight / scale;
    const right = this.x + this.canvas.clientWidth / scale;
    const curved = scale > 0.3;
    const lines = [[], []];
    // Shorter than this, an edge is no more than the gap between two nodes.
    const least = scale < 0.1 ? 2 / scale : 0;
    for (const e of this.view.edges) {
      if (e.bottom < this.y || e.top > bottom || e.right < this.x || e.left > right) continue;
      if (e.bottom - e.top < least && e.right - e.left < least) continue;
      lines[e.from === this.chosen || e.to === this.chosen ? 1 : 0].push(e);
    }
    for (const [group, colour] of [[lines[0], colours.before], [lines[1], colours.after]]) {
      c.beginPath();
      for (const { points } of group) {
        c.moveTo(points[0][0], points[0][1]);
        for (let i = 1; i < points.length; i++) {
          const [ax, ay] = points[i - 1];
          const [x, y] = points[i];
          if (curved && ax !== x) {
            const bend = Math.min(40, (y - ay) / 2);
            c.bezierCurveTo(ax, ay + bend, x, y - bend, x, y);
          } else c.lineTo(x, y);
        }
      }
      c.strokeStyle = colour;
      c.lineWidth = (group === lines[1] ? 2 : 1) / Math.max(scale, 0.5);
      c.stroke();
    }
  }

  drawNodes() {
    const { context: c, scale, view } = this;
    const nodes = [...this.visible()];
    const batches = new Map();
    for (const i of nodes) {
      const n = view.nodes[i];
      const fill = scale < 0.3 && n.state ? RIM[n.state] : FILL[n.kind];
      if (!batches.has(fill)) batches.set(fill, []);
      batches.get(fill).push(n.box);
    }
    // Far away a node is at least a pixel high and has no rim but its colour.
    const grow = Math.max(0, 1 / scale - 24);
    for (const [fill, boxes] of batches) {
      c.beginPath();
      for (const [x, y, w, h] of boxes) c.rect(x - grow / 2, y - grow / 2, w + grow, h + grow);
      c.fillStyle = scale < 0.3 && ["paper", "node"].includes(fill) ? colours.before : colours[fill];
      c.fill();
      if (scale >= 0.3) {
        c.strokeStyle = colours.before;
        c.lineWidth = 1;
        c.stroke();
      }
    }
    for (const i of nodes) this.drawRim(i);
    if (scale >= 0.45) this.drawLabels(nodes);
  }

  drawRim(i) {
    const { context: c, scale, view } = this;
    const n = view.nodes[i];
    const [x, y, w, h] = n.box;
    if (n.state && scale >= 0.3) {
      c.strokeStyle = colours[RIM[n.state]];
      c.lineWidth = 2.5;
      c.strokeRect(x, y, w, h);
    }
    if (i === this.chosen || this.found.has(i)) {
      const gap = 4 / Math.min(scale, 1);
      c.strokeStyle = i === this.chosen ? colours.text : colours.mark;
      c.lineWidth = 2.5 / Math.min(scale, 1);
      c.strokeRect(x - gap, y - gap, w + 2 * gap, h + 2 * gap);
    }
  }

  drawLabels(nodes) {
    const c = this.context;
    c.font = FONT;
    c.textAlign = "center";
    c.fillStyle = colours.text;
    for (const i of nodes) {
      const n = this.view.nodes[i];
      c.fillText(shorten(n.kind === "port" ? n.name : n.op, 28), n.box[0] + n.box[2] / 2, n.box[1] + 17);
    }
    c.fillStyle = colours.muted;
    for (const i of nodes) {
      const n = this.view.nodes[i];
      if (n.note) c.fillText(shorten(n.note, 28), n.box[0] + n.box[2] / 2, n.box[1] + 33);
    }
  }

  // Index of the node at a point of the canvas, or -1.
  at(cx, cy) {
    const [x, y] = [this.x + cx / this.scale, this.y + cy / this.scale];
    const slack = Math.max(0, 4 / this.scale - 4);
    for (const i of this.visible()) {
      const [l, t, w, h] = this.view.nodes[i].box;
      if (x >= l - slack && x <= l + w + slack && y >= t - slack && y <= t + h + slack) return i;
    }
    return -1;
  }

  listen() {
    const canvas = this.canvas;
    let drag = null;
    canvas.addEventListener("pointerdown", (e) => {
      canvas.setPointerCapture(e.pointerId);
      drag = { x: e.offsetX, y: e.offsetY, moved: false };
    });
    canvas.addEventListener("pointermove", (e) => {
      if (!drag) {
        const i = this.at(e.offsetX, e.offsetY);
        canvas.title = i < 0 ? "" : `${this.view.nodes[i].op} ${this.view.nodes[i].name}`;
        return;
      }
      const [dx, dy] = [e.offsetX - drag.x, e.offsetY - drag.y];
      if (!drag.moved && Math.hypot(dx, dy) < 4) return;
      canvas.classList.add("dragging");
      drag = { x: e.offsetX, y: e.offsetY, moved: true };
      this.x -= dx / this.scale;
      this.y -= dy / this.scale;
      this.redraw();
    });
    const drop = (e) => {
      canvas.classList.remove("dragging");
      if (drag && !drag.moved && e.type === "pointerup") this.choose(this.at(e.offsetX, e.offsetY));
      drag = null;
    };
    canvas.addEventListener("pointerup", drop);
    canvas.addEventListener("pointercancel", drop);
    canvas.addEventListener("wheel", (e) => {
      // Until the graph is clicked, the wheel scrolls the page.
      if (document.activeElement !== canvas && !e.ctrlKey) return;
      e.preventDefault();
      this.zoom(Math.exp(-e.deltaY * (e.ctrlKey ? 0.01 : 0.0015)), e.offsetX, e.offsetY);
    }, { passive: false });
    canvas.addEventListener("keydown", (e) => {
      const step = 60 / this.scale;
      const act = {
        ArrowUp: () => { this.y -= step; }, ArrowDown: () => { this.y += step; },
        ArrowLeft: () => { this.x -= step; }, ArrowRight: () => { this.x += step; },
        "+": () => this.zoom(1.25), "=": () => this.zoom(1.25), "-": () => this.zoom(0.8), 0: () => this.fit(),
      }[e.key];
      if (!act) return;
      e.preventDefault();
      act();
      this.redraw();
    });
  }
}
