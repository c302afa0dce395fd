// SPDX-License-Identifier: Apache-2.0
// Asks for /stats and /history once a second and shows them. All that it shows is text that clients may have chosen:
// it is never taken for HTML.
"use strict";

const EVERY_MS = 1000, PATIENCE_MS = 5000;

// A key in the address is a cookie by now, and does not belong into history and bookmarks.
if (location.search) history.replaceState(null, "", location.pathname);

const $ = id => document.getElementById(id);
const total = counts => Object.values(counts).reduce((n, x) => n + x, 0);
const plural = (n, word) => whole(n) + " " + word + (n === 1 ? "" : "s");

// ClickHouse's codes that events and tables cause most often.
const CODES = {
  6: "a text does not parse", 16: "no such column", 26: "a quoted text does not parse", 27: "a value does not parse",
  38: "not a date", 41: "not a date with time", 44: "this column takes no values", 53: "wrong type", 60: "there is no such table",
  62: "syntax", 69: "a number is out of bounds", 72: "not a number", 81: "there is no such database", 115: "unknown setting", 117: "incorrect data",
  130: "not an array", 159: "it took too long", 192: "unknown user", 201: "a quota is used up", 202: "too many queries at once",
  241: "out of memory", 242: "the table is read-only", 243: "its disk is full", 252: "too many parts", 321: "a value is out of range",
  349: "null in a column that takes none", 376: "not a UUID", 441: "not an address", 469: "a constraint does not hold",
  497: "no right to insert", 516: "wrong password", 517: "cannot write", 675: "not an IPv4 address", 676: "not an IPv6 address",
  691: "not a value of the Enum",
};
const CLASSES = {
  retry: "sends the same rows again", bad_rows: "takes it apart, and makes a dead letter of what is at fault",
  split: "sends smaller ones", misconfigured: "keeps the rows until it is corrected", unknown: "keeps the rows, and tries again",
};

// Why a field does not fit its table, and what becomes of its value where the event passes.
const PROBLEMS = {
  unknown: "no column has this name: its value is dropped", not_stored: "ClickHouse computes this column: the value is dropped",
  missing: "not given, and the column has no default", twice: "given twice in one event", null: "null, and the column is not Nullable",
  kind: "the wrong kind of JSON value", range: "the type has no room for the value", format: "the text is no such value",
  unit: "looks like seconds where ClickHouse counts finer: a day in 1970",
};
const MISFITS_SHOWN = 100;

function why(code, status) {
  if (code) return "code " + code + (CODES[code] ? ": " + CODES[code] : "");
  return status ? "HTTP status " + status : "no answer";
}

// ---- tables ----

const ROWS_SHOWN = 10;
const unfolded = new Set();

// Shows the first rows of a table, and a button for the others.
function fold(body) {
  const rows = [...body.rows], more = rows.length > ROWS_SHOWN;
  const table = body.parentElement;
  let button = table.nextElementSibling;
  if (!button || button.tagName !== "BUTTON") {
    button = element("button", {type: "button", class: "more"});
    button.addEventListener("click", () => {
      if (!unfolded.delete(body.id)) unfolded.add(body.id);
      fold(body);
    });
    table.after(button);
  }
  const open = unfolded.has(body.id);
  rows.forEach((tr, i) => tr.hidden = i >= ROWS_SHOWN && !open);
  button.hidden = !more;
  button.textContent = open ? "Show fewer" : `Show all ${rows.length}`;
  button.setAttribute("aria-expanded", open);
}

// Puts rows into a table's body; cells carry their column's name, which a phone shows beside them.
function fill(body, rows) {
  const labels = [...body.parentElement.tHead.rows[0].cells].map(th => th.textContent.trim());
  for (const tr of rows) {
    tr.setAttribute("role", "row");
    [...tr.cells].forEach((td, i) => {
      td.setAttribute("role", "cell");
      td.dataset.label = labels[i];
    });
  }
  body.replaceChildren(...rows);
}

function row(cells) {
  const tr = document.createElement("tr");
  for (const cell of cells) tr.insertCell().textContent = cell;
  return tr;
}

const refusedTitle = counts => Object.entries(counts).map(([error, n]) => error + ": " + whole(n)).join(", ");
const refusesAll = x => x.last_minute.refused > 0 && x.last_minute.taken === 0;
const when = time => time.replace("T", " ").replace(/\..*/, "");

