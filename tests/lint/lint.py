#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Checks what a script can check: layers, sizes, format, and that the documentation is still true.

Usage: tests/lint/lint.py [--self-test] [--root DIR] [RULE ...]

Without a RULE all of them run. --self-test feeds each rule input that it must refuse. Exit status: 0 when
nothing was found, 1 otherwise, 2 for a wrong command line.
"""

import argparse
import concurrent.futures
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

FILE_LINES_MAX = 800
FUNCTION_LINES_MAX = 70
PARAMETERS_MAX = 5
# Whose parameters a library has chosen.
LIBRARY_CALLBACKS = {"tls_choose_protocol", "tickets_on_ticket", "tickets_on_free", "records_on_message"}
COLUMNS_MAX = 100  # of C
SPDX = "SPDX-License-Identifier: Apache-2.0"

# Where a library's headers may be included: in these modules, or in these folders.
LIBRARY_HOMES = {
    "event2/": {"folders": ("front", "admin")},
    "hiredis/": {"redis_link", "redis_dial", "redis_tls", "redis_wire"},
    "curl/": {"transfer", "ask_clickhouse", "flusher", "flusher_private", "ctl_http"},
    "urcu": {"l1"},
    "curses.h": {"ctl_top"},
    "jansson.h": {"folders": ("admin", "ctl")},
    "ini.h": {"ini"},
    "sodium": {"event_id", "keys", "quota", "credential", "records", "voucher"},
    "openssl/": {"tls", "tickets", "records", "conn_io", "redis_tls"},
    "systemd/": {"sdnotify"},
    "xxhash.h": {"segment", "journal_dir"},
    "zlib.h": {"coding"},
    "zstd": {"coding"},
    "cmocka.h": set(),
}

LEFTOVERS = [
    (re.compile(r"\b(TODO|FIXME|XXX)\b"), "unfinished work belongs in an issue"),
    (re.compile(r"^\s*#\s*if\s+0\b"), "dead code"),
    (re.compile(r"\btypedef\s+(struct|union|enum)\b"), "structs are not hidden behind a typedef"),
    (re.compile(r"\b(pytest\.skip|skipif|importorskip|xfail)\b|^\s+skip\(\);"), "a test that is skipped tests nothing"),
]

# What says something about the machine or the place where a file was written, and nothing to its reader.
FORBIDDEN_WORDS = [
    (re.compile(r"(?<![\w.])/(work|workspace|workdir)/"), "a path of somebody's workplace"),
    (re.compile(r"(?<![\w.])/(home|Users)/[a-z]"), "a path of somebody's home"),
    (re.compile(r"(?<![\w.])/root/"), "a path of somebody's home"),
    (re.compile(r"(?<!scope=\")(?<![./])\bsessions?\b(?!-storage|=)", re.I), "says when it was written, not what is"),
    (re.compile(r"\b(registry\.(npmjs\.org|yarnpkg\.com)|files\.pythonhosted\.org|pypi\.org|deb\.debian\.org)\b"),
     "a registry's host: use its client"),
    (re.compile(r"\b(FACTS|CONTRACT|DESIGN)(\.md)?\b"), "a document that is not here"),
]


class Tree:
    """The files of the project, read once."""

    def __init__(self, root):
        self.root = pathlib.Path(root).resolve()
        self.paths = sorted(self._list())
        self._texts = {}

    def _list(self):
        if (self.root / ".git").exists() and shutil.which("git"):
            # New files too, so that they are checked before they are committed.
            git = subprocess.run(["git", "ls-files", "-co", "--exclude-standard", "-z"], cwd=self.root, check=False,
                                 stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
            if git.returncode == 0:
                names = git.stdout.decode().split("\0")
                return {name for name in names if name and (self.root / name).is_file()}
        found = set()
        for folder, folders, files in os.walk(self.root):
            folders[:] = [f for f in folders
                          if not f.startswith("build") and f not in (".git", "__pycache__", ".pytest_cache")]
            found |= {str((pathlib.Path(folder) / f).relative_to(self.root)) for f in files}
        return found

    def text(self, path):
        if path not in self._texts:
            data = (self.root / path).read_bytes() if path in self.paths else b""
            self._texts[path] = "" if b"\0" in data else data.decode("utf-8", "replace")
        return self._texts[path]

    def lines(self, path):
        return self.text(path).splitlines()

    def having(self, *suffixes, under=""):
        return [p for p in self.paths if p.endswith(suffixes) and p.startswith(under)]

    def folders(self):
        """Folder of src/ -> (its modules, all the folders below it), as CMakeLists.txt has them."""
        cmake = re.sub(r"#.*", "", self.text("CMakeLists.txt"))
        found = {}
        for name, body in re.findall(r"alloy_folder\((\w+)\s+MODULES\s+([^)]*)\)", cmake):
            modules, _, link = body.partition("LINK")
            below = {word[len("alloy_"):] for word in link.split() if word.startswith("alloy_")}
            for folder in list(below):
                below |= found.get(folder, ((), set()))[1]
            found[name] = modules.split(), below
        return found

    def modules(self):
        """Name of a module -> its folder."""
        found = {name: folder for folder, (names, _) in self.folders().items() for name in names}
        cmake = re.sub(r"#.*", "", self.text("CMakeLists.txt"))
        for folder, name in re.findall(r"add_executable\(\S+\s+src/(\w+)/(\w+)\.c", cmake):
            found[name] = folder
        return found


def stem(path):
    """The module that a source or header belongs to: conn_private.h is conn's."""
    return re.sub(r"_private$", "", pathlib.PurePath(path).stem)


