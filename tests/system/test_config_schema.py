# SPDX-License-Identifier: Apache-2.0
"""alloyd --config-schema: it is a JSON Schema, takes what alloyd takes, and refuses what alloyd refuses."""

import configparser
import json
import re
import subprocess

import pytest

import harness

# scripts/install --test installs it. Without it nothing of this can be known, so that is a failure.
import jsonschema

ALLOYD = harness.BUILD / "alloyd"
SHIPPED = harness.ROOT / "config" / "alloy.ini"


@pytest.fixture(scope="module")
def schema():
    run = subprocess.run([ALLOYD, "--config-schema"], capture_output=True, check=True)
    assert run.stderr == b""
    return json.loads(run.stdout)


def sections(text):
    """The INI text as {section: {key: value}}; what stands before the first section is at the top."""
    parser = configparser.RawConfigParser(interpolation=None, comment_prefixes=(";", "#"),
                                          inline_comment_prefixes=(" ;",), delimiters=("=",))
    parser.optionxform = str
    top = "\0"
    parser.read_string(f"[{top}]\n{text}")
    found = {section: dict(parser[section]) for section in parser.sections()}
    return {**found.pop(top), **found}


def valid(schema, config):
    return jsonschema.Draft202012Validator(schema).is_valid(config)


def shipped(commented=False):
    """The shipped file, or with each key that it shows as a comment too."""
    text = SHIPPED.read_text()
    return re.sub(r"^; ([a-z_.]+ ?= ?.*)$", r"\1", text, flags=re.M) if commented else text


def test_it_is_valid_against_the_meta_schema(schema):
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    jsonschema.Draft202012Validator.check_schema(schema)


@pytest.mark.parametrize("commented", [False, True])
def test_the_shipped_configuration_is_valid(schema, commented):
    config = sections(shipped(commented))
    jsonschema.Draft202012Validator(schema).validate(config)
    assert len(config) > 10


def test_what_alloyd_prints_is_valid(schema):
    dump = subprocess.run([ALLOYD, "--dump-config", "--config", SHIPPED, "--set", "stream.events.preset=segment"],
                          capture_output=True, check=True, text=True).stdout
    jsonschema.Draft202012Validator(schema).validate(sections(dump))


def test_every_default_of_the_schema_is_that_of_the_shipped_file_and_a_valid_value(schema):
    config = sections(shipped(commented=True))
    streams = next(iter(schema["patternProperties"].values()))["properties"]
    for section, keys in {**schema["properties"], "stream.events": {"properties": streams}}.items():
        if section == "include":
            continue
        for key, row in keys["properties"].items():
            if "default" in row:
                jsonschema.Draft202012Validator({**schema, **row}).validate(row["default"])
                assert config[section][key] == row["default"], (section, key)
            assert len(row["description"]) > 20, (section, key)


def test_what_a_change_takes_is_what_the_document_says(schema):
    section, count = None, 0
    for line in (harness.ROOT / "docs" / "CONFIG.md").read_text().splitlines():
        heading = re.match(r"## \[([\w.]+)\]", line)
        section = heading[1] if heading else section
        row = re.match(r"\| `([\w.]+)` \| .* \| (reload|restart) \|", line)
        if row:
            part = next(iter(schema["patternProperties"].values())) if section == "stream.NAME" else schema["properties"][section]
            key = part["properties"].get(row[1]) or next(iter(part["patternProperties"].values()))
            assert key["description"].endswith(f"A change takes a {row[2]}."), (section, row[1])
            count += 1
    assert count > 60


def test_a_misspelt_key_or_section_is_refused(schema):
    config = sections(shipped(commented=True))
    for section, keys in config.items():
        for key in keys:
            for wrong in (key + "s", key[:-1], key.upper(), "x" + key):
                if wrong in keys or key.startswith(("column.", "setting.")) and wrong.startswith(("column.", "setting.")):
                    continue
                changed = {**keys, wrong: keys[key]}
                assert not valid(schema, {**config, section: changed}), (section, wrong)
        if not section.startswith("stream."):
            assert not valid(schema, {**config, section + "x": keys}), section
    assert not valid(schema, {**config, "stream": config["stream.events"]})
    assert not valid(schema, {**config, "stream.a b": config["stream.events"]})


VALUES = ["", "on", "off", "0", "1", "4x", "1.5", "-1", "9s", "9 s", "9m", "64MiB", "64 MiB", "64MB", "auto", "refuse",
          "info", "nonsense"]


