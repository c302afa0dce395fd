# SPDX-License-Identifier: Apache-2.0
"""The dashboard for Grafana and the alert rules, asked of a real Prometheus that scrapes a loaded alloyd."""

import itertools
import json
import math
import re
import threading
import urllib.error
import urllib.parse
import urllib.request

import pytest

import harness
from conftest import sections_for

DASHBOARD = harness.ROOT / "config" / "grafana" / "alloy.json"
RULES = harness.ROOT / "config" / "alloy.rules.yml"
ROWS = ["Health and conditions", "Traffic by stream", "Latency", "Inserts", "Claims and known ids",
        "Journal and dead letters", "Process"]
# What only trouble fills that this test does not make.
EMPTY_WHILE_WELL = {"Starts"}


def dashboard():
    return json.loads(DASHBOARD.read_text())


def expressions():
    """(title, expression) of everything that the dashboard asks for."""
    board = dashboard()
    for panel in board["panels"]:
        for target in panel.get("targets", []):
            yield panel["title"], target["expr"]
    for annotation in board["annotations"]["list"]:
        yield annotation["name"], annotation["expr"]
    for variable in board["templating"]["list"]:
        metric, label = re.fullmatch(r"label_values\((.*), (\w+)\)", variable["query"]["query"]).groups()
        yield f"${variable['name']}", f'count by ({label}) ({metric}) and on ({label}) {metric}'


def as_grafana_sends_it(expression):
    for name, value in (("$job", ".*"), ("$instance", ".*"), ("$stream", ".*"), ("$__rate_interval", "5s")):
        expression = expression.replace(name, value)
    assert "$" not in expression, expression
    return expression


class Prometheus(harness.Process):
    def __init__(self, folder, target):
        super().__init__("prometheus", folder)
        self.port = harness.free_port()
        self.config = folder / "prometheus.yml"
        self.config.write_text(f"""
global: {{scrape_interval: 1s, evaluation_interval: 1s}}
rule_files: ["{RULES}"]
scrape_configs: [{{job_name: alloy, static_configs: [{{targets: ["{target}"]}}]}}]
""")
        self.data = folder / "prometheus-data"

    def start(self):
        self.spawn(["prometheus", f"--config.file={self.config}", f"--storage.tsdb.path={self.data}",
                    f"--web.listen-address=127.0.0.1:{self.port}", "--log.level=warn"])
        self.wait_ready(lambda: self.ask("/-/ready") is not None)
        return self

    def ask(self, path, **arguments):
        url = f"http://127.0.0.1:{self.port}{path}?{urllib.parse.urlencode(arguments)}"
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                return answer.read()
        except urllib.error.HTTPError as error:
            if error.code == 503:
                return None
            raise AssertionError(f"{arguments}: {error.read().decode()}") from None
        except OSError:
            return None

    def query(self, expression):
        """Values that are numbers."""
        result = json.loads(self.ask("/api/v1/query", query=expression))["data"]["result"]
        return [value for value in (float(series["value"][1]) for series in result) if not math.isnan(value)]


@pytest.fixture
def prometheus(make_alloyd, redis, clickhouse, table, tmp_path):
    """A Prometheus beside an alloyd under load, with a little trouble: a stream without a table, and a bad row."""
    sections = sections_for(redis, clickhouse, table, drain={"timeout": "500ms"}, clickhouse={"retry_max": "300ms"},
                            log={"level": "info"},
                            stream__clicks={"path": "/v1/clicks", "table": "default.no_such_table", "id": "event_id"})
    alloyd = make_alloyd(sections).start()
    stop = threading.Event()

    def load():
        client = alloyd.client()
        for n in itertools.count():
            if stop.wait(0.05):
                return
            body = "\n".join(harness.event(f"id-{n}-{i % 15}") for i in range(20))
            assert harness.request(client, body).status == 202
            assert harness.request(client, harness.event(f"click-{n}"), "/v1/clicks").status == 202
            assert harness.request(client, "{").status == 400
            if n % 20 == 0:
                assert harness.request(client, harness.event(f"bad-{n}", ts="never")).status == 202

    loader = threading.Thread(target=load)
    loader.start()
    prometheus = Prometheus(tmp_path, f"127.0.0.1:{alloyd.admin_port}").start()
    try:
        yield prometheus
    finally:
        stop.set()
        loader.join()
        prometheus.kill()


def test_every_query_of_the_dashboard_and_every_rule_has_an_answer(prometheus):
    waiting = {(title, as_grafana_sends_it(expression)) for title, expression in expressions()}
    assert len(waiting) > 50

    def answered():
        waiting.difference_update({pair for pair in waiting if prometheus.query(pair[1])})
        return {title for title, _ in waiting} <= EMPTY_WHILE_WELL

    harness.wait_until(answered, lambda: f"no data: {sorted(waiting)}", deadline=30)
    for title, expression in waiting:
        assert prometheus.query(expression) == [], title  # it is well formed, and has nothing to say

    def rules():
        groups = json.loads(prometheus.ask("/api/v1/rules"))["data"]["groups"]
        return [rule for group in groups for rule in group["rules"]]

    harness.wait_until(lambda: all(rule["health"] != "unknown" for rule in rules()), rules)
    assert [rule for rule in rules() if rule["health"] != "ok" or rule.get("lastError")] == []
    assert len(rules()) == RULES.read_text().count("- alert:")
    # Alerts without a wait have fired by now: those that the trouble is for, with texts.
    harness.wait_until(lambda: {"AlloyDeadLetters", "AlloyInsertsRefused"} <=
                       {rule["name"] for rule in rules() if rule["state"] == "firing"}, rules)
    for rule in rules():
        for alert in rule["alerts"]:
            assert "error" not in " ".join(alert["annotations"].values()).lower(), alert


def test_the_dashboard_is_well_formed():
    board = dashboard()
    assert [p["title"] for p in board["panels"] if p["type"] == "row"] == ROWS
    assert board["__inputs"][0]["name"] == "DS_PROMETHEUS" and board["id"] is None
    assert len({p["id"] for p in board["panels"]}) == len(board["panels"])
    taken = set()
    for panel in board["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24, panel["title"]
        cells = {(x, y) for x in range(place["x"], place["x"] + place["w"]) for y in range(place["y"], place["y"] + place["h"])}
        assert not cells & taken, panel["title"]
        taken |= cells
        if panel["type"] == "row":
            continue
        assert panel["datasource"]["uid"] == "${DS_PROMETHEUS}" and panel["targets"], panel["title"]
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])
        for target in panel["targets"]:
            assert 'instance=~"$instance"' in target["expr"], target["expr"]