def folder_of(tree, path):
    """The folder whose source or header path is; None: nobody's."""
    if path.startswith("src/"):
        return path.split("/")[1]
    return {"base": "base", "metrics": "base", "config_keys": "config"}.get(stem(path), tree.modules().get(stem(path)))


def includes(tree, path):
    """(line number, path of the header, as it would be found) of Alloy's own headers."""
    for number, line in enumerate(tree.lines(path), 1):
        include = re.match(r'\s*#\s*include\s+"((?:alloy/)?)(\w+\.(?:h|def))"', line)
        if include:
            folder = "include/alloy" if include[1] else str(pathlib.PurePath(path).parent)
            yield number, f"{folder}/{include[2]}"


def c_files(tree, under=("src/", "include/")):
    return [p for p in tree.having(".c", ".h") if p.startswith(under)]


def check_headers(tree):
    """Every header compiles alone."""
    compiler = os.environ.get("CC", "cc").split()

    def compile_one(path):
        command = [*compiler, "-std=gnu17", "-D_GNU_SOURCE", '-DALLOY_VERSION=""', "-fsyntax-only", "-Wall", "-Wextra",
                   "-Werror", "-I", str(tree.root / "include"), "-iquote", str((tree.root / path).parent), "-x", "c", "-"]
        # Twice: its guard holds too.
        code = f'#include "{pathlib.PurePath(path).name}"\n' * 2
        run = subprocess.run(command, input=code.encode(), stderr=subprocess.PIPE, check=False)
        return path, run.returncode, run.stderr.decode(errors="replace").strip().splitlines()

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        for path, status, lines in pool.map(compile_one, [p for p in c_files(tree) if p.endswith(".h")]):
            if status != 0:
                yield path, 0, "does not compile alone: " + (lines[0] if lines else "?")


def check_layers(tree):
    """No file includes a header of a folder that its own does not stand on."""
    below = {folder: under for folder, (_, under) in tree.folders().items()}
    for path in c_files(tree):
        own = folder_of(tree, path)
        for number, header in includes(tree, path):
            other = folder_of(tree, header)
            if header not in tree.paths or other is None:
                yield path, number, f"{header} is not there, or belongs to no module of CMakeLists.txt"
            elif own in below and other != own and other not in below[own]:
                yield path, number, f"{own} includes {header} of {other}"


def check_rooms(tree):
    """A header that only its own folder includes lies there, beside its source."""
    users = {}
    for path in c_files(tree):
        for _, header in includes(tree, path):
            users.setdefault(header, set()).add(path)

    def needed(header, seen=()):
        """Whether another folder includes header, or a header that must be public does."""
        return any(folder_of(tree, user) != folder_of(tree, header) or user.startswith("include/")
                   and user not in seen and needed(user, (*seen, header)) for user in users.get(header, ()))

    for path in tree.having(".h", under="include/"):
        if stem(path) != "base" and not needed(path):
            yield path, 0, "is included by its own folder alone: it lies beside its source"


def check_libraries(tree):
    """Each library's header only in its home."""
    for path in c_files(tree):
        for number, line in enumerate(tree.lines(path), 1):
            include = re.match(r"\s*#\s*include\s+<([^>]+)>", line)
            home = next((h for lib, h in LIBRARY_HOMES.items() if include and include[1].startswith(lib)), None)
            if home is None:
                continue
            at_home = folder_of(tree, path) in home["folders"] if isinstance(home, dict) else stem(path) in home
            if not at_home:
                yield path, number, f"<{include[1]}> is not at home here"


def parameters(head):
    """How many parameters the function has whose text up to its brace is head; None: no function."""
    begin = head.find("(")
    if begin < 0 or head.rstrip().endswith(("=", ";")):
        return None
    depth, count = 0, 1
    for c in head[begin:]:
        depth += {"(": 1, "[": 1, ")": -1, "]": -1}.get(c, 0)
        if depth == 1 and c == ",":
            count += 1
        if depth == 0:
            break
    return count


