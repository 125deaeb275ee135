# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""The report's page: style, script and skeleton.  One file without links, readable offline and in CI artefacts."""

from __future__ import annotations

from typing import Final

STYLE: Final = """
:root { color-scheme: dark; --back: #0f141b; --card: #171e27; --line: #27313d; --text: #dbe3ec; --dim: #8b99a8;
  --plan: #00beaa; --driven: #f0f0f0; --expert: #ffce54; --alarm: #de4032; --warn: #e69f00; }
* { box-sizing: border-box; }
body { margin: 0; background: var(--back); color: var(--text); font: 15px/1.5 system-ui, 'Segoe UI', sans-serif; }
main { max-width: 1320px; margin: 0 auto; padding: 28px 20px 60px; }
h1 { font-size: 25px; margin: 0 0 2px; letter-spacing: -0.01em; }
h2 { font-size: 16px; margin: 30px 0 10px; }
.sub { color: var(--dim); margin: 0 0 20px; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 12px; }
.tile { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 12px 14px; }
.tile b { display: block; font-size: 23px; font-weight: 600; font-variant-numeric: tabular-nums; }
.tile span { color: var(--dim); font-size: 12.5px; }
.player { margin-top: 22px; background: var(--card); border: 1px solid var(--line); border-radius: 10px;
  overflow: hidden; }
.player img { display: block; width: 100%; background: #11161d; }
.controls { display: flex; align-items: center; gap: 12px; padding: 10px 14px; }
button { background: var(--plan); color: #06211d; border: 0; border-radius: 6px; padding: 6px 0; width: 74px;
  font: inherit; font-weight: 600; cursor: pointer; }
input[type=range] { flex: 1; accent-color: var(--plan); }
.clock { font-variant-numeric: tabular-nums; color: var(--dim); min-width: 250px; text-align: right; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(390px, 1fr)); gap: 14px; }
.chart { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 12px 14px 8px; }
.chart h3 { margin: 0; font-size: 14px; }
.chart p { margin: 0 0 4px; color: var(--dim); font-size: 12.5px; }
.chart svg { display: block; width: 100%; height: auto; cursor: crosshair; }
.legend { display: flex; flex-wrap: wrap; gap: 3px 14px; font-size: 12.5px; color: var(--dim); min-height: 46px;
  align-content: flex-start; }
.legend i { display: inline-block; width: 14px; height: 3px; border-radius: 2px; margin-right: 6px;
  vertical-align: middle; }
.legend b { color: var(--text); font-weight: 500; font-variant-numeric: tabular-nums; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; width: 100%; }
th, td { text-align: right; padding: 5px 12px; border-bottom: 1px solid var(--line); font-size: 13.5px; }
th { color: var(--dim); font-weight: 500; }
th:first-child, td:first-child { text-align: left; }
.tables { display: grid; grid-template-columns: repeat(auto-fit, minmax(390px, 1fr)); gap: 14px; align-items: start; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 6px 6px 8px; }
.gallery { display: grid; grid-template-columns: repeat(auto-fit, minmax(520px, 1fr)); gap: 14px; }
figure { margin: 0; background: var(--card); border: 1px solid var(--line); border-radius: 10px; overflow: hidden; }
figure img { display: block; width: 100%; }
figcaption { padding: 6px 12px; font-size: 13px; color: var(--dim); }
figcaption b { color: var(--text); font-weight: 600; }
.notes { color: var(--dim); font-size: 13.5px; max-width: 900px; }
code { background: #1d2632; border-radius: 4px; padding: 1px 5px; font-size: 12.5px; }
"""

