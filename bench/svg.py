# SPDX-License-Identifier: Apache-2.0
"""Draws a curve with two axes, cost on the left and p99 on the right, as SVG, for light and dark pages.

Runs on: Python 3 alone.
"""

import html
import math

WIDTH, HEIGHT = 640, 330
LEFT, RIGHT, TOP, BOTTOM = 68, 572, 52, 272
STYLE = """
text{font-family:system-ui,sans-serif;font-size:11px;fill:#5b6875}
.t{font-size:14px;font-weight:600;fill:#1d2733}.grid{stroke:#c4ccd4;stroke-width:.6}
.cost{stroke:#2060a8;fill:none;stroke-width:2}.costs{fill:#2060a8}
.p99{stroke:#b0501f;fill:none;stroke-width:2;stroke-dasharray:5 3}.p99s{fill:#b0501f}
@media (prefers-color-scheme:dark){text{fill:#9fb0c0}.t{fill:#e8edf2}.grid{stroke:#3a4754}
.cost{stroke:#7fb4ee}.costs{fill:#7fb4ee}.p99{stroke:#eb9a6a}.p99s{fill:#eb9a6a}}
"""


def short(number):
    for size, letter in (1e6, "M"), (1e3, "k"):
        if number >= size:
            return f"{number / size:g}{letter}"
    return f"{number:g}"


def top_of(values):
    """A round number at or above all of them, and the step to it."""
    most = max(values) or 1
    step = 10 ** math.floor(math.log10(most))
    for part in 0.2, 0.25, 0.5, 1, 2:
        if math.ceil(most / (step * part)) <= 6:
            return step * part * math.ceil(most / (step * part)), step * part
    return step * 10, step * 2


def scale_x(xs, logarithmic):
    """Zero has its own place left of the first power."""
    if not logarithmic:
        low, high = min(xs), max(xs)
        return lambda x: LEFT + 14 + (RIGHT - LEFT - 28) * (x - low) / ((high - low) or 1)
    positive = [x for x in xs if x > 0]
    low = math.log10(min(positive)) - (0.7 if 0 in xs else 0)
    high = math.log10(max(positive))
    return lambda x: LEFT + 14 + (RIGHT - LEFT - 28) * ((math.log10(x) if x > 0 else low) - low) / ((high - low) or 1)


def line(name, xs, ys, place, top):
    def at(y):
        return BOTTOM - (BOTTOM - TOP) * y / top

    points = [f"{place(x):.1f},{at(y):.1f}" for x, y in zip(xs, ys)]
    yield f'<polyline class="{name}" points="{" ".join(points)}"/>'
    for x, y in zip(xs, ys):
        yield f'<circle class="{name}s" cx="{place(x):.1f}" cy="{at(y):.1f}" r="3"/>'


def draw(title, x_name, cost_name, points, logarithmic=True):
    """points: [(x, cost, p99 in ms or None)]. Returns the SVG's text."""
    xs, costs = [p[0] for p in points], [p[1] for p in points]
    timed = [(p[0], p[2]) for p in points if p[2] is not None]
    place = scale_x(xs, logarithmic)
    told = "; ".join(f"{short(x)}: {cost:.3g}" + (f", p99 {p99:.3g} ms" if p99 is not None else "") for x, cost, p99 in points)
    yield '<?xml version="1.0" encoding="UTF-8"?>'
    yield "<!-- SPDX-License-Identifier: Apache-2.0 -->"
    yield (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
           'role="img" aria-labelledby="title desc">')
    yield f'<title id="title">{html.escape(title)}</title><desc id="desc">{html.escape(f"{x_name}, {cost_name}: {told}")}</desc>'
    yield f"<style>{STYLE}</style>"
    yield f'<text class="t" x="{LEFT}" y="20">{html.escape(title)}</text>'
    yield f'<text class="costs" x="{LEFT}" y="40">{html.escape(cost_name)}</text>'
    most, step = top_of(costs)
    for i in range(round(most / step) + 1):
        y = BOTTOM - (BOTTOM - TOP) * i * step / most
        yield f'<line class="grid" x1="{LEFT}" x2="{RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        yield f'<text text-anchor="end" x="{LEFT - 8}" y="{y + 4:.1f}">{i * step:.4g}</text>'
    for x in xs:
        yield f'<text text-anchor="middle" x="{place(x):.1f}" y="{BOTTOM + 18}">{short(x)}</text>'
    yield f'<text text-anchor="middle" x="{(LEFT + RIGHT) / 2}" y="{BOTTOM + 40}">{html.escape(x_name)}</text>'
    yield from line("cost", xs, costs, place, most)
    if timed:
        most, step = top_of([y for _, y in timed])
        yield f'<text class="p99s" text-anchor="end" x="{RIGHT}" y="40">p99, ms (dashed)</text>'
        for i in range(round(most / step) + 1):
            y = BOTTOM - (BOTTOM - TOP) * i * step / most
            yield f'<text x="{RIGHT + 8}" y="{y + 4:.1f}">{i * step:.4g}</text>'
        yield from line("p99", *zip(*timed), place, most)
    yield "</svg>"
