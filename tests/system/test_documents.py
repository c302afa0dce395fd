# SPDX-License-Identifier: Apache-2.0
"""Configurations and commands that documents show: each is what the program that it is for takes."""

import contextlib
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import textwrap

import pytest

import harness
from conftest import sections_for

DOCS = harness.ROOT / "docs"


def blocks(path):
    """Indented blocks of a document (and of its lists), without their indentation."""
    found, lines = [], []
    for line in [*(DOCS / path).read_text().splitlines(), "the end"]:
        if line.startswith("    ") or (not line and lines):
            lines.append(line)
        elif lines:
            found.append(textwrap.dedent("\n".join(lines)).strip() + "\n")
            lines = []
    return found


def run(*argv, **more):
    result = subprocess.run([str(a) for a in argv], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
                            **more)
    assert result.returncode == 0, f"{argv}: {result.stdout[-2000:]}"
    return result.stdout


def block(path, beginning):
    (found,) = [text for text in blocks(path) if text.startswith(beginning)]
    return found


def need(tool):
    if shutil.which(tool) is None:
        pytest.fail(f"{tool} is not installed: run scripts/install --test")


# ---- README


def test_the_first_events_of_the_readme_are_answered_as_it_says(make_alloyd):
    alloyd = make_alloyd(sections_for(None, None, "default.events")).start()
    shown = (harness.ROOT / "README.md").read_text().partition("## The first event")[2].partition("\n## ")[0]
    told = re.findall(r"^    \$ (curl .*)\n((?:    .*\n|\n(?=    \{))*)", shown, re.M)
    assert len(told) == 3
    for command, wanted in told:
        got = run("bash", "-c", command.replace("curl ", "curl -sS ", 1).replace("127.0.0.1:8080", f"127.0.0.1:{alloyd.port}"))
        dated = re.sub(r"^Date: .*$", "Date: now", got.replace("\r", ""), flags=re.M)
        assert dated == re.sub(r"^Date: .*$", "Date: now", textwrap.dedent(wanted).rstrip(), flags=re.M)


# ---- balancers


def test_nginx_takes_its_snippet(tmp_path):
    need("nginx")
    conf = tmp_path / "nginx.conf"
    conf.write_text("events {}\nhttp {\n" + block("BALANCERS.md", "upstream alloy").replace("listen 80", "listen 127.0.0.1:8")
                    + "}\n")
    run("nginx", "-t", "-p", tmp_path, "-e", "stderr", "-g", f"pid {tmp_path}/pid;", "-c", conf)


def test_haproxy_takes_its_snippet(tmp_path):
    need("haproxy")
    (tmp_path / "haproxy.cfg").write_text(block("BALANCERS.md", "frontend events"))
    assert "WARNING" not in run("haproxy", "-c", "-f", tmp_path / "haproxy.cfg")


def test_caddy_takes_its_snippet_and_the_example(tmp_path):
    need("caddy")
    (tmp_path / "Caddyfile").write_text(block("BALANCERS.md", "events.example.org"))
    env = dict(os.environ, HOME=str(tmp_path), XDG_DATA_HOME=str(tmp_path), XDG_CONFIG_HOME=str(tmp_path))
    for file in (tmp_path / "Caddyfile", DOCS / "examples" / "Caddyfile"):
        assert "Valid configuration" in run("caddy", "validate", "--adapter", "caddyfile", "--config", file, env=env)


# ---- moving to Alloy


def ini_blocks(path):
    return [text for text in blocks(path) if re.match(r"\[(stream\.|server\])", text)]


def read_ini(text):
    sections = {}
    for line in text.splitlines():
        if line.startswith("["):
            keys = sections.setdefault(line.strip("[]"), {})
        elif "=" in line and not line.startswith(";"):
            key, _, value = line.partition("=")
            keys[key.strip()] = value.strip()
    return sections


def test_every_configuration_of_the_migrations_is_good(tmp_path):
    (tmp_path / "keys").touch()
    found = ini_blocks("MIGRATION.md")
    assert len(found) == 3
    for number, text in enumerate(found):
        ini = tmp_path / f"{number}.ini"
        ini.write_text(text.replace("/var/lib/alloy/keys", str(tmp_path / "keys")))
        run(harness.BUILD / "alloyd", "--check", "--config", ini)


