// The live page: asks for /data.json once a second and draws what changed.
//
// The server sends numbers that only grow; two answers make a rate. Nothing but this page keeps
// the past, so looking costs the server the same however long it lasts.
"use strict";

const PERIOD = 1000; // Milliseconds between two questions.
const PATIENCE = 3000; // After so many without an answer there is none.
const KEPT = 900; // Seconds of the past: the longest span that can be chosen.

const rate = (name) => (now, before, seconds) => (now[name] - before[name]) / seconds;
const level = (name) => (now) => now[name];

/// What is drawn: the first series as a line, the second dashed.
const CHARTS = [
  { title: "Open connections", show: whole, series: [["open", level("open")], ["not read from", level("paused")]] },
  { title: "Connections a second", show: decimal, series: [["opened", rate("opened")], ["closed", rate("closed")]] },
  { title: "Bytes a second", show: bytes, series: [["in", rate("bytes_received")], ["out", rate("bytes_sent")]] },
  { title: "Calls a second", show: decimal, series: [["receive", rate("receives")], ["send", rate("sends")]] },
  { title: "Waiting bytes", show: bytes, series: [["in our buffers", level("waiting_bytes")]] },
  { title: "Turn of a loop", show: micros, series: [["p50", turn(0.5)], ["p99", turn(0.99)]] },
  { title: "Lag of a loop", show: micros, series: [["p50", quantile("lag_micros", 0.5)], ["longest", quantile("lag_micros", 1)]] },
  { title: "Datagrams a second", show: decimal, series: [["in", rate("datagrams_received")], ["out", rate("datagrams_sent")]] },
];

const byId = (id) => document.getElementById(id);
const past = []; // { at, values } with `at` in seconds of this page's clock; values null in a gap.
let last = null; // The last answer.
let answered = null; // When it came.
let held = false;
let asking = false;
let timer; // Of the next question.
let drawn = 0; // The end of the charts, which stands still while they are held.

for (const chart of CHARTS) build(chart);
byId("live").hidden = false;
byId("span").addEventListener("change", () => {
  byId("cursor").min = -span();
  draw();
});
byId("cursor").addEventListener("input", draw);
byId("hold").addEventListener("click", () => {
  held = !held;
  byId("hold").setAttribute("aria-pressed", String(held));
  if (!held) ask();
});
document.addEventListener("visibilitychange", () => document.hidden || ask());
document.querySelector(".controls").addEventListener("submit", (event) => event.preventDefault());
ask();

async function ask() {
  clearTimeout(timer);
  if (asking || held || document.hidden) return;
  asking = true;
  const began = performance.now();
  try {
    const answer = await fetch("/data.json", { cache: "no-store", signal: AbortSignal.timeout(PATIENCE) });
    if (!answer.ok) throw new Error(answer.statusText);
    take(await answer.json());
  } catch {
    past.push({ at: seconds(), values: null });
    const since = answered ? `since ${answered.toLocaleTimeString()}` : "yet";
    tell(`no answer ${since}`, true);
  }
  while (past.length && past[0].at < seconds() - KEPT) past.shift();
  if (!held) draw();
  asking = false;
  timer = setTimeout(ask, Math.max(0, PERIOD - (performance.now() - began)));
}

function take(data) {
  answered = new Date();
  byId("what").textContent = `${data.version}, service ${data.service}, model ${data.model}`;
  document.title = `evmux ${data.service}, ${data.model}`;
  if (!data.counted) {
    tell(data.not_ready, true);
    return;
  }
  // A server that was started again counts from nothing.
  const elapsed = last ? data.uptime - last.uptime : 0;
  if (elapsed < 0) past.push({ at: seconds(), values: null });
  if (elapsed > 0) {
    const values = CHARTS.map(({ series }) =>
      series.map(([, value]) => value(data.counted, last.counted, elapsed, data)));
    past.push({ at: seconds(), values });
  }
  if (elapsed !== 0 || !last) last = data;
  tell(data.ill ?? (data.not_ready ? `${data.phase}: ${data.not_ready}` : data.phase), Boolean(data.ill));
  if (!held) list(data);
}

