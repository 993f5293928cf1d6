"""The status page: one self-contained HTML file that asks ``/status.json`` every two seconds.

Texts from the run are only ever set as text, never as HTML. It works from a phone's width up, light and dark, with a
keyboard and a screen reader, and says so when the run no longer answers.
"""

from __future__ import annotations

_LIGHT = """--bg: #ffffff; --card: #f4f6f8; --ink: #16181d; --muted: #525966; --line: #d5dae1; --grid: #e6e9ee;
  --good: #006b4b; --bad: #a8201a; --even: #6a4c00; --local: #00609c; --remote: #b34700;"""
_DARK = """--bg: #14161a; --card: #1e2127; --ink: #e9ebef; --muted: #aab1be; --line: #3a404b; --grid: #2b3038;
  --good: #55d3a3; --bad: #ff9a91; --even: #f0c35a; --local: #7cc1f5; --remote: #ffa066;"""

_STYLE = """
:root { color-scheme: light dark; @LIGHT@ }
@media (prefers-color-scheme: dark) { :root { @DARK@ } }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0; background: var(--bg); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 80rem; margin: 0 auto; padding: 1rem clamp(.9rem, 3vw, 2.5rem) 2rem; }
h1 { font-size: 1.3rem; margin: 0; } h2 { font-size: 1.1rem; margin: 1.8rem 0 .5rem; }
p { margin: .3rem 0; overflow-wrap: anywhere; }
.muted, figcaption { color: var(--muted); font-size: .875rem; }
#state { font-weight: 650; } .good { color: var(--good); } .bad { color: var(--bad); } .even { color: var(--even); }
dl { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 11.5rem), 1fr)); gap: .7rem;
  margin: .8rem 0 0; }
dl div { border: 1px solid var(--line); border-radius: .5rem; padding: .5rem .8rem; background: var(--card); }
dt { color: var(--muted); font-size: .875rem; }
dd { margin: 0; font-size: 1.3rem; font-weight: 700; font-variant-numeric: tabular-nums; }
dd small { display: block; font-size: .85rem; font-weight: 400; color: var(--muted); }
figure { margin: 0; } #chart { display: block; width: 100%; height: 220px; }
svg text { font: 12px system-ui, sans-serif; fill: var(--muted); }
.slo { stroke: var(--bad); stroke-width: 1.5; stroke-dasharray: 6 4; } .axis { stroke: var(--grid); }
.dot.local { fill: var(--local); } .dot.remote { fill: var(--remote); }
.dot.none { fill: none; stroke: var(--bad); stroke-width: 2; }
.legend { display: flex; flex-wrap: wrap; gap: .1rem 1rem; list-style: none; padding: 0; margin: .2rem 0;
  font-size: .875rem; }
.legend svg { display: inline-block; width: .8rem; height: .8rem; vertical-align: -.08rem; margin-right: .35rem; }
.scroll { overflow-x: auto; border: 1px solid var(--line); border-radius: .5rem; }
.scroll:focus-visible { outline: 2px solid var(--local); }
table { border-collapse: collapse; width: 100%; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .6rem; text-align: left; border-bottom: 1px solid var(--line); white-space: nowrap; }
tbody tr:last-child > * { border-bottom: 0; } thead th { color: var(--muted); font-weight: 600; }
td.number, th.number { text-align: right; }
.columns { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 34rem), 1fr)); gap: 0 1.6rem; }
.columns > section { min-width: 0; }
"""