function streamRow(name, x) {
  const b = x.books;
  const tr = row([name, ...[b.received, b.accepted, b.duplicates.l1, b.duplicates.l2, b.rejected, b.inserted, b.dead_lettered,
    b.pending].map(whole), whole(total(x.refused)) + (refusesAll(x) ? " (all of the last minute)" : "")]);
  if (refusesAll(x)) tr.className = "bad";
  tr.cells[0].dataset.more = (x.path || "removed") + " → " + x.table;
  tr.lastChild.title = refusedTitle(x.refused);
  return tr;
}

// Requests whose path is no stream's, or that have none.
function strangersRow(counts) {
  const tr = row(["no stream", ...Array(8).fill(""), whole(total(counts))]);
  tr.lastChild.title = refusedTitle(counts);
  return tr;
}

// The same again and again is one row: the latest.
function grouped(refusals) {
  const groups = new Map();
  for (const r of refusals) {
    const key = JSON.stringify([r.address, r.stream, r.error, r.message, r.event, r.offset, r.key, r.method, r.path]);
    const group = groups.get(key);
    if (group) group.push(r);
    else groups.set(key, [r]);
  }
  return [...groups.values()];
}

function refusalRow(group) {
  const tr = refusalCells(group[0]);
  if (group.length > 1) tr.cells[0].dataset.more = `${group.length} of these since ${when(group.at(-1).time).slice(11)}`;
  return tr;
}

function refusalCells(r) {
  const place = r.event === null ? "" : "event " + r.event + (r.offset === null ? "" : ", offset " + r.offset);
  return row([when(r.time), r.address || "", r.stream, r.status + " " + r.error, place,
    [r.method, r.path].filter(x => x).join(" "), r.key || "", r.message || ""]);
}

const misfitRow = m => row([m.stream, m.field || "all other fields", m.type, PROBLEMS[m.problem] || m.problem, whole(m.events)]);

function showMisfits(all) {
  const most = [...all].sort((a, b) => b.events - a.events).slice(0, MISFITS_SHOWN);
  $("misfits").hidden = all.length === 0;
  fill($("misfit_rows"), most.map(misfitRow));
  fold($("misfit_rows"));
  $("misfit-note").textContent = "Events since the start. What comes of it is the stream's key schema: warn lets them pass, refuse answers 422." +
    (all.length > most.length ? ` ${all.length - most.length} more rows are in stats.` : "");
}

const insertRow = r => row([when(r.time), whole(r.times), r.stream, whole(r.rows), why(r.code, r.status), CLASSES[r.class] || r.class,
  r.message || ""]);
const letterRow = r => row([when(r.time), whole(r.times), r.stream, why(r.code), r.message || "", r.event || ""]);

function showTables(s, before) {
  fill($("books"), [...Object.entries(s.streams).map(([name, x]) => streamRow(name, x)),
    ...(total(s.http.refused) ? [strangersRow(s.http.refused)] : [])]);
  $("refused").hidden = s.refusals.length === 0;
  fill($("refusals"), grouped(s.refusals).map(refusalRow));
  fold($("refusals"));
  showMisfits(s.schema_mismatches);
  $("inserts").hidden = s.refused_inserts.length === 0;
  fill($("insert_rows"), s.refused_inserts.map(insertRow));
  fold($("insert_rows"));
  $("letters").hidden = s.dead_letters.length === 0;
  fill($("letter_rows"), s.dead_letters.map(letterRow));
  fold($("letter_rows"));
  const dt = before ? s.uptime - before.uptime : 0;
  fill($("codes"), Object.entries(s.http.codes).map(([code, n]) =>
    row([code, whole(n), dt > 0 ? count(Math.max(0, (n - (before.http.codes[code] || 0)) / dt)) : "–"])));
}

// ---- health ----

function reasonItem(kind, title, key, text, todo) {
  const li = element("li", {class: kind}, element("strong", {}, title));
  if (key) li.append(element("code", {}, key));
  if (text) li.append(element("p", {}, text));
  if (todo) li.append(element("p", {}, element("b", {}, "What to do: "), todo));
  return li;
}