/// Says it once: who hears the page is not told the same each second.
function tell(text, alarming) {
  const state = byId("state");
  if (state.textContent !== text) state.textContent = text;
  state.classList.toggle("alarm", alarming);
}

function list(data) {
  const connections = data.connections;
  const { open, paused } = data.counted;
  const stuck = open > 0 && !connections.length && data.longest_turn > 0.1;
  byId("connections-note").textContent = stuck
    ? "The loop that has them does not answer."
    : `${connections.length} of ${open}; ${paused} not read from, since they read too slowly.`;
  rows("connections", connections.map((c) => [
    c.peer, c.stage, duration(c.age), bytes(c.received), bytes(c.sent), bytes(c.unconsumed), bytes(c.unsent),
    c.queued === null ? "not asked" : bytes(c.queued)]));
  const { count, slots, ready, each } = data.threads;
  // A thread that serves one client alone has no turns.
  const resting = ["poll", "epoll"].includes(data.model) ? "waits" : "–";
  byId("threads-note").textContent = `${each.length} of ${count}; together ${slots} slots, ${ready} connections ready to go on.`;
  rows("threads", each.map((t) => [
    String(t.connections), String(t.slots), String(t.ready),
    t.awake_for === null ? resting : duration(t.awake_for)]));
}

/// What a client is called is text and nothing else.
function rows(id, table) {
  byId(id).replaceChildren(...table.map((cells) => {
    const row = document.createElement("tr");
    row.append(...cells.map((text) => Object.assign(document.createElement("td"), { textContent: text })));
    return row;
  }));
}

function build(chart) {
  const make = (name, of, properties) => of.appendChild(Object.assign(document.createElement(name), properties));
  const box = make("section", byId("charts"), { className: "chart" });
  make("h2", box, { textContent: chart.title });
  const keys = make("p", box, { className: "keys" });
  chart.keys = chart.series.map(([name]) => make("b", make("span", keys, { textContent: `${name} ` }), {}));
  const plot = make("div", box, { className: "plot" });
  const svg = (name, of) => of.appendChild(document.createElementNS("http://www.w3.org/2000/svg", name));
  chart.picture = svg("svg", plot);
  chart.picture.setAttribute("viewBox", "0 0 100 100");
  chart.picture.setAttribute("preserveAspectRatio", "none");
  chart.picture.setAttribute("role", "img");
  chart.paths = chart.series.map(() => svg("path", chart.picture));
  chart.line = svg("line", chart.picture);
  chart.line.setAttribute("y1", 0);
  chart.line.setAttribute("y2", 100);
  chart.top = make("span", plot, { className: "top" });
  const ends = make("div", box, { className: "ends" });
  chart.begin = make("span", ends, {});
  make("span", ends, { textContent: "now" });
  // The pointer moves the same cursor as the keys do.
  plot.addEventListener("pointermove", (event) => {
    const { left, width } = plot.getBoundingClientRect();
    byId("cursor").value = Math.round(((event.clientX - left) / width - 1) * span());
    draw();
  });
  plot.addEventListener("pointerleave", () => {
    byId("cursor").value = 0;
    draw();
  });
}

