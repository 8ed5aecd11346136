"use strict";

// An EventSource comes back by itself whenever its stream ends, even when it ended on purpose. So each finite stream
// here is closed by the page at its last event, and only the feed is left to come back. A browser opens six
// connections to one HTTP/1.1 host: this page keeps at most four streams at a time.

const byId = (id) => document.getElementById(id);
const calm = matchMedia("(prefers-reduced-motion: reduce)");
const count = new Intl.NumberFormat("en");

/* ---- The strip: one lane for each stream, one mark for each event ---- */

const lanes = [
  { name: "/feed", pen: "--blue" },
  { name: "/live-data", pen: "--red" },
  { name: "/stream", pen: "--teal" },
  { name: "/download", pen: "--amber" },
  { name: "the others", pen: "--violet" },
].map((lane) => ({ ...lane, marks: [], spells: [] }));

const laneOf = (path) => lanes.find((lane) => lane.name === path) ?? lanes[lanes.length - 1];

const totals = { events: 0, open: 0, reconnects: 0, holes: 0 };

function bump(total, by = 1) {
  totals[total] += by;
  byId(`total-${total}`).textContent = count.format(totals[total]);
}

function opened(path) {
  laneOf(path).spells.push({ from: performance.now(), to: null });
  bump("open");
}

function ended(path) {
  const spell = laneOf(path).spells.findLast((each) => each.to === null);
  if (!spell) return;
  spell.to = performance.now();
  bump("open", -1);
}

function mark(path, events = 1) {
  laneOf(path).marks.push(performance.now());
  if (events) bump("events", events);
}

function sheetOf(canvas) {
  const { clientWidth: width, clientHeight: height } = canvas;
  const scale = devicePixelRatio || 1;
  if (canvas.width !== Math.round(width * scale) || canvas.height !== Math.round(height * scale)) {
    canvas.width = Math.round(width * scale);
    canvas.height = Math.round(height * scale);
  }
  const pen = canvas.getContext("2d");
  pen.setTransform(scale, 0, 0, scale, 0, 0);
  pen.clearRect(0, 0, width, height);
  return { pen, width, height };
}

const span = () => (innerWidth < 600 ? 6000 : 12_000);

let colours = {};
function readColours() {
  const style = getComputedStyle(document.documentElement);
  const names = ["--grid", "--line", "--ink", "--faint", "--sheet", "--red", "--blue", "--teal", "--amber", "--violet"];
  colours = Object.fromEntries(names.map((name) => [name, style.getPropertyValue(name).trim()]));
  colours.mono = style.getPropertyValue("--mono");
}

function drawRecorder() {
  const canvas = byId("recorder");
  const { pen, width, height } = sheetOf(canvas);
  const now = performance.now();
  const shown = span();
  const inset = Math.max(16, (width - 1280) / 2 + 40);
  const left = Math.min(inset, width > 600 ? inset : 16) + 92;
  const right = width;
  const x = (time) => right - ((now - time) / shown) * (right - left);
  const top = 12;
  const step = (height - 30) / lanes.length;

  pen.strokeStyle = colours["--grid"];
  pen.fillStyle = colours["--faint"];
  pen.lineWidth = 1;
  pen.font = `11px ${colours.mono}`;
  pen.textBaseline = "alphabetic";
  for (let second = 0; second <= shown / 1000; second += 1) {
    const at = Math.round(x(Math.floor(now / 1000) * 1000 - second * 1000)) + 0.5;
    if (at < left) continue;
    pen.beginPath();
    pen.moveTo(at, 0);
    pen.lineTo(at, height - 18);
    pen.stroke();
  }
  pen.textAlign = "right";
  pen.fillText("now", right - 8, height - 5);
  pen.textAlign = "left";
  pen.fillText(`${shown / 1000} s ago`, left, height - 5);

  lanes.forEach((lane, index) => {
    const middle = Math.round(top + step * (index + 0.5));
    lane.marks = lane.marks.filter((time) => now - time < shown);
    lane.spells = lane.spells.filter((spell) => spell.to === null || now - spell.to < shown);
    pen.fillStyle = lane.spells.some((spell) => spell.to === null) ? colours[lane.pen] : colours["--faint"];
    pen.textAlign = "right";
    pen.textBaseline = "middle";
    pen.fillText(lane.name, left - 12, middle);
    pen.save();
    pen.beginPath();
    pen.rect(left, 0, right - left, height);
    pen.clip();
    pen.strokeStyle = pen.fillStyle = colours[lane.pen];
    pen.lineWidth = 1.5;
    for (const spell of lane.spells) {
      const from = x(spell.from);
      const to = x(spell.to ?? now);
      pen.beginPath();
      pen.moveTo(from, middle);
      pen.lineTo(to, middle);
      pen.stroke();
      pen.beginPath();
      pen.arc(from, middle, 3, 0, 7);
      pen.fill();
      if (spell.to !== null) pen.strokeRect(to - 2.5, middle - 2.5, 5, 5);
    }
    const reach = Math.min(10, step / 2 - 2);
    pen.beginPath();
    for (const time of lane.marks) {
      const at = x(time);
      pen.moveTo(at, middle - reach);
      pen.lineTo(at, middle + reach);
    }
    pen.stroke();
    pen.restore();
  });
}