def check_sizes(tree):
    """Files, functions, parameter lists and lines within their bounds."""
    for path in tree.having(".c", ".h", ".py"):
        lines = tree.lines(path)
        if len(lines) > FILE_LINES_MAX:
            yield path, len(lines), f"{len(lines)} lines; at most {FILE_LINES_MAX}"
        for number, line in enumerate(lines, 1):
            if len(line) > COLUMNS_MAX and not path.endswith(".py"):
                yield path, number, f"{len(line)} columns; at most {COLUMNS_MAX}"
        if path.endswith(".py"):
            continue
        # In this format a function's braces, and only they, stand alone in the first column.
        begin = None
        for number, line in enumerate(lines, 1):
            if line == "{":
                begin = number
                head = number - 1
                while head > 0 and lines[head - 1].strip() and not lines[head - 1].startswith(("}", " *", "/*", "#")):
                    head -= 1
                count = parameters(" ".join(lines[head:number - 1]))
                callback = re.search(r"(\w+)\(", lines[head])
                if count is not None and count > PARAMETERS_MAX and path.startswith("src/") \
                        and not (callback and callback[1] in LIBRARY_CALLBACKS):
                    yield path, number, f"{count} parameters; at most {PARAMETERS_MAX}"
            elif line == "}" and begin is not None:
                if number - begin + 1 > FUNCTION_LINES_MAX:
                    yield path, begin, f"function of {number - begin + 1} lines; at most {FUNCTION_LINES_MAX}"
                begin = None


def check_statics(tree):
    """A static function carries its module's word, and no two have one name: stack traces and perf then speak."""
    found = {}
    for path in tree.having(".c", under="src/"):
        word = stem(path).split("_")[0] + "_"
        code = re.sub(r"/\*.*?\*/", lambda m: "\n" * m[0].count("\n"), tree.text(path), flags=re.S)
        for function in re.finditer(r"^static (?:[A-Z_]+\([^)]*\) )?[\w *]*?\b(\w+)\(", code, re.M):
            number = code.count("\n", 0, function.start()) + 1
            if not function[1].startswith(word):
                yield path, number, f"{function[1]} does not begin with {word}"
            elif found.setdefault(function[1], path) != path:
                yield path, number, f"{function[1]} is in {found[function[1]]} too"


def code_of(text):
    """C without comments, strings and characters; lines keep their numbers."""
    token = re.compile(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.S)
    return token.sub(lambda m: " " + "\n" * m[0].count("\n"), text)


def functions_of(code):
    """Names of the functions that code defines and others can call."""
    found = set()
    for head in re.findall(r"^((?:[^\n{};#][^\n{};]*\n)+)\{$", code, re.M):
        name = re.search(r"\b(\w+)\s*\(", re.sub(r"\b[A-Z_]+\([^()]*\)", "", head))
        if name and not re.search(r"\bstatic\b", head):
            found.add(name[1])
    return found


def circles(edges):
    """Sets of nodes that reach each other; edges is {node: {node, ...}}."""
    def reached(node):
        seen, todo = set(), [node]
        while todo:
            for other in edges[todo.pop()] - seen:
                seen.add(other)
                todo.append(other)
        return seen

    reach = {node: reached(node) for node in edges}
    return {frozenset(other for other in reach[node] if node in reach[other]) for node in edges} - {frozenset()}


def check_circles(tree):
    """No module uses a function of a module that uses one of its own, directly or through others."""
    paths = {stem(path): path for path in tree.having(".c", under="src/")}
    code = {name: code_of(tree.text(path)) for name, path in paths.items()}
    homes = {function: name for name in paths for function in functions_of(code[name]) if function != "main"}
    uses = {name: {word: homes[word] for word in re.findall(r"\w+", code[name]) if homes.get(word, name) != name}
            for name in paths}
    for circle in circles({name: set(used.values()) for name, used in uses.items()}):
        ways = [f"{name} uses {word} of {home}" for name in sorted(circle) for word, home in sorted(uses[name].items())
                if home in circle]
        yield paths[min(circle)], 0, f"a circle of {', '.join(sorted(circle))}: {'; '.join(ways[:4])}"


def check_spdx(tree):
    """License line and header comment at the top of each source."""
    for path in tree.paths:
        lines = tree.lines(path)
        name = pathlib.PurePath(path).name
        if path.endswith((".c", ".h", ".def")):
            if not lines or lines[0] != f"/* {SPDX} */":
                yield path, 1, f"the first line is not /* {SPDX} */"
            elif not "\n".join(lines[1:3]).startswith((f"/*\n * {name} - ", f"/* {name} - ")):
                yield path, 2, f'no header comment that begins with "{name} - "'
        elif path.endswith((".py", ".sh", ".lua", ".js", ".mjs")) or (lines and lines[0].startswith("#!")):
            head = lines[:4]
            if not any(SPDX in line for line in head):
                yield path, 1, f"no {SPDX} in the first lines"


