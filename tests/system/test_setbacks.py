# SPDX-License-Identifier: Apache-2.0
"""What /stats tells of inserts that ClickHouse did not take, and of dead letters: never the event, unless asked to."""

import json
import signal

import harness
from conftest import sections_for

SECRET = "4111-1111-1111-1111"


def setbacks(alloyd):
    stats = alloyd.admin("/stats").json
    return stats["refused_inserts"], stats["dead_letters"]


def refuse(alloyd, event_id):
    """An event that the table cannot take, with what nobody should read."""
    before = alloyd.books()["dead_lettered"]
    assert alloyd.post(harness.event("good-" + event_id) + "\n" + harness.event(event_id, ts=SECRET)).status == 202
    harness.wait_until(lambda: alloyd.books()["dead_lettered"] == before + 1, alloyd.books)


def test_a_refused_event_is_told_and_not_shown(alloyd):
    assert setbacks(alloyd) == ([], [])
    refuse(alloyd, "a")
    inserts, letters = setbacks(alloyd)
    assert [(i["stream"], i["class"], i["rows"], i["times"], i["message"]) for i in inserts] == [
        ("events", "bad_rows", 2, 1, None)]
    assert inserts[0]["code"] > 0 and inserts[0]["status"] >= 400 and inserts[0]["time"] >= inserts[0]["first"]
    assert [(x["stream"], x["code"], x["times"], x["message"], x["event"]) for x in letters] == [
        ("events", letters[0]["code"], 1, None, None)]
    assert SECRET not in alloyd.admin("/stats").body.decode()
    refuse(alloyd, "b")
    assert setbacks(alloyd)[1][0]["times"] == 2  # the same again


def test_the_operator_can_have_events_shown(alloyd):
    refuse(alloyd, "before")
    alloyd.sections["admin"]["show_events"] = "on"
    alloyd.write_ini()
    alloyd.signal(signal.SIGHUP)
    harness.wait_until(lambda: "show_events" in alloyd.log(), alloyd.log)
    assert setbacks(alloyd)[1][0]["event"] is None  # what was not kept cannot be shown
    refuse(alloyd, "shown")
    inserts, letters = setbacks(alloyd)
    shown = json.loads(letters[0]["event"])
    assert (shown["event_id"], shown["ts"]) == ("shown", SECRET)
    assert "Code: " in letters[0]["message"] and "Code: " in inserts[0]["message"]
    assert alloyd.post(harness.event("long", ts=SECRET, note="é" * 5000)).status == 202
    harness.wait_until(lambda: alloyd.books()["dead_lettered"] == 3, alloyd.books)
    assert 900 < len(setbacks(alloyd)[1][0]["event"].encode()) <= 1000
    alloyd.sections["admin"]["show_events"] = "off"
    alloyd.write_ini()
    alloyd.signal(signal.SIGHUP)
    harness.wait_until(lambda: SECRET not in alloyd.admin("/stats").body.decode(), "what was kept is hidden")


def test_what_is_wrong_with_table_or_link_is_told_in_words(make_alloyd, own_clickhouse):
    alloyd = make_alloyd(sections_for(None, own_clickhouse, "default.events", clickhouse={"retry_max": "200ms"})).start()
    own_clickhouse.kill()
    assert alloyd.post(harness.event("a")).status == 202
    gone = harness.wait_until(lambda: (i := setbacks(alloyd)[0]) and i[0]["times"] > 1 and i[0], lambda: setbacks(alloyd))
    assert (gone["class"], gone["code"], gone["status"]) == ("retry", None, None) and gone["message"]
    own_clickhouse.start()
    alloyd.settled()
    own_clickhouse.query("DROP TABLE default.events")
    assert alloyd.post(harness.event("b")).status == 202
    lost = harness.wait_until(lambda: (i := setbacks(alloyd)[0]) and i[0]["class"] == "misconfigured" and i[0],
                              lambda: setbacks(alloyd))
    assert lost["code"] == 60 and "events" in lost["message"]
    own_clickhouse.create_events("default.events")
    alloyd.settled()
    assert setbacks(alloyd)[1] == []


def test_a_client_is_told_where_to_send(make_alloyd, tmp_path):
    sections = sections_for(None, None, "default.events", stream__hooks={
        "path": "/hooks/*, /v2/hooks", "table": "default.clicks", "id": "header:X-Delivery|/data/id, kind"})
    alloyd = make_alloyd(sections)
    alloyd.sections["server"]["listen"] = f"127.0.0.1:{alloyd.port}, [::1]:{alloyd.port}, unix:{tmp_path}/s"
    stats = alloyd.start().admin("/stats").json
    assert stats["listen"] == [f"http://127.0.0.1:{alloyd.port}", f"http://[::1]:{alloyd.port}", f"unix:{tmp_path}/s"]
    assert {key: stats["streams"]["hooks"][key] for key in ("path", "table", "id")} == {
        "path": "/hooks/*", "table": "default.clicks", "id": ["header:x-delivery", "kind"]}