/* ---- The feed, and what a cut does to it ---- */

const pageId = Array.from(crypto.getRandomValues(new Uint8Array(8)), (byte) => byte.toString(16).padStart(2, "0")).join("");
const feed = { last: null, toCatchUp: 0, lost: false, source: null };

function say(id, text, state = "") {
  byId(id).textContent = text;
  byId(id).dataset.state = state;
}

function lamp(state, text) {
  byId("lamp").dataset.state = state;
  byId("lamp").lastElementChild.textContent = text;
}

function log(id, event, data, kind = event) {
  const row = document.createElement("tr");
  row.className = kind;
  for (const text of [id, event, data]) row.insertCell().textContent = text;
  const body = byId("log");
  body.prepend(row);
  while (body.rows.length > 120) body.lastElementChild.remove();
}

function step(text, kind = "") {
  const item = document.createElement("li");
  item.textContent = text;
  item.className = kind;
  const sequence = byId("sequence");
  sequence.append(item);
  while (sequence.children.length > 40) sequence.firstElementChild.remove();
}

const sentences = {
  tick: (data) => `up for ${data.uptime.toFixed(1)} s`,
  opened: (data) => data.path,
  closed: (data) => `${data.path}: ${data.ending}, after ${count.format(data.sent)} items`,
  cut: () => "this page’s stream, by the server",
};

function receive(message) {
  mark("/feed");
  const number = Number(message.lastEventId);
  const caughtUp = feed.toCatchUp > 0;
  if (caughtUp) feed.toCatchUp -= 1;
  if (feed.last !== null && number > feed.last + 1) {
    bump("holes", number - feed.last - 1);
    step(`${number - feed.last - 1} missing`, "hole");
  }
  if (feed.last !== null && number <= feed.last) say("verdict", "The server was started anew: its numbers begin again.");
  feed.last = number;
  step(number, caughtUp ? "replayed" : "");
  const kind = caughtUp ? `${message.type} replayed` : message.type;
  log(number, message.type, sentences[message.type](JSON.parse(message.data)), kind);
}

function resumed(message) {
  mark("/feed");
  const { after, missed } = JSON.parse(message.data);
  feed.toCatchUp = missed;
  log("", "resumed", `after id ${after}: ${missed} events to catch up`);
  const whole = totals.holes === 0 ? "Nothing is missing." : "";
  say("verdict", `Reconnected, resumed after id ${after}: ${missed} events caught up. ${whole}`, "good");
}

function lose() {
  if (feed.lost) return;
  feed.lost = true;
  ended("/feed");
  lamp("lost", "reconnecting");
  step("", "break");
  if (feed.last !== null) say("verdict", `Cut after id ${feed.last}. The browser comes back by itself.`, "bad");
}