SCRIPT: Final = r"""
const report = JSON.parse(document.getElementById('data').textContent);
const frames = report.frames, image = document.getElementById('frame'), slider = document.getElementById('slider');
const clock = document.getElementById('clock'), button = document.getElementById('play');
const charts = [];
let current = 0, timer = null;
const node = (name, attributes, parent) => {
  const element = document.createElementNS('http://www.w3.org/2000/svg', name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (parent) parent.appendChild(element);
  return element;
};
const nice = (span) => {
  const power = Math.pow(10, Math.floor(Math.log10(span / 4)));
  return [1, 2, 2.5, 5, 10].map((k) => k * power).find((step) => span / step <= 5);
};
function draw(chart, holder) {
  const W = 420, H = 190, L = 40, R = 18, T = 8, B = 26;
  const card = document.createElement('div');
  card.className = 'chart';
  card.innerHTML = `<h3>${chart.title}</h3><p>${chart.subtitle}</p><div class="legend"></div>`;
  const svg = node('svg', { viewBox: `0 0 ${W} ${H}` }, card);
  holder.appendChild(card);
  const all = chart.series.flatMap((s) => s.y).concat((chart.lines || []).map((l) => l.y)).filter((v) => v !== null);
  const top = Math.max(chart.least || 0, ...all) * 1.08 || 1, end = Math.max(report.duration, 1e-6);
  const x = (t) => L + (W - L - R) * t / end, y = (v) => H - B - (H - B - T) * v / top;
  for (let v = 0, step = nice(top); v <= top; v += step) {
    node('line', { x1: L, x2: W - R, y1: y(v), y2: y(v), stroke: '#27313d' }, svg);
    node('text', { x: L - 6, y: y(v) + 4, fill: '#8b99a8', 'font-size': 10.5, 'text-anchor': 'end' }, svg)
      .textContent = +v.toFixed(3);
  }
  for (let t = 0, step = nice(end); t <= end + 1e-9; t += step)
    node('text', { x: x(t), y: H - 8, fill: '#8b99a8', 'font-size': 10.5, 'text-anchor': 'middle' }, svg)
      .textContent = `${+t.toFixed(2)} s`;
  for (const mark of report.fallbacks)
    node('rect', { x: x(mark.t) - 1, y: T, width: 2.5, height: H - B - T, fill: mark.colour, opacity: 0.55 }, svg);
  for (const line of chart.lines || []) {
    node('line', { x1: L, x2: W - R, y1: y(line.y), y2: y(line.y), stroke: '#8b99a8', 'stroke-dasharray': '4 4' }, svg);
    node('text', { x: W - R - 2, y: y(line.y) - 4, fill: '#8b99a8', 'font-size': 10.5, 'text-anchor': 'end' }, svg)
      .textContent = line.name;
  }
  for (const s of chart.series) {
    let path = '', pen = false;
    s.y.forEach((v, k) => {
      if (v === null) { pen = false; return; }
      path += `${pen ? 'L' : 'M'}${x(s.t[k]).toFixed(1)} ${y(v).toFixed(1)}`;
      pen = true;
    });
    node('path', { d: path, fill: 'none', stroke: s.colour, 'stroke-width': 1.7, 'stroke-linejoin': 'round',
      'stroke-dasharray': s.dash || 'none' }, svg);
  }
  const cursor = node('line', { y1: T, y2: H - B, stroke: '#ffffff', opacity: 0.5 }, svg);
  const legend = card.querySelector('.legend');
  charts.push((t) => {
    cursor.setAttribute('x1', x(t)); cursor.setAttribute('x2', x(t));
    legend.innerHTML = chart.series.map((s) => {
      let k = 0;
      s.t.forEach((v, j) => { if (Math.abs(v - t) < Math.abs(s.t[k] - t)) k = j; });
      const v = s.y[k];
      return `<span><i style="background:${s.colour}"></i>${s.name} <b>${v === null || v === undefined ? '-' :
        v.toFixed(chart.digits)}</b></span>`;
    }).join('');
  });
  const seek = (event) => {
    const box = svg.getBoundingClientRect();
    const t = ((event.clientX - box.left) / box.width * W - L) / (W - L - R) * end;
    let k = 0;
    frames.forEach((f, j) => { if (Math.abs(f.t - t) < Math.abs(frames[k].t - t)) k = j; });
    show(k);
  };
  svg.addEventListener('mousemove', (event) => { if (!timer) seek(event); });
  svg.addEventListener('click', seek);
}
function show(k) {
  current = Math.max(0, Math.min(frames.length - 1, k));
  const frame = frames[current];
  if (!frame) return;
  image.src = frame.src;
  slider.value = current;
  clock.textContent = `${frame.t.toFixed(1)} s   ${frame.caption}`;
  charts.forEach((move) => move(frame.t));
}
function pause() { clearTimeout(timer); timer = null; button.textContent = 'Play'; }
function next() {
  const last = current === frames.length - 1;
  const wait = last ? 900 : 1000 * (frames[current + 1].t - frames[current].t);
  timer = setTimeout(() => { show(last ? 0 : current + 1); next(); }, Math.min(wait, 1500));
}
button.addEventListener('click', () => { if (timer) pause(); else { button.textContent = 'Pause'; next(); } });
slider.addEventListener('input', () => { pause(); show(+slider.value); });
document.addEventListener('keydown', (event) => {
  if (event.key === 'ArrowRight') { pause(); show(current + 1); }
  if (event.key === 'ArrowLeft') { pause(); show(current - 1); }
  if (event.key === ' ') { event.preventDefault(); button.click(); }
});
report.charts.forEach((chart) => draw(chart, document.getElementById('charts')));
slider.max = frames.length - 1;
if (!frames.length) document.querySelector('.player').remove();
show(report.opening || 0);
"""

#: How every page begins, down to its subtitle.
OPENING: Final = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<main>
<h1>{title}</h1>
<p class="sub">{subtitle}</p>
"""

PAGE: Final = (
    OPENING
    + """<div class="tiles">{tiles}</div>
<div class="player">
<img id="frame" alt="Six cameras with the planned path, and the scene from above">
<div class="controls"><button id="play">Play</button><input id="slider" type="range" min="0" value="0"
 aria-label="time"><span id="clock" class="clock"></span></div>
</div>
<h2>Curves</h2>
<div id="charts" class="charts"></div>
{tables}
{figures}
<h2>How to read this</h2>
<div class="notes">{notes}</div>
</main>
<script id="data" type="application/json">{data}</script>
<script>{script}</script>
</body>
</html>
"""
)
