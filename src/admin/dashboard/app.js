// SPDX-License-Identifier: Apache-2.0
// Asks for /stats once a second and shows it.
"use strict";

// The statistics shown last, for rates.
let last = null;

// A key in the address is a cookie by now, and does not belong into history and bookmarks.
if (location.search) history.replaceState(null, "", location.pathname);

const $ = id => document.getElementById(id);
const num = n => Math.round(n).toLocaleString("en");
const mib = n => (n / 1048576).toFixed(1) + " MiB";

const total = counts => Object.values(counts).reduce((n, x) => n + x, 0);

function row(cells) {
  const tr = document.createElement("tr");
  for (const cell of cells) tr.insertCell().textContent = cell;
  return tr;
}

function tile(name, value, part) {
  const div = document.createElement("div");
  const b = document.createElement("b");
  div.className = "tile";
  b.textContent = value;
  div.append(name, b);
  if (part !== undefined) {
    const meter = document.createElement("meter");
    meter.value = part;
    meter.high = 0.8;
    div.append(meter);
  }
  return div;
}

const sum = (s, f) => Object.values(s.streams).reduce((n, x) => n + f(x.books), 0);

// Per second, since the statistics shown last.
function rate(now, f) {
  const dt = last ? now.uptime - last.uptime : 0;
  return dt > 0 ? Math.max(0, (f(now) - f(last)) / dt) : 0;
}

// Mean of what has happened since.
function latency(now, f) {
  const n = last ? f(now).count - f(last).count : 0;
  return n > 0 ? ((f(now).sum - f(last).sum) / n * 1000).toFixed(2) + " ms" : "-";
}

function streamRow(name, x) {
  const b = x.books;
  const all = x.last_minute.refused > 0 && x.last_minute.taken === 0;
  const tr = row([name, ...[b.received, b.accepted, b.duplicates.l1, b.duplicates.l2,
    b.rejected, b.inserted, b.dead_lettered, b.pending].map(num), refusedText(x.refused) + (all ? " (all of the last minute)" : "")]);
  if (all) tr.className = "bad";
  tr.lastChild.title = refusedTitle(x.refused);
  return tr;
}

const refusedText = counts => num(total(counts));
const refusedTitle = counts => Object.entries(counts).map(([error, n]) => error + ": " + num(n)).join(", ");

// Requests whose path is no stream's, or that have none.
function strangersRow(counts) {
  const tr = row(["no stream", ...Array(8).fill(""), refusedText(counts)]);
  tr.lastChild.title = refusedTitle(counts);
  return tr;
}

// All of it is text that clients may have chosen: it is never taken for HTML.
function refusalRow(r) {
  const place = r.event === null ? "" : "event " + r.event + (r.offset === null ? "" : ", offset " + r.offset);
  return row([r.time.replace("T", " ").replace(/\..*/, ""), r.address || "", r.stream, r.status + " " + r.error, place,
    [r.method, r.path].filter(x => x).join(" "), r.key || "", r.message || ""]);
}

function show(s) {
  $("state").textContent = s.ready ? "ready" : "not ready";
  $("state").className = s.ready ? "good" : "bad";
  $("about").textContent = "version " + s.version + ", up " + num(s.uptime) + " s";
  $("reasons").replaceChildren(...s.reasons.map(r => {
    const li = document.createElement("li");
    li.textContent = r.key + ": " + r.text;
    if (r.blocking) li.className = "bad";
    return li;
  }));
  $("tiles").replaceChildren(
    tile("events received /s", num(rate(s, x => sum(x, b => b.received)))),
    tile("events accepted /s", num(rate(s, x => sum(x, b => b.accepted)))),
    tile("rows inserted /s", num(rate(s, x => sum(x, b => b.inserted)))),
    tile("request time", latency(s, x => x.http.seconds)),
    tile("connections", num(s.http.connections)),
    tile("waiting requests", num(s.http.waiting)),
    tile("ring", num(s.ring.depth) + " / " + num(s.ring.capacity),
      s.ring.depth / s.ring.capacity),
    tile("journal", mib(s.journal.bytes) + " / " + mib(s.journal.bytes_max),
      s.journal.bytes / s.journal.bytes_max),
    tile("ids in L1", num(s.l1.entries)),
    tile("Redis " + (s.redis.up ? "up" : "down"), latency(s, x => x.redis.seconds)),
    tile("ClickHouse " + (s.clickhouse.up ? "up" : "down"),
      latency(s, x => x.clickhouse.seconds)),
    tile("inserts in flight", num(s.clickhouse.inflight)),
    tile("dead letters", mib(s.dead_letter.bytes) +
      (s.dead_letter.parked ? ", " + num(s.dead_letter.parked) + " parked" : "")),
    tile("last insert", s.clickhouse.last_insert_age.toFixed(1) + " s ago"));
  $("books").replaceChildren(...Object.entries(s.streams).map(([name, x]) => streamRow(name, x)),
    ...(total(s.http.refused) ? [strangersRow(s.http.refused)] : []));
  $("refused").hidden = s.refusals.length === 0;
  $("refusals").replaceChildren(...s.refusals.map(refusalRow));
  $("codes").replaceChildren(...Object.entries(s.http.codes).map(([code, n]) =>
    row([code, num(n), num(rate(s, x => x.http.codes[code] || 0))])));
  last = s;
}

async function poll() {
  try {
    show(await (await fetch("stats", {cache: "no-store"})).json());
  } catch (e) {
    $("state").textContent = "no answer";
    $("state").className = "bad";
  }
  setTimeout(poll, 1000);
}

poll();