function follow() {
  const resume = feed.last === null ? "" : `&lastEventId=${feed.last}`;
  const source = new EventSource(`/feed?page=${pageId}${resume}`);
  feed.source = source;
  source.onopen = () => {
    opened("/feed");
    lamp("open", "connected");
    if (feed.lost) bump("reconnects");
    feed.lost = false;
    byId("cut").disabled = false;
  };
  source.onerror = () => {
    lose();
    // After an answer that is no event stream, say from a proxy, the browser gives up: try again ourselves.
    if (source.readyState === EventSource.CLOSED) setTimeout(follow, 2000);
  };
  for (const name of Object.keys(sentences)) source.addEventListener(name, receive);
  source.addEventListener("resumed", resumed);
}

async function cut() {
  byId("cut").disabled = true;
  try {
    await fetch(`/cut?page=${pageId}`, { method: "POST" });
  } catch {
    say("verdict", "The server cannot be reached.", "bad");
    byId("cut").disabled = false;
  }
}

/* ---- Finite streams: resolves at the last event, or when the stream fails ---- */

function take(path, names, receiveOne, isLast) {
  return new Promise((resolve) => {
    const source = new EventSource(path);
    const finish = (whole) => {
      source.close();
      ended(path);
      resolve(whole);
    };
    source.onopen = () => opened(path);
    source.onerror = () => finish(false);
    for (const name of names) {
      source.addEventListener(name, (message) => {
        mark(path);
        receiveOne(message);
        if (isLast(message)) finish(true);
      });
    }
  });
}

function button(id, run) {
  const element = byId(id);
  const press = async () => {
    element.disabled = true;
    await run();
    element.disabled = false;
  };
  element.addEventListener("click", press);
  return press;
}

const playEvents = button("replay", () =>
  take(
    "/events",
    ["connect", "message", "close"],
    (message) => log(message.lastEventId, message.type, message.data, "once"),
    (message) => message.type === "close",
  ),
);

/* ---- The sensor ---- */

const sensor = { values: [], arrivals: [] };

function drawChart() {
  const { pen, width, height } = sheetOf(byId("chart"));
  const [low, high] = [16, 26];
  const edge = { left: 34, right: 10, top: 10, bottom: 10 };
  const x = (index) => edge.left + (index / 99) * (width - edge.left - edge.right);
  const y = (value) => height - edge.bottom - ((value - low) / (high - low)) * (height - edge.top - edge.bottom);
  pen.font = `11px ${colours.mono}`;
  pen.textAlign = "right";
  pen.textBaseline = "middle";
  pen.lineWidth = 1;
  pen.strokeStyle = colours["--grid"];
  pen.fillStyle = colours["--faint"];
  for (let value = low; value <= high; value += 1) {
    pen.beginPath();
    pen.moveTo(edge.left, Math.round(y(value)) + 0.5);
    pen.lineTo(width - edge.right, Math.round(y(value)) + 0.5);
    pen.stroke();
    if (value % 2 === 0) pen.fillText(`${value}`, edge.left - 8, y(value));
  }
  for (let index = 0; index <= 100; index += 10) {
    const at = Math.round(x(Math.min(index, 99))) + 0.5;
    pen.beginPath();
    pen.moveTo(at, edge.top);
    pen.lineTo(at, height - edge.bottom);
    pen.stroke();
  }
  if (sensor.values.length === 0) return;
  pen.strokeStyle = pen.fillStyle = colours["--red"];
  pen.lineWidth = 2.2;
  pen.lineJoin = "round";
  pen.beginPath();
  sensor.values.forEach((value, index) => pen.lineTo(x(index), y(value)));
  pen.stroke();
  const end = sensor.values.length - 1;
  pen.beginPath();
  pen.arc(x(end), y(sensor.values[end]), 4.5, 0, 7);
  pen.fill();
}