def test_the_table_and_the_view_of_segment_take_what_its_sdk_sends(make_alloyd, redis, clickhouse):
    for name in ("CREATE TABLE default.web", "CREATE VIEW default.order_completed"):
        for sql in block("MIGRATION.md", "CREATE TABLE default.web").split("\n\n"):
            if sql.startswith(name):
                clickhouse.query(sql)
    sections = read_ini(next(text for text in ini_blocks("MIGRATION.md") if "segment" in text))
    del sections["server"], sections["auth"]
    alloyd = make_alloyd({**sections, "redis": {"url": redis.url}, "clickhouse": {"url": clickhouse.url}}).start()
    event = {"type": "track", "event": "Order Completed", "messageId": "m-1", "userId": "u-1", "anonymousId": "a-1",
             "timestamp": "2026-01-31T12:00:00.123Z", "properties": {"orderId": "o-1", "total": 59.9}, "context": {"ip": "192.0.2.1"}}
    body = json.dumps({"batch": [event], "sentAt": "2026-01-31T12:00:01Z", "writeKey": "k"})
    for _ in range(2):
        assert alloyd.post(body, "/v1/batch").json == {"success": True}
    alloyd.settled("web")
    assert clickhouse.rows("SELECT id, user_id, order_id, total FROM default.order_completed") == [["m-1", "u-1", "o-1", 59.9]]


# ---- the tutorial


def tutorial(ports):
    """Its commands as one script, in which what should be seen is printed behind what is."""
    script = []
    for text in blocks("TUTORIAL.md"):
        heredoc = False
        for line in text.splitlines():
            if line.startswith("# ") and not heredoc:
                line = f"printf '\\n%s\\n' {shlex.quote('SHOULD ' + line[2:])}"
            elif line.startswith(("scripts/install", "cmake ")):
                line = ""  # the build is there
            heredoc = (heredoc or "<<'END'" in line) and line != "END"
            script.append(line)
    script = "\n".join(script)
    for port, free in ports.items():
        script = re.sub(rf"(127\.0\.0\.1:|--port |http\.server ){port}\b", rf"\g<1>{free}", script)
    listen = f"[server]\nlisten = 127.0.0.1:{ports[8080]}\n[admin]\nlisten = 127.0.0.1:{ports[8081]}\n"
    script, count = re.subn(r"^\[stream\.visits\]$", lambda _: listen + "[stream.visits]", script, count=1, flags=re.M)
    assert count == 1
    # A look at the page, before everything is broken. A person looks until the last visit is there; the browser, whose helpers
    # may outlive it, writes elsewhere than into the folder that the last command removes.
    engine, site = f"http://127.0.0.1:{ports[8123]}", f"http://127.0.0.1:{ports[8000]}/visits.html"
    page = (f"until curl --silent --fail --output /dev/null {site}; do sleep 0.2; done\n"
            f"until [ \"$(curl --silent '{engine}/?query=SELECT+count()+FROM+visits')\" = 20006 ]; do sleep 0.2; done\n"
            f"chromium --headless --no-sandbox --disable-gpu --user-data-dir=\"$HOME/browser\" --virtual-time-budget=5000 "
            f"--dump-dom '{site}?clickhouse={engine}' 2>browser.log")
    script, count = re.subn(r"^kill -9 \$clickhouse;.*$", lambda found: f"{page}\n{found[0]}", script, count=1, flags=re.M)
    assert count == 1
    return script


def test_every_command_of_the_tutorial_does_what_it_says(tmp_path):
    ports = {port: harness.free_port() for port in (6400, 8000, 8080, 8081, 8123)}
    env = dict(os.environ, HOME=str(tmp_path), PATH=f"{harness.BUILD}:{os.environ['PATH']}")
    env.setdefault("XDG_CACHE_HOME", os.path.expanduser("~/.cache"))  # where the engine is
    script = f"set -eu\ntrap 'kill $(jobs -p) 2>/dev/null || true' EXIT\n{tutorial(ports)}"
    with open(tmp_path / "seen", "w", encoding="utf-8") as out:  # no pipe, which a helper of the browser would hold open
        bash = subprocess.Popen(["bash", "--norc", "-c", script], stdin=subprocess.DEVNULL, stdout=out, stderr=out, cwd=harness.ROOT,
                                env=env, start_new_session=True)
        try:
            status = bash.wait(300)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(bash.pid, signal.SIGKILL)
    seen = (tmp_path / "seen").read_text()
    assert status == 0, seen[-3000:]
    pairs = re.findall(r"^(.*)\n+SHOULD (.*)$", seen, re.M)
    assert len(pairs) >= 11
    for got, wanted in pairs:
        assert got == wanted
    text = re.sub(r"<[^>]*>", " ", seen.partition("<title>Visits")[2].partition("</html>")[0])
    assert re.search(r"\b20006\s+visits\b", text) and re.search(r"\bAs of\b", text), text
    assert seen.count("<rect ") > 20
    assert "yesterday" in seen  # the dead letter
    assert not (tmp_path / "alloy-tutorial").exists()