function draw() {
  if (!held || !drawn) drawn = past.length ? past[past.length - 1].at : 0;
  const begin = drawn - span();
  const shown = past.filter(({ at }) => at >= begin && at <= drawn);
  const cursor = Number(byId("cursor").value);
  byId("moment").textContent = cursor === 0 ? "now" : `${duration(-cursor)} ago`;
  const at = drawn + cursor;
  const looked = shown.reduce((best, sample) =>
    best && Math.abs(best.at - at) <= Math.abs(sample.at - at) ? best : sample, null);
  const found = looked && Math.abs(looked.at - at) < 2.5 ? looked.values : null;
  CHARTS.forEach((chart, index) => {
    const numbers = shown.flatMap(({ values }) => values?.[index] ?? []).filter((number) => number !== null);
    const top = ceiling(1.05 * numbers.reduce((a, b) => Math.max(a, b), 0), chart.show === bytes);
    chart.top.textContent = chart.show(top);
    chart.begin.textContent = `${span() / 60} min ago`;
    chart.paths.forEach((path, which) => path.setAttribute("d", outline(shown, begin, (values) => {
      const value = values?.[index][which] ?? null;
      return value === null ? null : 100 - (100 * value) / top;
    })));
    for (const end of ["x1", "x2"]) chart.line.setAttribute(end, 100 + (100 * cursor) / span());
    const texts = chart.keys.map((key, which) => {
      const value = found?.[index][which] ?? null;
      key.textContent = value === null ? "–" : chart.show(value);
      return `${chart.series[which][0]} ${key.textContent}`;
    });
    chart.picture.setAttribute("aria-label", `${chart.title}: ${texts.join(", ")}; at most ${chart.show(top)} shown`);
  });
}

/// A line through the samples, broken at gaps.
function outline(samples, begin, height) {
  let path = "";
  let pen = "M";
  for (const { at, values } of samples) {
    const y = height(values);
    if (y === null) {
      pen = "M";
      continue;
    }
    path += `${pen}${((100 * (at - begin)) / span()).toFixed(2)} ${y.toFixed(2)}`;
    pen = "L";
  }
  return path;
}

/// Of what was counted between two answers: the bound that this share does not exceed.
function quantile(name, share) {
  return (now, before) => {
    const all = now[name].all - before[name].all;
    if (all <= 0) return null;
    const rank = Math.max(1, Math.ceil(all * share));
    const index = now[name].up_to.findIndex((count, i) => count - before[name].up_to[i] >= rank);
    return now[name].bounds.at(index);
  };
}

/// A turn that does not end is not counted yet, and is the one to see.
function turn(share) {
  const ended = quantile("turn_micros", share);
  return (now, before, elapsed, data) => {
    const value = ended(now, before);
    const unended = data.longest_turn * 1e6;
    return unended > 1e5 && unended > (value ?? 0) ? unended : value;
  };
}

/// The next 1, 2 or 5, for bytes the next power of two, so that the scale does not tremble.
function ceiling(value, binary) {
  if (value <= 1) return 1;
  if (binary) return 2 ** Math.ceil(Math.log2(value));
  const ten = 10 ** Math.floor(Math.log10(value));
  return ten * [1, 2, 5, 10].find((step) => step * ten >= value);
}

function span() {
  return Number(byId("span").value);
}
function seconds() {
  return performance.now() / 1000;
}
function whole(number) {
  return Math.round(number).toLocaleString("en");
}
function decimal(number) {
  return number < 10 ? String(Math.round(number * 10) / 10) : whole(number);
}
function scaled(number, step, units) {
  let index = 0;
  while (number >= step && index < units.length - 1) {
    number /= step;
    index += 1;
  }
  return `${number < 10 && index > 0 ? Math.round(number * 10) / 10 : Math.round(number)} ${units[index]}`;
}
function bytes(number) {
  return scaled(number, 1024, ["B", "KiB", "MiB", "GiB", "TiB"]);
}
function micros(number) {
  return scaled(number, 1000, ["µs", "ms", "s"]);
}
function duration(number) {
  if (number < 1) return micros(number * 1e6);
  if (number < 60) return `${Math.round(number)} s`;
  if (number < 3600) return `${Math.floor(number / 60)} min ${Math.round(number % 60)} s`;
  return `${Math.floor(number / 3600)} h ${Math.floor((number % 3600) / 60)} min`;
}