function showReading(message) {
  const { value } = JSON.parse(message.data);
  sensor.values.push(value);
  sensor.arrivals.push(performance.now());
  byId("reading").textContent = value.toFixed(2);
  byId("sensor-count").textContent = `${sensor.values.length} / 100`;
  const gaps = sensor.arrivals.slice(1).map((time, index) => time - sensor.arrivals[index]);
  if (gaps.length) {
    const mean = gaps.reduce((sum, gap) => sum + gap, 0) / gaps.length;
    byId("sensor-mean").textContent = `${mean.toFixed(1)} ms`;
    byId("sensor-range").textContent = `${Math.min(...gaps).toFixed(0)}, ${Math.max(...gaps).toFixed(0)} ms`;
  }
  drawChart();
}

const runSensor = button("sensor-run", async () => {
  sensor.values = [];
  sensor.arrivals = [];
  await take("/live-data", ["sensor_reading"], showReading, (message) => message.lastEventId === "99");
  const [low, high] = [Math.min(...sensor.values), Math.max(...sensor.values)];
  byId("chart").setAttribute("aria-label", `Line chart of ${sensor.values.length} readings, between ${low} and ${high} degrees`);
});

/* ---- The thousand ---- */

const thousand = { seen: 0 };

function drawDots() {
  const { pen, width, height } = sheetOf(byId("dots"));
  const pitch = Math.min(width / 50, height / 20);
  const size = pitch * 0.62;
  for (let index = 0; index < 1000; index += 1) {
    pen.fillStyle = index < thousand.seen ? colours["--teal"] : colours["--grid"];
    pen.fillRect((index % 50) * pitch, Math.floor(index / 50) * pitch, size, size);
  }
}

function showCount() {
  byId("count").textContent = count.format(thousand.seen);
  byId("count-progress").value = thousand.seen;
  drawDots();
}

button("count-run", async () => {
  thousand.seen = 0;
  let inOrder = true;
  say("count-verdict", "Waiting for the first.");
  const began = performance.now();
  const receiveOne = (message) => {
    inOrder &&= message.data === `Event ${thousand.seen}` && message.lastEventId === `${thousand.seen}`;
    thousand.seen += 1;
  };
  const whole = await take("/stream", ["counter"], receiveOne, (message) => message.lastEventId === "999");
  const took = Math.round(performance.now() - began);
  showCount();
  if (whole && inOrder && thousand.seen === 1000) {
    say("count-verdict", `All there and in order, ${took} ms after the click.`, "good");
  } else {
    say("count-verdict", `The stream broke off after ${thousand.seen} events.`, "bad");
  }
});

/* ---- The download ---- */

const MEBIBYTE = 1024 * 1024;
let download = null;

button("download-run", async () => {
  download = new AbortController();
  byId("download-stop").disabled = false;
  say("download-verdict", "Under way.");
  let received = 0;
  try {
    const response = await fetch("/download", { signal: download.signal });
    const length = Number(response.headers.get("content-length"));
    opened("/download");
    byId("download-progress").max = length;
    byId("bytes-total").textContent = `of ${(length / MEBIBYTE).toFixed(1)} MiB`;
    const reader = response.body.getReader();
    let painted = 0;
    for (let part = await reader.read(); !part.done; part = await reader.read()) {
      received += part.value.length;
      if (performance.now() - painted < 40 && received < length) continue;
      painted = performance.now();
      mark("/download", 0);
      byId("download-progress").value = received;
      byId("bytes").textContent = (received / MEBIBYTE).toFixed(1);
    }
    say("download-verdict", `Complete: ${count.format(received)} bytes, as many as were announced.`, "good");
  } catch (error) {
    const stopped = error.name === "AbortError";
    say("download-verdict", stopped ? "Stopped. The log tells when the generator was closed." : "The download broke off.", stopped ? "" : "bad");
  }
  ended("/download");
  byId("download-stop").disabled = true;
});

byId("download-stop").addEventListener("click", () => download?.abort());

/* ---- What each kind of yield became ---- */