def check_leftovers(tree):
    """No unfinished work, dead code, typedef of a struct or skipped test."""
    for path in tree.having(".c", ".h", ".def", ".py", ".txt", ".js", ".lua"):
        if path.endswith("lint.py"):
            continue
        for number, line in enumerate(tree.lines(path), 1):
            for pattern, why in LEFTOVERS:
                if pattern.search(line):
                    yield path, number, f"{pattern.search(line)[0].strip()}: {why}"


def check_format(tree):
    """clang-format 14 has nothing to change."""
    tool = shutil.which("clang-format-14")
    paths = tree.having(".c", ".h")
    if tool is None:
        yield "", 0, "clang-format-14 is not installed: run scripts/install --test"
        return
    run = subprocess.run([tool, "--dry-run", "-Werror", *paths], cwd=tree.root, stderr=subprocess.PIPE, check=False)
    for line in run.stderr.decode(errors="replace").splitlines():
        found = re.match(r"(.+?):(\d+):\d+: (?:error|warning): (.*)", line)
        if found:
            yield found[1], int(found[2]), found[3]
    if run.returncode != 0 and b"error:" not in run.stderr:
        yield "", 0, run.stderr.decode(errors="replace").strip()


def config_rows(tree):
    """(section, key) -> default, out of config_keys.def."""
    rows = {}
    for kind, rest in re.findall(r"^KEY_(\w+)\((.*)", tree.text("include/alloy/config_keys.def"), re.M):
        parts = re.match(r'(\w+), (\w+), (?:"([^"]*)")?', rest)
        if parts:
            rows[parts[1], parts[2]] = "auto" if kind.startswith("AUTO") else parts[3]
    return rows


def documented_keys(lines, section_pattern, key_pattern):
    """(section, key) -> (line number, default as the document has it)."""
    section, found = "", {}
    for number, line in enumerate(lines, 1):
        begins = re.match(section_pattern, line)
        if begins:
            section = begins[1]
        key = re.match(key_pattern, line)
        if key:
            found[section, key[1]] = number, key[2].strip().strip("`")
        elif line.startswith("## ") and not begins:
            section = ""
    return found


def check_config(tree):
    """Every key stands in config/alloy.ini and docs/CONFIG.md, with its default, and none that is no key."""
    rows = config_rows(tree)
    if not rows:
        yield "include/alloy/config_keys.def", 0, "holds no key"
    documents = {
        "config/alloy.ini": documented_keys(tree.lines("config/alloy.ini"), r"\[([\w.]+)\]",
                                            r"(?:; )?([a-z_]\w*) = ?(.*)"),
        "docs/CONFIG.md": documented_keys(tree.lines("docs/CONFIG.md"), r"## \[([\w.]+)\]",
                                          r"\| `(\w+)` \| ([^|]*) \|"),
    }
    for path, found in documents.items():
        stream = next((s for s, _ in found if s.startswith("stream")), "stream.NAME")
        for key in stream_keys(tree):
            if (stream, key) not in found:
                yield path, 0, f"does not name [stream.NAME] {key}"
        for (section, key), default in rows.items():
            number, shown = found.get((section, key), (0, None))
            if shown is None:
                yield path, 0, f"does not name [{section}] {key}"
            elif shown.replace("(empty)", "") != default:
                yield path, number, f"[{section}] {key}: default is {default!r}, not {shown!r}"
        for section, key in found:
            if section and not section.startswith("stream") and (section, key) not in rows:
                yield path, found[section, key][0], f"[{section}] {key} is no key"


def stream_keys(tree):
    """The keys of a [stream.NAME] section."""
    config = "".join(tree.text(path) for path in tree.having(".c", under="src/config/"))
    row = re.search(r"config_stream_keys\[STREAM_KEY_COUNT\] = \{([^}]*)\}", config)
    return re.findall(r'"(\w+)"', row.group(1)) if row else []


def check_metrics(tree):
    """docs/OPERATIONS.md names every metric, and none that is not there."""
    path = "docs/OPERATIONS.md"
    text = tree.text(path)
    sources = ["include/alloy/metrics.def", *tree.having(".c", under="src/admin/exposition"),
               *tree.having(".c", under="src/admin/process")]
    names = set(re.findall(r'"((?:alloy|process)_\w+)', "".join(tree.text(source) for source in sources)))
    named = set(re.findall(r"\b(?:alloy|process)_\w+", text))
    for name in sorted(names):
        if name not in named:
            yield path, 0, f"does not name {name}"
    for name in sorted(named):
        if re.sub(r"_(bucket|sum|count)$", "", name) not in names and name not in names:
            yield path, 0, f"{name} is no metric"
    for user in ("config/alloy.rules.yml", "config/grafana/alloy.json"):
        for name in sorted(set(re.findall(r"\b(?:alloy|process)_\w+", tree.text(user)))):
            if re.sub(r"_(bucket|sum|count)$", "", name) not in names and name not in names:
                yield user, 0, f"{name} is no metric"


