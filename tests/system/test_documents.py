# SPDX-License-Identifier: Apache-2.0
"""Configurations and commands that documents show: each is what the program that it is for takes."""

import os
import re
import shutil
import subprocess
import textwrap

import pytest

import harness

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