_SCRIPT = """
"use strict";
const EVERY_MS = 2000, SVG = "http://www.w3.org/2000/svg", $ = id => document.getElementById(id);
const number = (value, digits = 1, unit = "") =>
  value === null || value === undefined ? "unknown" : value.toFixed(digits) + (unit ? " " + unit : "");
const percent = value => value === null || value === undefined ? "unknown" : (100 * value).toFixed(1) + " %";
const age = s => s === null || s === undefined ? "never" : s < 120 ? s.toFixed(0) + " s" :
  s < 7200 ? (s / 60).toFixed(0) + " min" : s < 172800 ? (s / 3600).toFixed(1) + " h" : (s / 86400).toFixed(0) + " d";
function element(name, text, style) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (style) made.className = style;
  return made;
}
function drawn(name, attributes, text) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
}
function facts(id, rows) {
  $(id).replaceChildren(...rows.map(([name, value, note, style]) => {
    const box = element("div"), shown = element("dd", value, style);
    if (note) shown.append(element("small", note));
    box.append(element("dt", name), shown);
    return box;
  }));
}
function table(id, rows, empty) {
  const body = $(id).tBodies[0], columns = $(id).tHead.rows[0].cells.length;
  if (!rows.length) {
    const cell = element("td", empty);
    cell.colSpan = columns;
    rows = null;
    body.replaceChildren(element("tr"));
    body.rows[0].append(cell);
    return;
  }
  body.replaceChildren(...rows.map(cells => {
    const row = element("tr");
    row.append(...cells.map(cell => Array.isArray(cell) ? element("td", cell[0], cell[1]) : element("td", cell)));
    return row;
  }));
}
function chart(points, slo, local) {
  const svg = $("chart"), width = Math.max(svg.clientWidth, 260), height = 220, left = 44, bottom = 24;
  svg.setAttribute("viewBox", "0 0 " + width + " " + height);  // a phone gets fewer pixels, not smaller letters
  const top = Math.max(slo * 1.35, ...points.map(p => p.latency_ms || 0)) * 1.05;
  const x = i => left + (i + 0.5) * (width - left - 8) / Math.max(points.length, 1);
  const y = ms => height - bottom - ms / top * (height - bottom - 8);
  const parts = [drawn("title", {}, "Latency of the last frames against the objective")];
  const step = [20, 50, 100, 200, 500, 1000, 2000, 5000].find(s => top / s <= 6) || 10000;
  for (let ms = 0; ms < top; ms += step) {
    parts.push(drawn("line", {x1: left, x2: width - 8, y1: y(ms), y2: y(ms), class: "axis"}),
      drawn("text", {x: left - 6, y: y(ms) + 4, "text-anchor": "end"}, String(ms)));
  }
  points.forEach((p, i) => {
    const place = p.executed === null ? "none" : p.executed === local ? "local" : "remote";
    const at = {cx: x(i), cy: p.latency_ms === null ? height - bottom : y(p.latency_ms), class: "dot " + place};
    const mark = place === "remote" ? drawn("rect", {x: at.cx - 3, y: at.cy - 3, width: 6, height: 6,
      class: at.class}) : drawn("circle", {...at, r: place === "none" ? 4 : 3.2});
    mark.append(drawn("title", {}, "frame " + p.frame + ": " + (p.executed || "no result") + ", "
      + number(p.latency_ms, 0, "ms")));
    parts.push(mark);
  });
  parts.push(drawn("line", {x1: left, x2: width - 8, y1: y(slo), y2: y(slo), class: "slo"}),
    drawn("text", {x: width - 10, y: y(slo) - 6, "text-anchor": "end"}, "objective " + slo + " ms"),
    drawn("text", {x: left, y: height - 6}, "older"),
    drawn("text", {x: width - 8, y: height - 6, "text-anchor": "end"}, "now (ms)"));
  svg.replaceChildren(...parts);
}
function show(s) {
  const r = s.recent, f = s.frames, local = Object.keys(s.providers)[0], shadow = s.mode === "shadow";
  $("title").textContent = "CarbonPilot at " + s.scenario;
  document.title = (r.miss_rate > 0.05 ? "! " : "") + s.scenario + " - CarbonPilot";
  $("run").textContent = s.mode + " mode, " + s.bundle + ", run " + s.run + ", up " + age(s.up_s);
  facts("now", [
    ["p95 of the last " + r.frames, number(r.p95_ms, 0, "ms"),
      "objective " + s.slo_ms + " ms; median " + number(r.p50_ms, 0, "ms"),
      r.p95_ms === null ? "" : r.p95_ms <= s.slo_ms ? "good" : "bad"],
    ["missed, of the last " + r.frames, percent(r.miss_rate), f.missed + " of " + f.offered + " in all",
      r.miss_rate === null ? "" : r.miss_rate <= 0.05 ? "good" : "bad"],
    ["frames", String(f.offered), f.answered + " answered, " + f.in_flight + " under way, " + f.overloaded
      + " turned away"],
    ["carbon charged", number(s.carbon.spent_mg, 1, "mg"), number(s.carbon.energy_j, 0, "J")
      + (s.carbon.frames_of_unknown_carbon ? "; unknown for " + s.carbon.frames_of_unknown_carbon + " frames" : "")
      + (s.carbon.frames_of_unknown_energy ? ", energy for " + s.carbon.frames_of_unknown_energy : "")],
    ...Object.entries(s.carbon.saved).map(([name, saved]) => [
      (shadow ? "would save against " : "saved against ") + name,
      saved.frames ? number(saved.saved_mg, 1, "mg") : "unknown",
      (saved.share === null ? "" : percent(saved.share) + " ") + "over " + saved.frames + " frames",
      !saved.frames ? "" : saved.saved_mg >= 0 ? "good" : "bad"]),
    ["device", s.device.throttled ? "throttled" : "full speed", "heat " + number(s.device.heat, 2),
      s.device.throttled ? "bad" : "good"],
    ["own work per frame", number(r.overhead_p50_ms, 2, "ms"), "deciding " + number(r.decision_p50_us, 0, "us")],
    ["log", s.log.trouble ? s.log.trouble : s.log.written + " lines",
      s.log.held + " held, " + s.log.dropped + " dropped", s.log.trouble || s.log.dropped ? "bad" : "good"],
  ]);
  chart(s.chart, s.slo_ms, local);
  const shares = Object.entries(r.executed).map(([name, n]) => name + " " + percent(n / r.frames));
  $("shares").textContent = shares.length ? "Executed at: " + shares.join(", ") : "No frame yet.";
  const why = Object.entries({...r.reasons, ...Object.fromEntries(
    Object.entries(r.fallbacks).map(([k, n]) => ["fallback: " + k, n]))}).map(([k, n]) => k + " " + n);
  $("reasons").textContent = why.length ? "Reasons: " + why.join(", ") : "";
  table("decisions", s.decisions.map(d => [[String(d.frame), "number"], d.utc.slice(11, 19), d.wanted || "not asked",
    d.placement || "none", d.reason, [d.executed || "no result", d.executed ? "" : "bad"], d.fallback || "",
    [number(d.latency_ms, 0), "number " + (d.missed ? "bad" : "")], [number(d.carbon_mg, 3), "number"],
    d.problem || ""]), "No frame yet.");
  table("links", Object.entries(s.links).map(([name, l]) => [name,
    l.error ? ["silent: " + l.error, "bad"] : ["answers", "good"], [number(l.rtt_ms), "number"],
    [number(l.loss_pct, 2), "number"], [number(l.uplink_mbps) + (l.uplink_assumed ? " (assumed)" : ""), "number"],
    [age(l.age_s), "number"]]), "This site has no link.");
  const nodes = [...new Set([...Object.keys(s.breakers), ...Object.keys(s.loads)])];
  table("nodes", [...nodes.map(name => {
    const breaker = s.breakers[name] || "none", load = s.loads[name] || {};
    return [name, [breaker, breaker === "closed" ? "good" : breaker === "none" ? "" : "bad"],
      [load.load === undefined ? "not observed" : number(load.load, 2), "number"],
      [load.load === undefined ? "" : age(load.age_s), "number"], load.error || ""];
  }), ...s.absent_nodes.map(name => [name, "absent", "", "", "left out by the site file, never used"])],
    "This site has no other node.");
  table("feeds", [...Object.entries(s.feeds).map(([zone, feed]) => [zone,
    [number(feed.carbon_g_per_kwh, 0), "number"], feed.kind + (feed.estimated ? ", estimated" : ""),
    [age(feed.age_s), "number"], feed.stale ? ["stale", "bad"] : ["fresh", "good"], feed.source,
    [String(feed.failures), "number"]]),
    ...s.zones_without_reading.map(zone => [zone, ["unknown", "number bad"], "", "", ["no reading", "bad"], "", ""])],
    "No grid feed.");
  const silent = Object.entries(s.silent_meters).map(([name, said]) => name + ": " + said);
  $("meters").textContent = silent.length ? "Meters: " + silent.join("; ") : "";
}
let failures = 0;
async function refresh() {
  try {
    const answer = await fetch("status.json", {cache: "no-store"});
    if (!answer.ok) throw new Error("answered " + answer.status);
    show(await answer.json());
    failures = 0;
    $("state").textContent = "live";
    $("state").className = "good";
  } catch (error) {
    failures += 1;
    $("state").textContent = "no answer from the run" + (failures > 1 ? " (" + failures + " times)" : "")
      + "; what is shown is old";
    $("state").className = "bad";
  }
  setTimeout(refresh, EVERY_MS);
}
refresh();
"""