IN_A_HURRY = "## At three in the morning\n"


def in_a_hurry(tree, path):
    """The part of docs/OPERATIONS.md that tells by symptom what to do."""
    return tree.text(path).partition(IN_A_HURRY)[2].partition("\n## ")[0]


def check_reasons(tree):
    """docs/OPERATIONS.md names every reason that /readyz can give, in its table and under "At three in the morning"."""
    path = "docs/OPERATIONS.md"
    hurry, reference = in_a_hurry(tree, path), tree.text(path).replace(in_a_hurry(tree, path), "")
    raised = re.compile(r'(?:add_reason\(&?\w+|health_raise\([^,;]+),\s*"([\w.%]+)"'
                        r'|snprintf\(key, sizeof\(key\), "([\w.%]+)"'
                        r'|flusher_tell_(?:key|finding)\((?:key, )?flusher, lane, "(\w+)"')
    for source in tree.having(".c", under="src/"):
        for found in raised.finditer(tree.text(source)):
            key = (found[1] or found[2] or f"clickhouse.NAME.{found[3]}").replace("%s", "NAME")
            if f"`{key}`" not in reference:
                yield path, 0, f"does not name the reason {key} ({source})"
            if f"`{key}`" not in hurry:
                yield path, 0, f"does not name the reason {key} under {IN_A_HURRY[3:-1]} ({source})"


def check_alerts(tree):
    """docs/OPERATIONS.md tells of each alert, and the heading that an alert's runbook names is there."""
    rules, path = "config/alloy.rules.yml", "docs/OPERATIONS.md"
    hurry = in_a_hurry(tree, path)
    for rule in tree.text(rules).split("- alert: ")[1:]:
        alert = rule.split("\n")[0]
        runbook = re.search(r'runbook: "OPERATIONS\.md#([\w-]+)"', rule)
        if runbook is None or runbook[1] not in anchors(tree, path):
            yield rules, 0, f"{alert} has no runbook that names a heading of {path}"
        if not re.search(rf"\b{alert}\b", hurry):
            yield path, 0, f"does not name {alert} under {IN_A_HURRY[3:-1]}"


def check_cmake(tree):
    """CMakeLists.txt lists every source in its folder, and no other."""
    listed = {f"src/{folder}/{name}.c" for name, folder in tree.modules().items()}
    sources = set(tree.having(".c", under="src/"))
    for path in sorted(sources - listed):
        yield path, 0, "is not in CMakeLists.txt"
    for path in sorted(listed - sources):
        yield "CMakeLists.txt", 0, f"{path} does not exist"
    for path in tree.having(".h", ".def", under="include/"):
        if folder_of(tree, path) is None:
            yield path, 0, "belongs to no module of CMakeLists.txt"
    for path in tree.having(".c", under="tests/unit/"):
        if path.split("/")[2] not in tree.folders():
            yield path, 0, "lies in no folder of src/"


def prose(lines):
    """Numbered lines outside fenced code, without code spans."""
    fenced = False
    for number, line in enumerate(lines, 1):
        if line.lstrip().startswith("```"):
            fenced = not fenced
        elif not fenced:
            yield number, re.sub(r"`[^`]*`", "", line)


def anchors(tree, path):
    found = set()
    for _, line in [(n, text) for n, text in enumerate(tree.lines(path), 1) if text.startswith("#")]:
        title = re.sub(r"[^\w\- ]", "", line.lstrip("#").strip().lower())
        found.add(title.replace(" ", "-"))
    return found


def check_links(tree):
    """Links between documents lead somewhere, also from those that are installed: README.md, SECURITY.md, LICENSE, docs/ and deploy/."""
    def installed(name):
        return name in ("README.md", "SECURITY.md", "LICENSE", "docs", "deploy") or name.startswith(("docs/", "deploy/"))

    for path in tree.having(".md"):
        for number, line in prose(tree.lines(path)):
            for target in re.findall(r"\]\(([^)\s]+)\)", line):
                if re.match(r"[a-z]+:", target):
                    continue
                file, _, anchor = target.partition("#")
                goal = (tree.root / path).parent / file if file else tree.root / path
                if not goal.exists():
                    yield path, number, f"{target} leads nowhere"
                elif installed(path) and not installed(str(goal.resolve().relative_to(tree.root))):
                    yield path, number, f"{target} is not installed"
                elif anchor and anchor not in anchors(tree, str(goal.resolve().relative_to(tree.root))):
                    yield path, number, f"{target}: no such heading"


