# SPDX-License-Identifier: Apache-2.0
"""What `bench/run all` keeps of each bench, and the table that it makes of that.

A bench leaves its rounds in build/bench/NAME.json, so that benches can be run one by one, at times when the machine is
quiet, and still make one table, bench/RESULTS.md.

Runs on: Python 3 alone.
"""

import json
import pathlib
import re
import subprocess
import time

import measure
from benches import BENCHES, GOALS, README

ROOT = pathlib.Path(__file__).resolve().parents[1]


class Place:
    """Where figures are kept and documents are written."""

    kept = ROOT / "build" / "bench"
    results = ROOT / "bench" / "RESULTS.md"
    readme = ROOT / "README.md"
    curves = ROOT / "docs" / "curves"
    curves_document = ROOT / "docs" / "CURVES.md"

    @classmethod
    def move(cls, folder):
        """Elsewhere than in the tree, for a try."""
        folder = pathlib.Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        cls.kept, cls.results, cls.readme = folder / "kept", folder / "RESULTS.md", None
        cls.curves, cls.curves_document = folder / "curves", folder / "CURVES.md"


def git(*words):
    done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip()


def commit():
    changed = git("status", "--porcelain", "--", "src", "include", "CMakeLists.txt")
    return (git("rev-parse", "--short=7", "HEAD") or "unknown") + (" and changes" if changed else "")


def keep(name, rounds, options):
    """Writes the rounds of a bench; with options.add they join those that are there."""
    Place.kept.mkdir(parents=True, exist_ok=True)
    file = Place.kept / f"{name}.json"
    if options.add and file.exists():
        rounds = json.loads(file.read_text())["rounds"] + rounds
    file.write_text(json.dumps({"bench": name, "commit": commit(), "date": time.strftime("%Y-%m-%d"), "machine": measure.machine(),
                                "set": options.set, "rounds": rounds}, indent=1) + "\n")


def kept():
    found = {}
    for name in BENCHES:
        file = Place.kept / f"{name}.json"
        if file.exists():
            found[name] = json.loads(file.read_text())
    return found


def values(bench, figure):
    """Of all rounds that have it."""
    return [one[figure] for one in bench["rounds"] if figure in one]


def shown(value):
    if value == 0 or abs(value) >= 1000:
        return f"{value:,.0f}"
    digits = 1 if abs(value) >= 100 else 2 if abs(value) >= 10 else 3
    return f"{value:.{digits}f}"


def spread(found):
    return f"{shown(min(found))} to {shown(max(found))}"


def goal_lines(found):
    yield "| what | at first | to reach | measured | least to most | reached | bench |"
    yield "| --- | --- | --- | --- | --- | --- | --- |"
    for goal in GOALS:
        measured = values(found[goal.bench], goal.figure) if goal.bench in found else []
        if measured:
            middle = measure.median(measured)
            words = [f"**{shown(middle)}**", spread(measured), "yes" if goal.reached(middle) else "**no**"]
        else:
            words = ["not measured", "", ""]
        yield f"| {goal.what} | {goal.today} | {goal.text()} | {' | '.join(words)} | `{goal.bench}` |"


def bench_lines(name, bench):
    doc = " ".join((BENCHES[name].__doc__ or "").split("\n\n")[0].split())
    set_too = f" With {', '.join(bench['set'])}." if bench["set"] else ""
    yield f"## {name}"
    yield ""
    yield f"{doc} {len(bench['rounds'])} rounds, commit {bench['commit']}, {bench['date']}, {bench['machine']}.{set_too}"
    yield ""
    yield "| figure | median | least to most |"
    yield "| --- | --- | --- |"
    for figure in bench["rounds"][0]:
        found = values(bench, figure)
        yield f"| {figure} | {shown(measure.median(found))} | {spread(found)} |"
    yield ""


def readme_lines(found):
    """The rows of README: what of it concerns who only wants to know what alloyd costs."""
    yield "| `bench/run all`, medians of alternating rounds | measured |"
    yield "| --- | --- |"
    for words, bench, figures in README:
        if bench in found and all(values(found[bench], figure) for figure in figures):
            yield f"| {words.format(*(shown(measure.median(values(found[bench], figure))) for figure in figures))} |"


def write_readme(found):
    """Between its two marks."""
    text = Place.readme.read_text()
    head, _, rest = text.partition("<!-- figures -->\n")
    Place.readme.write_text(f"{head}<!-- figures -->\n{chr(10).join(readme_lines(found))}\n<!-- /figures -->{rest.partition('<!-- /figures -->')[2]}")


def write(remarks=""):
    """Writes bench/RESULTS.md. What stands between its two marks is kept: words of people."""
    found = kept()
    if not found:
        raise measure.Failure(f"nothing is measured yet: {Place.kept} is empty")
    if Place.results.exists():
        between = re.search(r"<!-- words -->\n(.*?)<!-- /words -->", Place.results.read_text(), re.S)
        remarks = between[1] if between else remarks
    machines = sorted({re.sub(r", load [\d.]+$", "", bench["machine"]) for bench in found.values()})
    commits = sorted({bench["commit"] for bench in found.values()})
    lines = ["# Results", "",
             f"`bench/run all` on {'; '.join(machines)}; {'commit' if len(commits) == 1 else 'commits'} {', '.join(commits)}. "
             "Load generator, Redis and ClickHouse share the machine. "
             "Figures are medians of the rounds, ratios are taken within a round. [README](README.md) tells how to run it.", "",
             *goal_lines(found), "", "<!-- words -->", *remarks.splitlines(), "<!-- /words -->", ""]
    for name, bench in found.items():
        lines += bench_lines(name, bench)
    Place.results.write_text("\n".join(lines).rstrip() + "\n")
    if Place.readme is not None:
        write_readme(found)
    missing = [name for name in BENCHES if name not in found]
    return found, missing


def tell(name, number, found):
    print(f"{name:<14}round {number}: " + ", ".join(f"{figure} {shown(value)}" for figure, value in found.items()), flush=True)


def tell_goals(name, rounds):
    for goal in GOALS:
        measured = values({"rounds": rounds}, goal.figure) if goal.bench == name else []
        if measured:
            middle = measure.median(measured)
            print(f"{name:<14}{goal.what}: {shown(middle)} ({spread(measured)}), to reach {goal.text()}: "
                  f"{'reached' if goal.reached(middle) else 'NOT REACHED'}", flush=True)