function advised(reason) {
  // The text of a reason ends with what to do, which stands by itself here.
  const text = reason.text.endsWith(reason.todo) ? reason.text.slice(0, -reason.todo.length).trimEnd() : reason.text;
  return reasonItem(reason.blocking ? "bad" : "warn", reason.title, reason.key, text, reason.todo);
}

function refusingItem(s, name, x) {
  const last = s.refusals.find(r => r.stream === name);
  return reasonItem("bad", `Stream ${name} refuses everything`, "",
    plural(x.last_minute.refused, "request") + " refused in the last minute, none taken." +
    (last ? ` The last one, from ${last.address || "an unknown address"}: ${last.status} ${last.error}${last.message ? ", " + last.message : ""}` : ""),
    "The message says what its clients do wrong. After a release of a client look there first, then at keys and at the stream's id.");
}

function showHealth(s) {
  const refusing = Object.entries(s.streams).filter(([, x]) => refusesAll(x));
  const items = [...s.reasons].sort((a, b) => b.blocking - a.blocking).map(advised);
  items.splice(s.reasons.filter(r => r.blocking).length, 0, ...refusing.map(([name, x]) => refusingItem(s, name, x)));
  const bad = !s.ready, warn = items.length > 0;
  if (!warn)
    items.push(reasonItem("good", "All is well.", "", "", ""));
  $("reasons").replaceChildren(...items);
  $("state").textContent = bad ? "not ready" : "ready";
  $("state").className = bad ? "bad" : warn ? "warn" : "good";
  document.title = (bad ? "Not ready – " : warn ? "(!) " : "") + "Alloy";
}

// ---- first steps ----

// An event that a stream takes, and the headers that it needs.
function sample(x) {
  const event = {}, headers = [];
  for (const id of x.id) {
    if (id.startsWith("header:")) headers.push(id.slice(7) + ": hello-1");
    else if (id.startsWith("/")) {
      const names = id.slice(1).split("/").map(n => n.replaceAll("~1", "/").replaceAll("~0", "~"));
      let at = event;
      for (const name of names.slice(0, -1)) at = at[name] = at[name] || {};
      at[names.at(-1)] = "hello-1";
    } else event[id] = "hello-1";
  }
  return {body: JSON.stringify(event), headers};
}

function showFirst(s) {
  const streams = Object.entries(s.streams).filter(([, x]) => x.path);
  const empty = streams.length > 0 && streams.every(([, x]) => x.books.received === 0 && total(x.refused) === 0);
  $("first").hidden = !empty;
  if (!empty) return;
  const [name, x] = streams[0], {body, headers} = sample(x);
  const quote = text => "'" + text.replaceAll("'", "'\\''") + "'";
  const url = s.listen.find(u => u.startsWith("http")) || s.listen[0];
  const reach = url.startsWith("unix:") ? ["--unix-socket", quote(url.slice(5)), "http://localhost"]
    : [url.replace("//0.0.0.0:", `//${location.hostname}:`).replace("//[::]:", `//${location.hostname}:`).replace("//*:", `//${location.hostname}:`)];
  reach.push(reach.pop() + x.path.replace(/\*$/, "hello"));
  const words = ["curl -i", ...reach, ...headers.map(h => "-H " + quote(h)),
    ...(Object.keys(s.keys).length ? ["-H 'Authorization: Bearer YOUR_KEY'"] : []), "-d " + quote(body)];
  $("first-where").textContent = `alloyd waits for events of the stream “${name}”. Send it one:`;
  if ($("curl").textContent !== words.join(" ")) $("curl").textContent = words.join(" ");
  $("select").textContent = `SELECT * FROM ${x.table}`;
}

$("copy").addEventListener("click", async () => {
  try {
    await navigator.clipboard.writeText($("curl").textContent);
    $("copied").textContent = "copied";
  } catch {
    getSelection().selectAllChildren($("curl"));
    $("copied").textContent = "selected: copy it with Ctrl+C";
  }
});

// ---- the past ----

const past = {step: "1s", stream: "", last: 0, time: 0, figures: null, number: 0};

function forget() {
  past.last = 0;
  past.figures = null;
  past.number++; // an answer that is on its way is about something else
}

const CAPACITY = {"1s": 300, "10s": 360};

