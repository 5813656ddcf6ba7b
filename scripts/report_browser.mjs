// Opens pages of `lapidary report` in headless Chromium and checks what people rely on: charts and
// graphs are there, search finds a node, a click shows its facts in both panes, nothing is logged,
// nothing is fetched, and drawing stays fluid.
//
// Usage: node scripts/report_browser.mjs PAGE.html… [--screenshots FOLDER] [--frame-ms 16]
// Needs playwright-core (npm) and Chromium at $CHROMIUM, else /usr/bin/chromium.
import assert from "node:assert/strict";
import { mkdirSync, statfsSync } from "node:fs";
import { createRequire } from "node:module";
import { basename, join, resolve } from "node:path";
import { pathToFileURL } from "node:url";

const require = createRequire(process.env.PLAYWRIGHT_FROM ?? join(process.cwd(), "package.json"));
const { chromium } = require("playwright-core");

const args = process.argv.slice(2);
const option = (name, fallback) => {
  const at = args.indexOf(name);
  return at < 0 ? fallback : args.splice(at, 2)[1];
};
const folder = option("--screenshots");
const limit = Number(option("--frame-ms", "16"));
if (folder) mkdirSync(folder, { recursive: true });

// Playwright has Chromium keep its shared memory in files under TMPDIR, and tabs crash when that disk
// is full. Where /dev/shm has room, that is used instead.
const sharedMemory = (() => {
  try {
    const { bavail, bsize } = statfsSync("/dev/shm");
    return bavail * bsize;
  } catch {
    return 0;
  }
})();
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  ignoreDefaultArgs: sharedMemory > 512 << 20 ? ["--disable-dev-shm-usage"] : [],
  args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
});