_BODY = """
<main>
<h1 id="title">CarbonPilot</h1>
<p class="muted"><span id="state" role="status">loading</span> &middot; <span id="run"></span></p>
<dl id="now"></dl>
<p class="muted">Saved: what the static choice was believed to emit at the moment of each decision, less what the frame
was charged. Nobody can know what a placement that was not chosen would have emitted. always-offload is the allowed
server with the least believed latency. Frames with an unknown grid are left out.</p>
<h2>Latency</h2>
<figure>
<svg id="chart" viewBox="0 0 900 220" role="img" aria-label="Latency of the last frames against the objective"></svg>
<ul class="legend">
<li><svg viewBox="0 0 10 10" aria-hidden="true"><circle class="dot local" cx="5" cy="5" r="4"/></svg>on the device</li>
<li><svg viewBox="0 0 10 10" aria-hidden="true"><rect class="dot remote" x="1" y="1" width="8" height="8"/></svg>on a
server</li>
<li><svg viewBox="0 0 10 10" aria-hidden="true"><circle class="dot none" cx="5" cy="5" r="3.5"/></svg>no result</li>
</ul>
<figcaption><span id="shares"></span> <span id="reasons"></span></figcaption>
</figure>
<h2>Last decisions</h2>
<div class="scroll" tabindex="0" role="region" aria-label="Last decisions"><table id="decisions"><thead><tr>
<th class="number">frame</th><th>UTC</th><th>policy</th><th>decided</th><th>reason</th><th>executed</th>
<th>fallback</th><th class="number">ms</th><th class="number">mg</th><th>problem</th></tr></thead><tbody></tbody>
</table></div>
<div class="columns">
<section><h2>Links</h2>
<div class="scroll" tabindex="0" role="region" aria-label="Links"><table id="links"><thead><tr><th>link</th>
<th>state</th><th class="number">RTT ms</th><th class="number">loss %</th><th class="number">uplink Mbit/s</th>
<th class="number">age</th></tr></thead><tbody></tbody></table></div></section>
<section><h2>Nodes</h2>
<div class="scroll" tabindex="0" role="region" aria-label="Nodes"><table id="nodes"><thead><tr><th>node</th>
<th>breaker</th><th class="number">load</th><th class="number">age</th><th>trouble</th></tr></thead><tbody></tbody>
</table></div></section>
<section><h2>Grid feeds</h2>
<div class="scroll" tabindex="0" role="region" aria-label="Grid feeds"><table id="feeds"><thead><tr><th>zone</th>
<th class="number">g/kWh</th><th>kind</th><th class="number">age</th><th>state</th><th>source</th>
<th class="number">failures</th></tr></thead><tbody></tbody></table></div>
<p id="meters" class="bad"></p></section>
</div>
</main>
"""

PAGE = (
    '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
    '<meta name="viewport" content="width=device-width, initial-scale=1"><title>CarbonPilot</title>'
    '<link rel="icon" href="data:,">'
    f"<style>{_STYLE.replace('@LIGHT@', _LIGHT).replace('@DARK@', _DARK)}</style></head>"
    f"<body>{_BODY}<script>{_SCRIPT}</script></body></html>\n"
)