function takePast(h) {
  const capacity = CAPACITY[past.step];
  past.figures ||= {};
  for (const [key, values] of Object.entries(h))
    if (Array.isArray(values)) past.figures[key] = [...(past.figures[key] || []), ...values].slice(-capacity);
  past.last = h.last;
  past.time = h.time;
}

let cursor = null;

function setCursor(i, chart) {
  if (i === cursor) return;
  cursor = i;
  showCharts();
  if (chart && i !== null) $("spoken").textContent = chart.spoken;
}

const charts = [
  {title: "Events", unit: " /s", format: count, least: 1, mean: true, series: [
    {key: "received", label: "received", color: "blue"}, {key: "inserted", label: "inserted", color: "green"},
    {key: "duplicates", label: "duplicates", color: "grey"}]},
  {title: "Refused", unit: " /s", format: count, least: 1, mean: true, series: [
    {key: "refused", label: "requests", color: "red"}, {key: "rejected", label: "rejected", color: "amber"},
    {key: "dead_lettered", label: "dead letters", color: "violet"}]},
  {title: "Events that wait", format: count, least: 1, series: [{key: "pending", label: "in the journal alone", color: "amber"}]},
  {title: "Age of the oldest that waits", format: seconds, least: .1, series: [{key: "lag", label: "waits for", color: "amber"}]},
  {title: "Time of a request", format: seconds, least: .001, series: [
    {key: "http_p99", label: "p99", color: "violet"}, {key: "http_p50", label: "p50", color: "blue"}]},
  {title: "Time of an insert", format: seconds, least: .01, series: [
    {key: "insert_p99", label: "p99", color: "violet"}, {key: "insert_p50", label: "p50", color: "green"}]},
  {title: "Rows of an insert", format: count, least: 10, series: [{key: "insert_rows", label: "mean", color: "green"}]},
  {title: "Journal", note: "all streams", format: bytes, least: 1048576, series: [{key: "journal_bytes", label: "on disk", color: "blue"}]},
  {title: "Connections and ring", note: "all streams", format: count, least: 10, series: [
    {key: "connections", label: "connections", color: "blue"}, {key: "ring", label: "events in the ring", color: "amber"}]},
].map(spec => new Chart(spec, setCursor));
$("charts").append(...charts.map(c => c.figure));

function showCharts() {
  if (!past.figures) return;
  const capacity = CAPACITY[past.step], step = past.step === "1s" ? 1000 : 10000;
  const view = {
    figures: past.figures, capacity, coarse: step > 1000,
    offset: capacity - past.figures.received.length,
    timeOf: i => past.time - (capacity - 1 - i) * step,
  };
  for (const chart of charts) chart.show(view, cursor);
}

function showStreamChoice(s) {
  const names = ["", ...Object.keys(s.streams)];
  const select = $("stream");
  if (names.join("\n") === [...select.options].map(o => o.value).join("\n")) return;
  select.replaceChildren(...names.map(name => element("option", {value: name}, name || "all")));
  select.value = names.includes(past.stream) ? past.stream : "";
  if (select.value !== past.stream) choose();
}

function choose() {
  past.stream = $("stream").value;
  past.step = document.querySelector("[name=step]:checked").value;
  forget();
  poll();
}

$("stream").addEventListener("change", choose);
for (const radio of document.getElementsByName("step")) radio.addEventListener("change", choose);

// ---- now ----

function tile(name, value, unit, more, {kind = "", part} = {}) {
  const div = element("div", {class: "tile " + kind}, element("span", {}, name), element("b", {}, value, element("i", {}, unit ? " " + unit : "")));
  if (part !== undefined) {
    const meter = element("meter", {max: "1", high: "0.8", "aria-label": name});
    meter.value = part;
    div.append(meter);
  }
  div.append(element("em", {}, more.replace(/([\d<]) /g, "$1\u00a0")));
  return div;
}

// Mean of the last steps that have a figure; null: none has.
function lately(key) {
  const values = (past.figures ? past.figures[key].slice(past.step === "1s" ? -5 : -1) : []).filter(v => v !== null);
  return values.length ? values.reduce((a, b) => a + b) / values.length : null;
}