async function check(file) {
  const page = await browser.newPage({ viewport: { width: 1360, height: 900 } });
  const problems = [];
  const requests = [];
  // What this script itself causes by reading pixels back is no problem of the page.
  page.on("console", (m) => ["error", "warning"].includes(m.type()) && !m.text().includes("getImageData") && problems.push(m.text()));
  page.on("pageerror", (e) => problems.push(String(e)));
  page.on("request", (r) => requests.push(r.url()));
  const url = pathToFileURL(resolve(file)).href;
  const start = performance.now();
  await page.goto(url);
  await page.waitForFunction(() => window.lapidary?.panes.length === 2);
  const opened = performance.now() - start;
  const shot = async (name, target = page) => folder && target.screenshot({ path: join(folder, `${basename(file, ".html")}-${name}.png`) });
  await shot("top");

  // Charts.
  const charts = await page.locator("figure:not([hidden]) svg.scene").count();
  assert.ok(charts >= 1, `${charts} charts are shown`);
  const sections = await page.locator("select[data-picks]").evaluateAll((all) => all.map((s) => [s.dataset.picks, s.options.length]));
  for (const [group, count] of sections) {
    const select = page.locator(`select[data-picks="${group}"]`);
    await select.selectOption({ index: count - 1 });
    const shown = page.locator(`figure[data-of="${group}"]:not([hidden])`);
    assert.equal(await shown.count(), 1);
    assert.ok((await shown.boundingBox()).height > 60, `the chart of ${group} has no height`);
    await shot(`${group}-last`, shown);
    await select.selectOption({ index: 0 });
    await shot(group, page.locator(`figure[data-of="${group}"]:not([hidden])`));
  }

  // Search.
  const name = await page.evaluate(() => {
    const nodes = lapidary.panes[1].view.nodes.filter((n) => n.kind !== "port" && n.name);
    return (nodes.find((n) => n.kind === "linear" && n.twin !== undefined) ?? nodes[nodes.length >> 1]).name;
  });
  await page.fill("#search", name);
  await page.waitForFunction(() => document.querySelectorAll("#results button").length > 0);
  const found = await page.locator("#results button").allTextContents();
  assert.ok(found.some((text) => text.includes(name)), `${name} is not among ${found}`);
  await page.press("#search", "Enter");
  assert.match(await page.locator("#details").innerText(), /Inputs|Outputs/);
  await page.locator(".panes").scrollIntoViewIfNeeded();
  await page.waitForTimeout(120);
  await shot("found");
  assert.ok(await painted(page, 1), "the graph of the result is blank");

  // A click on the node in the middle of the pane shows its facts.
  await page.fill("#search", "");
  await page.evaluate((name) => {
    const [, pane] = lapidary.panes;
    lapidary.choose(pane, -1);
    pane.center(pane.view.nodes.findIndex((n) => n.name === name));
  }, name);
  assert.doesNotMatch(await page.locator("#details").innerText(), /Inputs/);
  const box = await page.locator("#pane1").boundingBox();
  await page.mouse.click(box.x + box.width / 2, box.y + box.height / 2);
  const facts = await page.locator("#details").innerText();
  assert.ok(facts.includes(name), `a click on ${name} shows ${facts}`);
  assert.match(facts, /Outputs/);
  await shot("details", page.locator("#details"));

  // The wheel zooms once the graph has the focus; keys move.
  const state = () => page.evaluate(() => { const p = lapidary.panes[1]; return [p.scale, p.x, p.y]; });
  const before = await state();
  await page.mouse.wheel(0, -240);
  await page.waitForTimeout(60);
  const zoomed = await state();
  assert.ok(zoomed[0] > before[0], "the wheel does not zoom");
  await page.keyboard.press("ArrowDown");
  assert.ok((await state())[2] > zoomed[2], "keys do not move");

  // Frames: the whole graph, then panning at a size that can be read.
  const frames = await page.evaluate(() => {
    const time = (pane, step, n) => {
      const times = [];
      for (let i = 0; i < n; i++) {
        step(pane, i);
        const t = performance.now();
        pane.draw();
        // Reading a pixel waits until the canvas is painted.
        pane.context.getImageData(0, 0, 1, 1);
        times.push(performance.now() - t);
      }
      times.sort((a, b) => a - b);
      return { median: times[n >> 1], p95: times[Math.floor(n * 0.95)] };
    };
    const pane = lapidary.panes.reduce((a, b) => (a.view.nodes.length >= b.view.nodes.length ? a : b));
    pane.fit();
    const whole = time(pane, (p) => { p.x += 1 / p.scale; }, 60);
    const near = time(pane, (p, i) => p.center(Math.floor((i * p.view.nodes.length) / 60)), 60);
    pane.fit();
    const zoom = time(pane, (p, i) => p.zoom(i < 30 ? 1.2 : 1 / 1.2), 60);
    return { nodes: pane.view.nodes.length, edges: pane.view.edges.length, whole, near, zoom };
  });
  await page.click("#fit");
  await page.waitForTimeout(120);
  await page.locator(".panes").scrollIntoViewIfNeeded();
  await shot("fit");

  // Dark.
  await page.emulateMedia({ colorScheme: "dark" });
  await page.waitForTimeout(120);
  await shot("dark");
  const paper = await page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  assert.match(paper, /rgb\((\d|[1-4]\d), /, `${paper} is not dark`);

  // Names for those who do not see.
  const nameless = await page.evaluate(() =>
    [...document.querySelectorAll("button, input, select, canvas, figure svg")].filter((e) => !(e.getAttribute("aria-label") || e.textContent.trim())).map((e) => e.outerHTML.slice(0, 80)));
  assert.deepEqual(nameless, []);

  assert.deepEqual(problems, [], "the console is not empty");
  assert.deepEqual(requests, [url], "something was fetched");
  const ms = (x) => x.toFixed(1);
  const line = ["whole", "near", "zoom"].map((k) => `${k} ${ms(frames[k].median)}/${ms(frames[k].p95)}`).join(", ");
  console.log(`${basename(file)}: opened in ${ms(opened)} ms; ${frames.nodes} nodes, ${frames.edges} edges; ms a frame (median/95 %): ${line}; charts ${JSON.stringify(sections)}`);
  for (const k of ["whole", "near", "zoom"]) assert.ok(frames[k].median <= limit, `${k}: ${frames[k].median} ms a frame`);
  await page.close();
}

// Some pixel of the canvas differs from its corner.
function painted(page, i) {
  return page.evaluate((i) => {
    const c = document.getElementById(`pane${i}`);
    const data = c.getContext("2d").getImageData(0, 0, c.width, c.height).data;
    for (let k = 4; k < data.length; k += 4) if (data[k] !== data[0] || data[k + 1] !== data[1] || data[k + 2] !== data[2]) return true;
    return false;
  }, i);
}

try {
  for (const file of args) await check(file);
} finally {
  await browser.close();
}