def check_tables(tree):
    """What begins like a table is one: a head, then its line of dashes. An empty line would end it, and show the rest as text."""
    for path in tree.having(".md"):
        lines = ["", *tree.lines(path), ""]
        for number, line in enumerate(lines[1:-1], 1):
            if line.startswith("|") and not lines[number - 1].startswith("|") and not re.match(r"[|:\- ]+$", lines[number + 1]):
                yield path, number, "a row of a table without its head"


def check_words(tree):
    """Nothing tells where or when a file was written."""
    for path in tree.paths:
        if path.endswith("lint.py") or path == "LICENSE":
            continue
        for number, line in enumerate(tree.lines(path), 1):
            for pattern, why in FORBIDDEN_WORDS:
                found = pattern.search(line)
                if found:
                    yield path, number, f"{found[0]!r}: {why}"


RULES = {name[len("check_"):]: rule for name, rule in list(globals().items()) if name.startswith("check_")}


def run_rules(root, names):
    tree = Tree(root)
    return [(name, *problem) for name in names for problem in RULES[name](tree)]


# ---- self-test: a small clean project, and for each rule changes that it must notice ----

def c_file(name, body):
    return f"/* {SPDX} */\n/*\n * {name} - part of the self-test.\n */\n{body}"


def header(name, body=""):
    guard = f"ALLOY_{name.upper()}_H"
    return c_file(f"{name}.h", f"#ifndef {guard}\n#define {guard}\n\n{body}void {name}(void);\n\n#endif\n")


def source(name, includes=""):
    return c_file(f"{name}.c", f'#include "alloy/{name}.h"\n{includes}\nvoid {name}(void)\n{{\n}}\n')


def clean_project():
    files = {
        ".clang-format": "BasedOnStyle: LLVM\nIndentWidth: 4\nColumnLimit: 100\nBreakBeforeBraces: Linux\n"
                         "AllowShortFunctionsOnASingleLine: None\nSortIncludes: Never\n",
        "CMakeLists.txt": "alloy_folder(base MODULES low)\nalloy_folder(config MODULES mid LINK alloy_base)\n"
                          "alloy_folder(front MODULES left LINK alloy_config)\n"
                          "alloy_folder(claims MODULES right LINK alloy_config)\n"
                          "alloy_folder(daemon MODULES high LINK alloy_front\n    alloy_claims)\n"
                          "add_executable(alloyd src/daemon/main.c)\n",
        "include/alloy/config_keys.def": c_file("config_keys.def", 'KEY_UINT(ring, capacity, "9", 1, 9, RELOAD, "x")\n'
                                                'KEY_AUTO(ring, threads, 1, 9, RELOAD, "x")\n'),
        "include/alloy/metrics.def": c_file("metrics.def", 'METRIC_GAUGE(x, "alloy_x", "help")\n'),
        "config/alloy.ini": "[stream.events]\npath = /v1\ntable = a.b\n; id = i\n; ttl = 1h\n[ring]\n; capacity = 9\n"
                            "; threads = auto\n",
        "docs/CONFIG.md": "## [stream.NAME]\n| k | d | m |\n| --- | --- | --- |\n| `path` | a | b |\n| `table` | a | b |\n| `id` | a | b |\n"
                          "| `ttl` | a | b |\n## [ring]\n| k | d | m |\n| --- | --- | --- |\n| `capacity` | `9` | b |\n| `threads` | `auto` | b |\n",
        "docs/OPERATIONS.md": "# Operations\n\n## At three in the morning\n\n`redis`, AlloyX\n\n## More\n\n`alloy_x`, `redis`.\n",
        "config/alloy.rules.yml": "- alert: AlloyX\n  runbook: \"OPERATIONS.md#at-three-in-the-morning\"\n",
        "README.md": "[operations](docs/OPERATIONS.md#operations)\n",
        "src/daemon/main.c": c_file("main.c", '#include "high.h"\n\nint main(void)\n{\n    high();\n    return 0;\n}\n'),
        "tool": f"#!/bin/sh\n# {SPDX}\n",
    }
    folders = {"low": "base", "mid": "config", "left": "front", "right": "claims", "high": "daemon"}
    for name, folder in folders.items():
        files[f"include/alloy/{name}.h"] = header(name)
        files[f"src/{folder}/{name}.c"] = source(name)
    for name in ("left", "right", "high"):
        files[f"src/{folders[name]}/{name}.h"] = files.pop(f"include/alloy/{name}.h")
        files[f"src/{folders[name]}/{name}.c"] = source(name).replace("alloy/", "")
    files["include/alloy/left.h"] = files.pop("src/front/left.h")
    files["src/front/left.c"] = source("left", '#include "alloy/mid.h"\n')
    files["src/base/low.c"] = source("low").replace("{\n}", '{\n    /* mid() uses "low" */\n    puts("mid()");\n}')
    files["src/config/mid.c"] = source("mid").replace("{\n}", "{\n    low();\n}").replace(
        "\nvoid mid", '\nconst char *const config_stream_keys[STREAM_KEY_COUNT] = {"path", "table", "id", "ttl"};\n\nvoid mid')
    files["src/daemon/high.c"] = source("high", '#include "alloy/left.h"\n').replace("alloy/high", "high")
    files["src/claims/right.c"] = source("right", '#include "alloy/mid.h"\n#include "alloy/low.h"\n'
                                         '#define RAISE health_raise(h, "redis", 1)\n').replace("alloy/right", "right")
    return files


