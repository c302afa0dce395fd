# SPDX-License-Identifier: Apache-2.0
"""The alert rules, in Prometheus's own test: tests/rules/alloy.test.yml."""

import re
import subprocess

import harness

RULES = harness.ROOT / "config" / "alloy.rules.yml"
TESTS = harness.ROOT / "tests" / "rules" / "alloy.test.yml"


def promtool(*words, **more):
    done = subprocess.run(["promtool", *words], capture_output=True, text=True, **more)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_rules_are_well_formed():
    promtool("check", "rules", RULES)


def test_each_alert_fires_when_it_should_and_not_else(tmp_path):
    # An expected alert names its annotations too, word by word: these are no business of this test.
    bare = re.sub(r"^ {8}annotations:\n(?: {10}.*\n)+", "", RULES.read_text(), flags=re.M)
    assert "summary" not in bare and len(re.findall("- alert:", bare)) == len(re.findall("summary:", RULES.read_text()))
    (tmp_path / "alloy.rules.yml").write_text(bare)
    (tmp_path / "alloy.test.yml").write_text(TESTS.read_text())
    promtool("test", "rules", "alloy.test.yml", cwd=tmp_path)


def test_each_alert_has_a_test_that_fires_and_one_that_does_not():
    alerts = re.findall(r"- alert: (\w+)", RULES.read_text())
    for alert in alerts:
        test = re.search(rf"  - name: {alert}\n(.*?)(?=\n  - name|\Z)", TESTS.read_text(), re.S)
        assert test and 'instance="well"' in test[1] and "exp_alerts" in test[1], alert
        assert len(re.findall(f"alertname: {alert}$", test[1], re.M)) == 2, alert
    assert len(set(alerts)) == len(alerts) == len(re.findall("  - name:", TESTS.read_text()))