const yields = [
  'SSEEvent("From an SSEEvent", event="type1")',
  '{"data": "From a mapping", "event": "type2", "id": "2"}',
  '"From a str"',
  "CustomEvent()",
  '[1, 2, {"three": 3}]',
  'SSEEvent.comment("seen by proxies, not by scripts")',
  "None",
  'SSEEvent("", event="end")',
];
const silent = { 5: "a comment: no event", 6: "nothing was sent" };

function blankKinds() {
  byId("kinds").replaceChildren(
    ...yields.map((code) => {
      const row = document.createElement("tr");
      for (const text of [code, "", "", ""]) row.insertCell().textContent = text;
      return row;
    }),
  );
}

const runFlexible = button("flexible-run", async () => {
  blankKinds();
  const rows = byId("kinds").rows;
  let next = 0;
  const pass = () => {
    for (; next in silent; next += 1) {
      rows[next].cells[1].className = "nothing";
      rows[next].cells[1].colSpan = 3;
      rows[next].cells[1].textContent = silent[next];
      rows[next].deleteCell(3);
      rows[next].deleteCell(2);
    }
  };
  const receiveOne = (message) => {
    pass();
    const texts = [message.type, message.data || "(empty)", message.lastEventId || "–"];
    texts.forEach((text, index) => (rows[next].cells[index + 1].textContent = text));
    next += 1;
  };
  await take("/flexible-stream", ["type1", "type2", "message", "custom", "end"], receiveOne, (message) => message.type === "end");
});

const runCustom = button("custom-run", async () => {
  const response = await fetch("/custom-stream");
  const text = await response.text();
  mark("/custom-stream", 0);
  const wire = byId("wire");
  wire.replaceChildren();
  const add = (tag, content) => wire.append(Object.assign(document.createElement(tag), { textContent: content }));
  add("i", `HTTP ${response.status}\ncontent-type: ${response.headers.get("content-type")}\n\n`);
  for (const line of text.replace(/\n$/, "").split("\n")) {
    const colon = line.indexOf(":");
    if (colon === 0) add("i", line);
    if (colon > 0) add("b", line.slice(0, colon));
    if (colon > 0) wire.append(line.slice(colon));
    wire.append("\n");
  }
});

/* ---- The handlers' code ---- */

const TOKENS = /(#.*$)|("""[\s\S]*?"""|f?"(?:[^"\\\n]|\\.)*"|'[^'\n]*')|\b(async|await|class|def|finally|for|from|if|in|return|try|while|with|yield|None|True|False)\b/gm;

function colourCode(target, code) {
  let end = 0;
  target.replaceChildren();
  for (const found of code.matchAll(TOKENS)) {
    target.append(code.slice(end, found.index));
    const kind = found[1] ? "c" : found[2] ? "s" : "k";
    target.append(Object.assign(document.createElement("span"), { className: kind, textContent: found[0] }));
    end = found.index + found[0].length;
  }
  target.append(code.slice(end));
}

async function showSources() {
  const sources = await (await fetch("/source")).json();
  for (const details of document.querySelectorAll("details[data-source]")) {
    const pre = details.querySelector("pre");
    pre.tabIndex = 0;
    colourCode(pre, sources[details.dataset.source].trimEnd());
  }
}

/* ---- Begin ---- */

function redraw() {
  readColours();
  drawRecorder();
  drawChart();
  drawDots();
}

function turn() {
  drawRecorder();
  if (thousand.seen !== Number(byId("count-progress").value)) showCount();
  if (calm.matches) setTimeout(turn, 500);
  else requestAnimationFrame(turn);
}

byId("cut").addEventListener("click", cut);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
addEventListener("resize", redraw);
addEventListener("pagehide", () => {
  feed.source?.close();
  lose();
});
addEventListener("pageshow", (event) => event.persisted && follow());

blankKinds();
redraw();
turn();
follow();
runSensor();
showSources();
playEvents().then(runFlexible).then(runCustom);