def add(path, text):
    return lambda files: {path: files.get(path, "") + text}


def replace(path, old, new):
    def change(files):
        assert old in files[path], (path, old)
        return {path: files[path].replace(old, new)}
    return change


def both(*changes):
    return lambda files: {path: text for change in changes for path, text in change(files).items()}


def calls(path, function):
    """A function more in path, which uses another."""
    return add(path, f"\nvoid {pathlib.PurePath(path).stem}_more(void)\n{{\n    {function}();\n}}\n")


LONG_FUNCTION = "\nvoid long_one(void)\n{\n" + "    low();\n" * FUNCTION_LINES_MAX + "}\n"
BAD_INPUT = [
    ("headers", add("include/alloy/low.h", "struct unknown_thing thing(size_t n);\n")),
    ("headers", replace("include/alloy/low.h", "#define ALLOY_LOW_H", "struct twice {\n    int x;\n};")),
    ("layers", replace("src/config/mid.c", '"alloy/mid.h"\n', '"alloy/mid.h"\n#include "alloy/left.h"\n')),
    ("layers", replace("src/claims/right.c", '"alloy/mid.h"\n', '"alloy/left.h"\n')),
    ("layers", replace("include/alloy/low.h", "void low", '#include "alloy/left.h"\nvoid low')),
    ("layers", replace("src/config/mid.c", '"alloy/mid.h"\n', '"alloy/mid.h"\n#include "right.h"\n')),
    ("rooms", replace("src/daemon/high.c", '#include "alloy/left.h"\n', "")),
    ("rooms", add("include/alloy/right.h", header("right"))),
    ("layers", replace("src/base/low.c", '"alloy/low.h"\n', '"alloy/low.h"\n#include "alloy/nobody.h"\n')),
    *(("libraries", replace("src/base/low.c", '"alloy/low.h"\n', f'"alloy/low.h"\n#include <{name}>\n'))
      for name in ("event2/event.h", "hiredis/hiredis.h", "curl/curl.h", "urcu/rculfhash.h", "jansson.h", "ini.h",
                   "sodium.h", "openssl/ssl.h", "systemd/sd-daemon.h", "xxhash.h", "zlib.h", "zstd.h", "cmocka.h")),
    ("sizes", add("src/base/low.c", "\n" * FILE_LINES_MAX)),
    ("sizes", add("src/base/low.c", LONG_FUNCTION)),
    ("sizes", add("src/base/low.c", "/* " + "x" * 100 + " */\n")),
    ("sizes", add("src/base/low.c", "\nvoid six(int a, int b, int c,\n         int d, int e, int f)\n{\n}\n")),
    ("statics", add("src/base/low.c", "\nstatic int finish(void)\n{\n    return 0;\n}\n")),
    ("statics", add("src/base/low_two.c", "static int low_x(void)\n{\n}\n\nstatic void low_y(\n    int a)\n{\n}\n" * 2
                    + "static int high_x(void)\n{\n}\n")),
    ("circles", calls("src/base/low.c", "mid")),
    ("circles", both(calls("src/base/low.c", "left"), calls("src/front/left.c", "mid"))),
    ("circles", both(calls("src/front/left.c", "right_more"), calls("src/claims/right.c", "left"))),
    ("spdx", replace("src/base/low.c", "Apache-2.0", "MIT")),
    ("spdx", replace("src/base/low.c", " * low.c - ", " * high.c - ")),
    ("spdx", replace("tool", f"# {SPDX}\n", "")),
    ("leftovers", add("src/base/low.c", "/* TO" "DO: later */\n")),
    ("leftovers", add("src/base/low.c", "/* FIX" "ME */\n")),
    ("leftovers", add("src/base/low.c", "/* XX" "X */\n")),
    ("leftovers", add("src/base/low.c", "void x(void)\n{\n    sk" "ip();\n}\n")),
    ("leftovers", add("tests/test_x.py", f"# {SPDX}\npytest.sk" "ip()\n")),
    ("leftovers", add("src/base/low.c", "#if 0\n#endif\n")),
    ("leftovers", add("src/base/low.c", "typedef struct low low_t;\n")),
    ("format", add("src/base/low.c", "int  x ;\n")),
    ("config", add("include/alloy/config_keys.def", 'KEY_STR(log, level, "info", RELOAD, "x")\n')),
    ("config", replace("docs/CONFIG.md", "| `capacity` | `9`", "| `capacity` | `8`")),
    ("config", replace("config/alloy.ini", "capacity = 9", "capacity = 8")),
    ("config", replace("config/alloy.ini", "; ttl = 1h\n", "")),
    ("config", add("docs/CONFIG.md", "| `gone` | `1` | b |\n")),
    ("metrics", add("include/alloy/metrics.def", 'METRIC_GAUGE(y, "alloy_y", "help")\n')),
    ("metrics", add("docs/OPERATIONS.md", "`alloy_z`\n")),
    ("reasons", add("src/claims/right.c", '#define ALSO health_raise(h, "clickhouse", 1)\n')),
    ("reasons", replace("docs/OPERATIONS.md", "`redis`, ", "")),
    ("reasons", replace("docs/OPERATIONS.md", ", `redis`.", "")),
    ("alerts", replace("docs/OPERATIONS.md", "AlloyX", "")),
    ("alerts", replace("config/alloy.rules.yml", "#at", "#no")),
    ("alerts", add("config/alloy.rules.yml", "- alert: AlloyY\n")),
    ("cmake", add("src/base/new.c", c_file("new.c", ""))),
    ("cmake", add("src/front/low.c", source("low"))),
    ("cmake", add("tests/unit/nowhere/test_low.c", c_file("test_low.c", ""))),
    ("cmake", replace("CMakeLists.txt", "low)", "low gone)")),
    ("cmake", add("include/alloy/new.h", header("new"))),
    ("links", add("README.md", "[x](docs/NONE.md)\n")),
    ("links", add("README.md", "[x](docs/OPERATIONS.md#nothing)\n")),
    ("links", add("docs/OPERATIONS.md", "[x](../tool)\n")),
    ("tables", add("README.md", "\n| a | b |\n| --- | --- |\n| c | d |\n\n| e | f |\n")),
    ("words", add("README.md", "see /wo" "rk/main\n")),
    ("words", add("README.md", "see /home/someone\n")),
    ("words", add("README.md", "in an earlier ses" "sion\n")),
    ("words", add("README.md", "https://regis" "try.npmjs.org/x\n")),
    ("words", add("README.md", "as FAC" "TS.md says\n")),
]


