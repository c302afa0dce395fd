# SPDX-License-Identifier: Apache-2.0
"""alloyctl's commands as a whole: help of its own for each, and facts as JSON."""

import json
import subprocess

import pytest

import harness
from test_dead_letter import alloyctl, write_letters


def commands():
    """Every command as alloyctl itself lists them."""
    return json.loads(alloyctl("--help", "--json").stdout)["commands"]


def as_json(*words, status=0):
    done = alloyctl(*words, "--json", status=status)
    return json.loads(done.stdout)


def test_every_command_has_help_and_stands_in_the_list():
    listed = alloyctl("--help").stdout
    assert len(commands()) > 8
    for command in commands():
        name = command["name"]
        text = alloyctl(*name.split(), "--help").stdout
        assert text == alloyctl("help", *name.split()).stdout
        assert text.startswith(f"Usage: alloyctl {name} "), name
        assert max(map(len, text.splitlines())) <= 80, name
        if command["group"]:
            continue
        assert f"  {name} " in listed
        assert ("\n  --json " in text) == command["json"], name
        for option in command["options"]:
            assert f"--{option['name']}" in text, name


def test_a_misspelt_command_or_option_is_guessed():
    for words, told in ((["jurnal"], "did you mean 'journal'?"), (["inspect"], "did you mean 'journal inspect'?"),
                        (["dead-letter", "reply"], "did you mean 'dead-letter replay'?"),
                        (["bury", "a", "--admn", "http://h"], "did you mean '--admin'?")):
        assert told in alloyctl(*words, status=2).stderr, words


def test_letters_as_json(tmp_path):
    write_letters(tmp_path / "a-20260131T120000Z-1.ndjson", 2, "a")
    write_letters(tmp_path / "b-20260131T120000Z-1.ndjson.replayed", 1, "b")
    lines = (tmp_path / "a-20260131T120000Z-1.ndjson").read_text().splitlines()
    listed = as_json("dead-letter", "list", tmp_path)
    assert [(f["state"], f["events"]) for f in listed["files"]] == [("waiting", 2), ("replayed", 1)]
    assert listed["events"] == 3 and listed["not_replayed"][0]["events"] == 2
    letters = as_json("dead-letter", "show", tmp_path)["letters"]
    assert letters == [json.loads(line) for line in lines]
    assert as_json("dead-letter", "show", "--code", "1", tmp_path) == {"letters": []}
    (tmp_path / "empty").mkdir()
    assert as_json("dead-letter", "list", tmp_path / "empty")["files"] == []


def test_journal_as_json(make_alloyd):
    alloyd = make_alloyd({"stream.events": {"table": "default.t"}, "redis": {"url": ""}, "drain": {"timeout": "1s"},
                          "clickhouse": {"url": f"http://127.0.0.1:{harness.free_port()}"}})
    alloyd.start(ready=False)
    assert alloyd.post("".join(harness.event(f"e{i}") for i in range(5))).status == 202
    journal = alloyd.sections["journal"]["dir"]
    inspected = as_json("journal", "inspect", journal)
    assert inspected["live"] == 5 and inspected["last_user"] == {"pid": alloyd.pid, "running": True}
    assert [(s["stream"], s["live"]) for s in inspected["streams"]] == [("events", 5)]
    assert sum(s["live"] for s in inspected["segments"]) == 5 and inspected["problems"] == []
    assert as_json("journal", "verify", journal)["records"] == 5


def test_keys_as_json(tmp_path):
    keys = tmp_path / "keys"
    added = as_json("key", "add", "web", "--rate", "5", "--file", keys)
    assert added["name"] == "web" and len(added["key"]) > 20
    assert as_json("key", "list", "--file", keys) == {"keys": [{"name": "web", "streams": "*", "rate": 5}]}
    assert as_json("key", "remove", "web", "--file", keys)["removed"] == "web"


@pytest.mark.parametrize("words", [["dead-letter", "list", "/nowhere"], ["journal", "inspect", "/nowhere"],
                                   ["key", "list", "--file", "/nowhere"]])
def test_a_failure_prints_no_document(words):
    done = alloyctl(*words, "--json", status=1)
    assert done.stdout == "" and "/nowhere" in done.stderr


def test_a_full_disk_is_a_failure():
    with open("/dev/full", "wb") as full:
        done = subprocess.run([harness.BUILD / "alloyctl", "--help"], stdout=full, stderr=subprocess.PIPE, timeout=60)
    assert done.returncode == 1 and b"standard output" in done.stderr