@pytest.mark.parametrize("value", VALUES)
def test_a_value_that_is_refused_is_refused_by_alloyd_too(schema, tmp_path, value):
    """The schema may take what alloyd refuses (a range, a file that is not there), and never the other way round."""
    streams = next(iter(schema["patternProperties"].values()))["properties"]
    lines = ["[stream.a]", "table = default.events"]
    refused = {}
    for section, keys in {**schema["properties"], "stream.b": {"properties": streams}}.items():
        lines.append(f"[{section}]" if section != "include" else "")
        if section == "stream.b":
            lines.append("path = /b")
        for key in keys.get("properties", ()):
            config = {"stream.a": {"table": "default.events"}, section: {"table": "a.b", key: value}}
            if section != "stream.b":
                del config[section]["table"]
            if key != "path" and not valid(schema, config):
                lines.append(f"{key} = {value}")
                refused[len(lines)] = section, key
    ini = tmp_path / "try.ini"
    ini.write_text("\n".join(lines) + "\n")
    run = subprocess.run([ALLOYD, "--check", "--config", ini], stderr=subprocess.PIPE, check=False, text=True)
    assert len(refused) > 5
    for line, key in refused.items():
        assert f"try.ini:{line}: " in run.stderr, (key, value, run.stderr)


def test_every_word_that_alloyd_would_have_taken_is_valid(schema, tmp_path):
    """What alloyd says a value must be one of, for each key that has such words."""
    streams = next(iter(schema["patternProperties"].values()))["properties"]
    lines, keys = ["[stream.a]", "table = default.events"], {}
    for key in [*streams, "column.c"]:
        if key not in ("table", "path"):
            lines.append(f"{key} = nonsense")
            keys[len(lines)] = "stream.a", key
    for section, part in schema["properties"].items():
        if "properties" in part:
            lines.append(f"[{section}]")
            for key in part["properties"]:
                lines.append(f"{key} = nonsense")
                keys[len(lines)] = section, key
    ini = tmp_path / "try.ini"
    ini.write_text("\n".join(lines) + "\n")
    said = subprocess.run([ALLOYD, "--check", "--config", ini], stderr=subprocess.PIPE, check=False, text=True).stderr
    found = 0
    for number, words in re.findall(r"try\.ini:(\d+): .*nonsense: (?:must be(?: one of:)?|there is no such preset; there are) "
                                    r"([a-z_]+(?:(?:, | or )[\w:]+)+)$", said, re.M):
        section, key = keys[int(number)]
        for word in re.split(r", | or ", words):
            config = {"stream.a": {"table": "a.b"}}
            config.setdefault(section, {})[key] = word
            assert valid(schema, config), (section, key, word)
            found += 1
    assert found > 40


def test_names_as_clickhouse_allows_them_are_valid(schema):
    for table in ("my-db.events", "größe.событие", "`my.db`.t", "db.`a``b`", '"a".b'):
        assert valid(schema, {"stream.a": {"table": table}}), table
    for column in ("n.a", "`a=b`", "größe", "a b"):
        assert valid(schema, {"stream.a": {"table": "a.b", f"column.{column}": "path"}}), column


def test_wrong_words_numbers_and_units_are_refused(schema):
    def one(section, key, value):
        return valid(schema, {"stream.events": {"table": "a.b"}, section: {key: value}})

    assert one("log", "level", "warn") and not one("log", "level", "loud")
    assert one("server", "max_body", "4 MiB") and not one("server", "max_body", "4MB")
    assert one("drain", "timeout", "0") and one("drain", "timeout", "2min") and not one("drain", "timeout", "2")
    assert one("worker", "threads", "auto") and one("worker", "threads", 4) and not one("worker", "threads", 65)
    assert one("server", "proxy_protocol", "on") and not one("server", "proxy_protocol", "yes")
    assert one("clickhouse", "setting.insert_quorum", "2") and not one("clickhouse", "setting.", "2")
    # A variable is known only where it is read.
    assert one("log", "level", "${LEVEL:-info}") and one("server", "max_body", "${SIZE}MiB")


def test_a_stream_needs_a_table_and_takes_columns(schema):
    assert not valid(schema, {"stream.events": {}})
    assert valid(schema, {"stream.events": {"table": "a.b", "column.came": "received_at", "column.h": "header:X-A"}})
    assert not valid(schema, {"stream.events": {"table": "a.b", "column.came": "sometime"}})
    assert valid(schema, {"include": "conf.d/*.ini", "stream.a": {"table": "a.b"}})
