// SPDX-License-Identifier: Apache-2.0
// Charts over time, as SVG: see docs/decisions/023-page.md for why there is no library.
"use strict";

const LEFT = 56, TOP = 10, BOTTOM = 20, HEIGHT = 132;

function element(name, attributes = {}, ...children) {
  const e = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) e.setAttribute(key, value);
  e.append(...children);
  return e;
}

function drawn(name, attributes, text) {
  const e = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) e.setAttribute(key, value);
  if (text !== undefined) e.textContent = text;
  return e;
}

// ---- figures with their units ----

const whole = n => Math.round(n).toLocaleString("en");
// Three digits that count, and no more than are there.
const digits = n => n >= 100 || Number.isInteger(n) ? whole(n) : n >= 10 ? n.toFixed(1).replace(/\.0$/, "") : n.toFixed(2).replace(/\.?0+$/, "");

function count(n) {
  if (n >= 999.5e6) return digits(n / 1e9) + " G";
  if (n >= 999.5e3) return digits(n / 1e6) + " M";
  if (n >= 99.95e3) return digits(n / 1e3) + " k";
  return n >= 10 || Number.isInteger(n) ? whole(n) : digits(Math.round(n * 10) / 10);
}

function seconds(s) {
  if (s === 0) return "0 s";
  if (s < .00095) return digits(s * 1e6) + " µs";
  if (s < .9995) return digits(s * 1e3) + " ms";
  if (s < 99.5) return digits(s) + " s";
  if (s < 5970) return digits(Math.round(s / 6) / 10) + " min";
  return s < 172800 ? digits(Math.round(s / 360) / 10) + " h" : digits(Math.round(s / 8640) / 10) + " days";
}

function bytes(n) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  for (; n >= 1023.5 && unit < 4; unit++) n /= 1024;
  return (n >= 99.95 || Number.isInteger(n) ? whole(n) : n.toFixed(1)) + " " + units[unit];
}

const clock = ms => new Date(ms).toISOString().slice(11, 19);

// The round number at which an axis may end: 1, 2, 4, 6, 8 or 10 of the unit that it is told in.
function roundUp(most, format) {
  let unit = 1;
  if (format === bytes) while (most / unit >= 1024) unit *= 1024;
  if (format === seconds && most > 60) unit = most > 3600 ? 3600 : 60;
  const power = 10 ** Math.floor(Math.log10(most / unit));
  const step = [1, 2, 4, 6, 8, 10].find(x => x * power * unit >= most * .9999);
  return step * power * unit;
}

// ---- one chart ----

// series: [{key, label, color}]; format: of a figure; least: the lowest end of the axis; mean: a table's row has the
// mean of its time, and not the highest.
class Chart {
  constructor(spec, onCursor) {
    Object.assign(this, spec);
    this.onCursor = onCursor;
    this.width = 0;
    this.when = element("span");
    this.plot = element("div", {class: "plot", tabindex: "0", role: "img"});
    this.legend = element("ul", {class: "legend"});
    this.values = this.series.map(s => {
      const value = element("b");
      this.legend.append(element("li", {class: s.color}, element("span", {}, s.label + " "), value));
      return value;
    });
    this.table = element("details", {}, element("summary", {"aria-label": this.title + " as a table"}, "as a table"));
    this.table.addEventListener("toggle", () => this.tabulate());
    this.figure = element("figure", {class: "chart"}, element("figcaption", {}, this.title, this.when), this.plot,
      this.legend, this.table);
    this.plot.addEventListener("pointermove", e => this.point(e));
    this.plot.addEventListener("pointerdown", e => this.point(e));
    this.plot.addEventListener("pointerleave", () => this.onCursor(null));
    this.plot.addEventListener("blur", () => this.onCursor(null));
    this.plot.addEventListener("keydown", e => this.key(e));
    new ResizeObserver(([entry]) => {
      this.width = Math.floor(entry.contentRect.width);
      this.draw();
    }).observe(this.plot);
  }

  // Where step i of the window stands.
  x(i) {
    return LEFT + (this.width - LEFT - 2) * (i + .5) / this.past.capacity;
  }

  point(event) {
    const i = Math.floor((event.clientX - this.plot.getBoundingClientRect().left - LEFT) / (this.width - LEFT - 2) * this.past.capacity);
    this.onCursor(i >= 0 && i < this.past.capacity ? i : null);
  }

  key(event) {
    const last = this.past.capacity - 1;
    const now = this.cursor === null || this.cursor === undefined ? last + 1 : this.cursor;
    const to = {ArrowLeft: now - 1, ArrowRight: now + 1, PageUp: now - 10, PageDown: now + 10, Home: 0, End: last, Escape: null}[event.key];
    if (to === undefined) return;
    event.preventDefault();
    this.onCursor(to === null ? null : Math.min(last, Math.max(0, to)), this);
  }

  // The figure of a series in step i of the window, or null.
  at(series, i) {
    const value = this.past.figures[series.key][i - this.past.offset];
    return value === undefined ? null : value;
  }