const age = s => s < 1 ? "< 1 s" : seconds(Math.floor(s));
const latest = key => past.figures && past.figures[key].length ? past.figures[key].at(-1) : null;
// "12.3 ms" as ["12.3", "ms"]
const split = text => /^(.*?)(?: ([^ ]*))?$/.exec(text).slice(1);
const perSecond = key => lately(key) === null ? "–" : count(lately(key));

function showTiles(s) {
  const refused = lately("refused"), p99 = lately("http_p99"), p50 = lately("http_p50"), lag = latest("lag");
  const waiting = Object.entries(s.streams).filter(([name]) => !past.stream || name === past.stream)
    .reduce((n, [, x]) => n + x.books.pending, 0);
  const [time, unit] = p99 === null ? ["–", ""] : split(seconds(p99));
  const [size, sizeUnit] = split(bytes(s.journal.bytes));
  const redis = s.redis.seconds.count ? seconds(s.redis.seconds.sum / s.redis.seconds.count) + " each" : "";
  $("tiles").replaceChildren(
    tile("Received", perSecond("received"), "/s", "events"),
    tile("Inserted", perSecond("inserted"), "/s", "rows"),
    tile("Refused", perSecond("refused"), "/s", "requests", {kind: refused > 0 ? "warn" : ""}),
    tile("Waiting", count(waiting), "", lag === null || waiting === 0 ? "events" : "oldest " + seconds(lag)),
    tile("Request, p99", time, unit, p50 === null ? "none now" : "p50 " + seconds(p50)),
    tile("Journal", size, sizeUnit, "of " + bytes(s.journal.bytes_max),
      {part: s.journal.bytes / s.journal.bytes_max, kind: s.journal.bytes > .8 * s.journal.bytes_max ? "warn" : ""}),
    tile("ClickHouse", s.clickhouse.up ? "up" : "down", "", s.clickhouse.inserts ? `insert ${age(s.clickhouse.last_insert_age)} ago` : "no insert yet",
      {kind: s.clickhouse.up ? "" : "bad"}),
    ...(s.redis.used ? [tile("Redis", s.redis.up ? "up" : "down", "", redis, {kind: s.redis.up ? "" : "bad"})] : []));
}

// ---- asking ----

let before = null, answered = 0, timer = 0, asking = false;

async function ask(path) {
  const answer = await fetch(path, {cache: "no-store", signal: AbortSignal.timeout(PATIENCE_MS)});
  if (answer.status === 401) throw new Error("The admin port asks for its key: open this page as /?key=KEY.");
  if (!answer.ok) throw new Error(`alloyd answers ${answer.status} to ${path.replace(/\?.*/, "")}.`);
  return answer.json();
}

async function askPast() {
  const number = past.number;
  const h = await ask(`history?step=${past.step}&after=${past.last}` + (past.stream ? "&stream=" + encodeURIComponent(past.stream) : ""));
  if (number === past.number) takePast(h);
}

function show(s) {
  $("about").textContent = `${location.host} · version ${s.version} · up ${seconds(s.uptime)}`;
  showHealth(s);
  showFirst(s);
  showTables(s, before);
  showTiles(s);
  showCharts();
  before = s;
}

function showStale(error) {
  const own = error instanceof Error && /^(alloyd|The admin)/.test(error.message);
  const since = answered ? ` since ${clock(answered)} UTC. What you see is from then` : "";
  $("stale").textContent = (own ? error.message : `alloyd does not answer${since}. Is it running? (systemctl status alloyd)`) +
    " This page asks again each second.";
  $("stale").hidden = false;
  $("state").textContent = "no answer";
  $("state").className = "bad";
  document.title = "No answer – Alloy";
  document.body.className = "old";
}

async function poll() {
  clearTimeout(timer);
  if (asking) return;
  asking = true;
  try {
    const s = await ask("stats");
    if (before && s.uptime < before.uptime) {
      // Another life: its history begins anew.
      before = null;
      forget();
    }
    showStreamChoice(s);
    await askPast();
    show(s);
    answered = Date.now();
    $("stale").hidden = true;
    document.body.className = "";
  } catch (error) {
    showStale(error);
  }
  asking = false;
  timer = setTimeout(poll, past.figures ? EVERY_MS : 100);
}

document.addEventListener("visibilitychange", () => document.hidden ? clearTimeout(timer) : poll());
poll();