def write_project(folder, files):
    for path, text in files.items():
        target = pathlib.Path(folder) / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)


def self_test():
    failed = 0
    with tempfile.TemporaryDirectory(prefix="alloy-lint.") as folder:
        clean = clean_project()
        write_project(folder, clean)
        for problem in run_rules(folder, RULES):
            print("self-test: found in the clean project:", *problem)
            failed += 1
        for number, (rule, change) in enumerate(BAD_INPUT):
            changed = change(clean)
            write_project(folder, changed)
            if not run_rules(folder, [rule]):
                print(f"self-test: {rule} does not notice input {number}: {sorted(changed)}")
                failed += 1
            for path in changed:
                if path in clean:
                    write_project(folder, {path: clean[path]})
                else:
                    (pathlib.Path(folder) / path).unlink()
    untested = set(RULES) - {rule for rule, _ in BAD_INPUT}
    for rule in sorted(untested):
        print(f"self-test: nothing shows that {rule} can fail")
    print(f"self-test: {len(BAD_INPUT)} inputs, {failed + len(untested)} failed")
    return failed + len(untested)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--self-test", action="store_true", help="show that each rule can fail")
    parser.add_argument("--root", default=pathlib.Path(__file__).resolve().parents[2], help="the project")
    parser.add_argument("rules", nargs="*", metavar="RULE", help=", ".join(RULES))
    arguments = parser.parse_args()
    unknown = set(arguments.rules) - set(RULES)
    if unknown:
        parser.error(f"no such rule: {', '.join(sorted(unknown))}")
    if arguments.self_test:
        return 1 if self_test() else 0
    problems = run_rules(arguments.root, arguments.rules or RULES)
    for rule, path, line, message in problems:
        print(f"{path}:{line}: {message} [{rule}]" if line else f"{path}: {message} [{rule}]")
    print(f"lint: {len(problems)} problems")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