  known(series) {
    return this.past.figures[series.key].filter(v => v !== null);
  }

  say(value) {
    return value === null ? "–" : this.format(value) + (this.unit || "");
  }

  // past: {figures: {key: [..]}, offset, capacity, timeOf(i)}
  show(past, cursor) {
    this.past = past;
    this.cursor = cursor;
    this.draw();
    if (this.table.open) this.tabulate();
  }

  draw() {
    if (!this.past || this.width < LEFT * 2) return;
    const most = Math.max(this.least, ...this.series.flatMap(s => this.known(s)));
    const top = roundUp(most, this.format);
    const y = v => TOP + (HEIGHT - TOP - BOTTOM) * (1 - v / top);
    const svg = drawn("svg", {viewBox: `0 0 ${this.width} ${HEIGHT}`, "aria-hidden": "true"});
    for (const v of [0, top / 2, top]) {
      const at = Math.round(y(v)) + .5;
      svg.append(drawn("line", {class: "grid", x1: LEFT, x2: this.width, y1: at, y2: at}),
        drawn("text", {x: LEFT - 6, y: at + 4, "text-anchor": "end"}, this.format(v)));
    }
    this.times(svg);
    this.series.forEach((s, n) => this.line(svg, s, y, n === 0));
    if (this.cursor !== null) {
      const at = this.x(this.cursor);
      svg.append(drawn("line", {class: "cursor", x1: at, x2: at, y1: TOP - 6, y2: HEIGHT - BOTTOM}));
    }
    this.plot.replaceChildren(svg);
    this.tell(most);
  }

  times(svg) {
    const last = this.past.capacity - 1, y = HEIGHT - 5;
    for (const [i, anchor] of [[0, "start"], [last / 2, "middle"], [last, "end"]]) {
      const x = anchor === "start" ? LEFT : anchor === "end" ? this.width - 1 : this.x(i);
      const text = clock(this.past.timeOf(Math.round(i)));
      svg.append(drawn("text", {x, y, "text-anchor": anchor}, this.past.coarse ? text.slice(0, 5) : text));
    }
  }

  // A gap of one step is a look that came late; longer ones stay open. A lone figure is a dot.
  line(svg, series, y, filled) {
    let path = "", area = "", from = null, before = null;
    const close = () => {
      if (from !== null) area += `L${this.x(before).toFixed(1)} ${y(0)}L${this.x(from).toFixed(1)} ${y(0)}Z`;
    };
    for (let i = this.past.offset; i < this.past.capacity; i++) {
      const v = this.at(series, i);
      if (v === null) continue;
      const at = `${this.x(i).toFixed(1)} ${y(v).toFixed(1)}`;
      if (before === null || i - before > 2) {
        close();
        path += `M${at}h.01`;
        area += `M${this.x(i).toFixed(1)} ${y(0)}L${at}`;
        from = i;
      } else {
        path += `L${at}`;
        area += `L${at}`;
      }
      before = i;
    }
    close();
    if (filled) svg.append(drawn("path", {class: "area " + series.color, d: area}));
    svg.append(drawn("path", {class: series.color, d: path}));
  }

  // The latest figure of a series: that of the last step may have none yet.
  latest(series) {
    for (let i = this.past.capacity - 1; i >= Math.max(this.past.offset, this.past.capacity - 3); i--)
      if (this.at(series, i) !== null) return this.at(series, i);
    return null;
  }

  tell(most) {
    const at = this.cursor;
    this.when.textContent = at === null ? this.note || "" : clock(this.past.timeOf(at));
    const told = this.series.map((s, n) => {
      const text = this.say(at === null ? this.latest(s) : this.at(s, at));
      this.values[n].textContent = text;
      return s.label + " " + text.replace("–", "none");
    });
    this.spoken = clock(this.past.timeOf(at === null ? this.past.capacity - 1 : at)) + ": " + told.join(", ");
    this.plot.setAttribute("aria-label",
      `${this.title}, now: ${told.join(", ")}; highest ${this.say(most)}. Arrow keys go back in time.`);
  }

  tabulate() {
    const rows = 10, each = this.past.capacity / rows;
    const body = element("tbody");
    for (let row = rows - 1; row >= 0; row--) {
      const tr = element("tr", {}, element("td", {}, clock(this.past.timeOf((row + 1) * each - 1))));
      for (const s of this.series) {
        const values = [];
        for (let i = row * each; i < (row + 1) * each; i++) if (this.at(s, i) !== null) values.push(this.at(s, i));
        const value = values.length === 0 ? null
          : this.mean ? values.reduce((a, b) => a + b) / values.length : Math.max(...values);
        tr.append(element("td", {}, this.say(value)));
      }
      body.append(tr);
    }
    const head = element("tr", {}, element("th", {scope: "col"}, "until (UTC)"));
    for (const s of this.series) head.append(element("th", {scope: "col"}, s.label + (this.mean ? ", mean" : ", highest")));
    if (this.table.children.length > 1) this.table.lastChild.remove();
    if (this.table.open) this.table.append(element("table", {}, element("thead", {}, head), body));
  }
}
