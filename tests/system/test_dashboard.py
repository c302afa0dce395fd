# SPDX-License-Identifier: Apache-2.0
"""The page at / of the admin port, in a real browser: idle, under load, in trouble, narrow, dark; and what it may ask for."""

import re
import signal

import pytest

import browser
import harness
from conftest import sections_for

RIGHT, LEFT, ESCAPE = "\ue014", "\ue012", "\ue00c"


@pytest.fixture(scope="session")
def shared_window(tmp_path_factory):
    window = browser.Browser(tmp_path_factory.mktemp("browser")).start()
    yield window
    window.stop()


@pytest.fixture
def window(shared_window):
    """The shared browser, light and wide. At the end: no error in its console, and it has asked nobody else."""
    shared_window.set_dark(False)
    shared_window.set_width(1280)
    shared_window.allowed_hosts, shared_window.may_complain = set(), False
    shared_window.hosts()
    yield shared_window
    complaints, hosts = shared_window.complaints(), shared_window.hosts()
    assert complaints == [] or shared_window.may_complain, complaints
    assert hosts <= shared_window.allowed_hosts, hosts
    shared_window.open("about:blank")


def visit(window, alloyd):
    window.allowed_hosts.add(f"127.0.0.1:{alloyd.admin_port}")
    window.open(f"http://127.0.0.1:{alloyd.admin_port}/")
    window.wait("return past.figures !== null && past.figures.received.length > 0")
    return window


def two_streams(redis, clickhouse, table, **more):
    return sections_for(redis, clickhouse, table, stream__clicks={"path": "/v1/clicks", "table": table, "id": "event_id"}, **more)


def overlaps(window):
    """Texts of figures and charts that lie over each other, or out of their card."""
    return window.run("""
        const found = [], boxes = [...document.querySelectorAll(".plot text, .tile *, .legend li, figcaption, #state, h1, td, th")]
            .filter(e => e.checkVisibility() && e.textContent.trim() && !e.closest(".unseen"));
        const rect = e => e.getBoundingClientRect();
        for (const e of boxes) {
            const r = rect(e), card = e.closest(".chart, .tile, table");
            if (r.left < -1 || r.right > innerWidth + 1) found.push("out of the page: " + e.textContent);
            if (card && (r.left < rect(card).left - 1 || r.right > rect(card).right + 1)) found.push("out of its card: " + e.textContent);
        }
        for (const plot of document.querySelectorAll(".plot")) {
            const texts = [...plot.querySelectorAll("text")];
            texts.forEach((a, i) => texts.slice(i + 1).forEach(b => {
                const p = rect(a), q = rect(b);
                if (p.left < q.right && q.left < p.right && p.top < q.bottom && q.top < p.bottom)
                    found.push(a.textContent + " over " + b.textContent);
            }));
        }
        return found;""")


def contrast(window):
    """Texts whose contrast with what is behind them is below 4.5 (WCAG 2.1, AA)."""
    return window.run("""
        const rgb = text => text.match(/[\\d.]+/g).map(Number);
        const light = c => c.slice(0, 3).map(v => (v /= 255) <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
            .reduce((n, v, i) => n + v * [.2126, .7152, .0722][i], 0);
        const behind = e => {
            for (; e; e = e.parentElement) {
                const c = rgb(getComputedStyle(e).backgroundColor);
                if (c.length === 3 || c[3] > 0) return c;
            }
            return [255, 255, 255];
        };
        const found = [];
        for (const e of document.querySelectorAll("body *")) {
            const text = [...e.childNodes].filter(n => n.nodeType === 3).map(n => n.data.trim()).join("");
            if (!text || !e.checkVisibility() || e.closest(".unseen, option, noscript, .legend li > :not(*)")) continue;
            const style = getComputedStyle(e);
            const [a, b] = [light(rgb(e.namespaceURI.endsWith("svg") ? style.fill : style.color)), light(behind(e))].sort((x, y) => y - x);
            if ((a + .05) / (b + .05) < 4.5) found.push(text + ": " + ((a + .05) / (b + .05)).toFixed(2));
        }
        return found;""")


def check_looks(window):
    for dark in (False, True):
        window.set_dark(dark)
        assert contrast(window) == [], "dark" if dark else "light"
        assert overlaps(window) == []
        for width in (1280, 390):
            window.set_width(width, mobile=width < 700)
            # The charts follow a moment later.
            harness.wait_until(lambda: overlaps(window) == [], lambda: overlaps(window))
            assert window.run("return document.documentElement.scrollWidth") <= width
    window.set_dark(False)


def test_an_empty_alloyd_tells_what_to_do_first(alloyd, window, table):
    visit(window, alloyd)
    assert window.text("#state") == "ready" and "All is well" in window.text("#reasons")
    command = window.text("#curl")
    assert command == f"curl -i http://127.0.0.1:{alloyd.port}/v1/events -d '{{\"event_id\":\"hello-1\"}}'"
    assert table in window.text("#select")
    for hidden in ("#stale", "#refused", "#misfits", "#inserts", "#letters"):
        assert window.text(hidden) is None, hidden
    check_looks(window)
    run = harness.subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert "202" in run.stdout
    harness.wait_until(lambda: window.text("#first") is None, "first steps go")
    alloyd.settled()
    assert window.wait("return document.querySelector('#books td:nth-child(7)').textContent === '1'")


@pytest.mark.parametrize("stream, sent", [
    ({"path": "/hooks/*", "id": "header:X-Delivery"}, "/hooks/hello -H 'x-delivery: hello-1' -d '{}'"),
    ({"id": "/data/id, kind"}, "/v1/events -d '{\"data\":{\"id\":\"hello-1\"},\"kind\":\"hello-1\"}'"),
    ({"id": "a|b"}, "/v1/events -d '{\"a\":\"hello-1\"}'")])
def test_the_first_event_fits_the_stream(make_alloyd, window, stream, sent):
    alloyd = make_alloyd(sections_for(None, None, "default.events", stream__events=stream)).start()
    visit(window, alloyd)
    command = window.text("#curl")
    assert command.endswith(sent), command
    assert " 202 " in harness.subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True).stdout


def test_load_is_drawn(make_alloyd, redis, clickhouse, table, window):
    alloyd = make_alloyd(two_streams(redis, clickhouse, table)).start()
    visit(window, alloyd)
    client = alloyd.client()
    for n in range(40):
        body = "\n".join(harness.event(f"{n}-{i % 45}") for i in range(50))
        assert harness.request(client, body).status == 202
        if n == 20:
            window.wait("return past.figures.received.some(v => v > 0)")
    alloyd.settled()
    assert window.wait("return past.figures.inserted.some(v => v > 0) && past.figures.duplicates.some(v => v > 0)"
                       " && past.figures.http_p99.some(v => v > 0) && past.figures.insert_p99.some(v => v > 0)")
    told = alloyd.admin("/history?stream=events").json
    assert any(told["insert_p99"]) and any(told["insert_rows"]) and any(told["http_p50"])
    assert not any(alloyd.admin("/history?stream=clicks").json["insert_rows"])
    window.wait("return document.querySelector('#books td:nth-child(2)').textContent === '2,000'")
    # What is drawn is where the figures are: the highest is in the upper half of the axis that ends in a round number.
    top, path = window.run("""
        const plot = document.querySelector(".plot");
        return [[...plot.querySelectorAll("text")].map(t => t.textContent), plot.querySelector("path.blue:not(.area)").getAttribute("d")]""")
    assert top[0] == "0" and len(top) == 6 and re.fullmatch(r"\d\d:\d\d:\d\d", top[3])
    heights = [float(y) for _, y in re.findall(r"[ML]([\d.]+) ([\d.]+)", path)]
    assert len(heights) >= 2 and 9 <= min(heights) <= 62 and max(heights) <= 113
    assert re.search(r"received [\d,.]+( k)? /s", window.text(".legend").replace("\n", " "))
    check_looks(window)


def test_a_stream_and_the_hour_can_be_chosen(make_alloyd, redis, clickhouse, table, window):
    alloyd = make_alloyd(two_streams(redis, clickhouse, table)).start()
    visit(window, alloyd)
    assert alloyd.post(harness.event("a")).status == 202
    window.wait("return past.figures.received.some(v => v > 0)")
    assert window.run("return [...document.querySelectorAll('#stream option')].map(o => o.value)") == ["", "events", "clicks"]
    choose = "const s = document.getElementById('stream'); s.value = arguments[0]; s.dispatchEvent(new Event('change'))"
    window.run(choose, "clicks")
    window.wait("return past.figures !== null && past.stream === 'clicks' && past.figures.received.length > 1")
    assert window.run("return past.figures.received.every(v => !(v > 0))")
    window.run(choose, "events")
    window.wait("return past.figures !== null && past.figures.received.some(v => v > 0)")
    window.run("document.querySelector('[value=\"10s\"]').click()")
    window.wait("return past.figures !== null && past.step === '10s' && past.figures.received.length > 0")
    assert re.fullmatch(r"\d\d:\d\d", window.run("return document.querySelector('.plot svg text:nth-of-type(4)').textContent"))


def test_keys_and_readers_get_at_the_figures(alloyd, window):
    visit(window, alloyd)
    assert alloyd.post("\n".join(harness.event(f"id-{i}") for i in range(100))).status == 202
    window.wait("return past.figures.received.some(v => v > 0) && past.figures.received.length > 5")
    assert window.run("return [...document.querySelectorAll('.plot')].every(p => p.getAttribute('role') === 'img' && /now:/.test(p.ariaLabel))")
    window.run("document.querySelector('.plot').focus()")
    window.keys(LEFT * 3)
    spoken = window.wait("return document.getElementById('spoken').textContent")
    assert re.match(r"\d\d:\d\d:\d\d: received [\d,.]+ /s, inserted ", spoken), spoken
    assert len(window.run("return document.querySelectorAll('.plot .cursor')")) >= 8  # all charts show the same moment
    window.keys(ESCAPE)
    window.wait("return document.querySelectorAll('.plot .cursor').length === 0")
    window.run("document.querySelector('.chart summary').click()")
    rows = window.wait("return [...document.querySelectorAll('.chart details[open] tbody tr')].map(r => [...r.cells].map(c => c.textContent))")
    assert len(rows) == 10 and all(len(row) == 4 for row in rows) and rows[0][1] != "–"
    # Everything that can be used has a name, and every table's cells have a heading.
    unnamed = window.run("""
        return [...document.querySelectorAll("button, select, input, a, summary, [tabindex], section, img")].filter(e => e.checkVisibility() &&
            !(e.ariaLabel || e.textContent.trim() || e.labels?.length || e.getAttribute("aria-labelledby") || e.hasAttribute("alt") ||
              e.tagName === "PRE")).map(e => e.outerHTML.slice(0, 99))""")
    assert unnamed == []
    assert window.run("return document.querySelectorAll('[onclick], [style], script:not([src]), style').length") == 0


def test_clickhouse_away_is_told_with_what_to_do(make_alloyd, own_clickhouse, window):
    alloyd = make_alloyd(sections_for(None, own_clickhouse, "default.events", clickhouse={"retry_max": "200ms"})).start()
    visit(window, alloyd)
    assert alloyd.post(harness.event("a")).status == 202
    alloyd.settled()
    own_clickhouse.kill()
    assert alloyd.post("\n".join(harness.event(f"b-{i}") for i in range(500))).status == 202
    window.wait_text("#reasons", "ClickHouse does not answer")
    assert "What to do: Bring it back" in window.text("#reasons")
    # /readyz says the same behind its text, and the page once.
    reason = alloyd.told("clickhouse")
    assert reason["text"].endswith(". " + reason["todo"]) and reason["todo"].startswith("Bring it back")
    assert window.text("#reasons").count("Bring it back") == 1
    window.wait_text("#inserts", "sends the same rows again")
    window.wait("return document.querySelector('#books td:nth-child(9)').textContent === '500'")
    window.wait("return past.figures.pending.at(-1) === 500 && past.figures.lag.at(-1) > 1")
    assert window.text("#state") == "ready"  # more events would be taken
    check_looks(window)
    own_clickhouse.start()
    alloyd.settled()
    window.wait_text("#reasons", "All is well")


def test_a_stream_that_refuses_everything_is_plain(make_alloyd, redis, clickhouse, table, window):
    alloyd = make_alloyd(two_streams(redis, clickhouse, table)).start()
    visit(window, alloyd)
    assert alloyd.post(harness.event("good")).status == 202
    for i in range(30):
        assert alloyd.post('{"event":"<b>no id</b>"}', "/v1/clicks").status == 400
    text = window.wait_text("#reasons", "Stream clicks refuses everything")
    assert "30 requests refused in the last minute, none taken" in text and "missing_id" in text and "What to do" in text
    assert window.run("return [...document.querySelectorAll('tr.bad td:first-child')].map(td => td.textContent)") == ["clicks"]
    window.wait("return document.querySelectorAll('#refusals tr').length === 1")  # one kind is one row
    assert "of these since" in window.run("return document.querySelector('#refusals td').dataset.more")
    assert "no stream" not in window.text("#books")
    check_looks(window)


def test_a_stream_that_was_removed_is_told(make_alloyd, window):
    alloyd = make_alloyd(sections_for(None, None, "default.events",
                                      stream__orders={"path": "/v1/orders", "table": "default.orders"})).start()
    visit(window, alloyd)
    assert "/v1/events" in window.text("#curl")
    del alloyd.sections["stream.events"]
    alloyd.write_ini()
    alloyd.signal(signal.SIGHUP)
    window.wait_text("#first-where", "orders")
    assert "/v1/orders" in window.text("#curl")
    more = "return [...document.querySelectorAll('#books td:first-child')].map(td => td.dataset.more)"
    harness.wait_until(lambda: window.run(more) == ["removed → default.events", "/v1/orders → default.orders"],
                       lambda: window.run(more))
    assert alloyd.post(harness.event("a"), "/v1/orders").status == 202
    window.wait("return past.figures.received.some(v => v > 0)")


def test_many_kinds_of_refusals_are_folded(alloyd, window):
    visit(window, alloyd)
    for i in range(8):  # of one error at most 10 a second are noted
        assert alloyd.post("{}", f"/nowhere/{i}").status == 404
    for i in range(7):
        assert alloyd.post(" " * i + "[").status == 400
    window.wait_text("#refused .more", "Show all 15")
    visible = "return [...document.querySelectorAll('#refusals tr')].filter(r => !r.hidden).length"
    assert window.run(visible) == 10
    window.run("document.querySelector('#refused .more').click()")
    assert window.run(visible) == 15
    before = window.run("return before.uptime")
    window.wait("return before.uptime > arguments[0]", before)
    assert window.run(visible) == 15 and window.text("#refused .more") == "Show fewer"


@pytest.mark.parametrize("shown", ["off", "on"])
def test_dead_letters_are_told_without_the_event(make_alloyd, redis, clickhouse, table, window, shown):
    alloyd = make_alloyd(sections_for(redis, clickhouse, table, admin={"show_events": shown})).start()
    visit(window, alloyd)
    assert alloyd.post(harness.event("good") + "\n" + harness.event("<i>bad</i>", ts="4111-1111")).status == 202
    text = window.wait_text("#letters", "events")
    assert re.search(r"code \d+: ", text), text
    assert ("4111-1111" in text) == ("<i>bad</i>" in text) == (shown == "on")
    assert ("4111-1111" in window.run("return document.documentElement.innerHTML")) == (shown == "on")
    assert window.run("return document.querySelectorAll('main i:not(.tile i)').length") == 0
    check_looks(window)


def test_fields_that_fit_no_column_are_told_with_type_and_reason(make_alloyd, redis, clickhouse, table, window):
    clickhouse.query(f"ALTER TABLE {table} ADD COLUMN level UInt8 DEFAULT 0")
    alloyd = make_alloyd(two_streams(redis, clickhouse, table)).start()
    visit(window, alloyd)
    assert window.text("#misfits") is None
    for path in ("/v1/events", "/v1/clicks"):
        harness.wait_until(lambda: alloyd.post(harness.event("first", known=1), path).status == 202 and
                           path[4:] in str(alloyd.admin("/stats").json["schema_mismatches"]), "the columns are known")
    for i in range(3):
        assert alloyd.post(harness.event(f"a{i}", level=256), "/v1/clicks").status == 202
    names = ["<script>document.title = 'x'</script>", "<img src=x onerror=document.title='x'>", 'quo"te', "n" * 1024, "l\nine", "\u202ertl", "é" * 600]
    assert alloyd.post(harness.event("b", **dict.fromkeys(names, 1))).status == 202
    text = window.wait_text("#misfits", "onerror")
    rows = "return [...document.querySelectorAll('#misfit_rows tr')].map(r => [...r.cells].map(c => c.textContent))"
    assert ["clicks", "level", "UInt8", "the type has no room for the value", "3"] in window.run(rows)
    told = [row[1] for row in window.run(rows) if row[0] == "events"]
    assert {"<script>document.title = 'x'</script>", "<img src=x onerror=document.title='x'>", "n" * 64, "é" * 32, "l\\nine", "?rtl"} <= set(told)
    assert "no column has this name" in text and "warn lets them pass" in text
    assert window.run("return document.querySelectorAll('main script, main img, main [onerror]').length") == 0
    assert window.run("return document.title") != "x"
    check_looks(window)
    # Few of very many: the first rows, and a button for the rest.
    for i in range(20):
        assert alloyd.post(harness.event(f"c{i}", **{f"flood-{i}-{n}": 1 for n in range(60)})).status == 202
    visible = "return [...document.querySelectorAll('#misfit_rows tr')].filter(r => !r.hidden).length"
    window.wait_text("#misfits", "all other fields")
    assert window.run(visible) == 10 and len(window.run(rows)) <= 100


def test_an_alloyd_that_is_gone_is_told_and_found_again(make_alloyd, window):
    alloyd = make_alloyd(sections_for(None, None, "default.events")).start()
    visit(window, alloyd)
    window.may_complain = True  # Chromium itself, of refused connections
    assert alloyd.post(harness.event("a")).status == 202
    window.wait("return past.figures.received.some(v => v > 0)")
    alloyd.signal(signal.SIGKILL)
    alloyd.wait()
    text = window.wait_text("#stale", "alloyd does not answer since")
    assert "asks again" in text and window.text("#state") == "no answer" and "No answer" in window.run("return document.title")
    assert contrast(window) == []
    alloyd.start()
    harness.wait_until(lambda: window.text("#stale") is None, "it is found again", interval=.1)
    assert window.text("#state") == "ready"
    window.wait("return past.last > 0 && past.last < 60 && before.uptime < 60")


def test_one_that_hangs_is_told_too(make_alloyd, window):
    alloyd = make_alloyd(sections_for(None, None, "default.events")).start()
    visit(window, alloyd)
    window.may_complain = True
    alloyd.signal(signal.SIGSTOP)
    try:
        window.wait_text("#stale", "does not answer")
    finally:
        alloyd.signal(signal.SIGCONT)
    harness.wait_until(lambda: window.text("#stale") is None, "it goes on", interval=.1)
    window.wait("return past.figures.span.some(v => v === null)")  # what nobody has looked at is a gap


def test_the_page_works_with_a_key(make_alloyd, window, tmp_path):
    key = tmp_path / "admin.key"
    key.write_text("sesame\n")
    alloyd = make_alloyd(sections_for(None, None, "default.events", admin={"key_file": key}))
    alloyd.spawn_only()
    harness.wait_until(lambda: alloyd.listens(), alloyd.log)
    window.allowed_hosts.add(f"127.0.0.1:{alloyd.admin_port}")
    window.open(f"http://127.0.0.1:{alloyd.admin_port}/?key=sesame")
    window.wait("return past.figures !== null && past.figures.received.length > 0")
    assert "sesame" not in window.run("return location.href")


@pytest.mark.parametrize("path", ["/", "/style.css", "/chart.js", "/app.js", "/icon.svg", "/stats", "/history", "/readyz", "/nothing"])
def test_what_a_browser_may_do_with_it_is_said(alloyd, path):
    answer = alloyd.admin(path)
    assert answer.headers["X-Content-Type-Options"] == "nosniff" and answer.headers["Referrer-Policy"] == "no-referrer"
    assert answer.headers["Cache-Control"] == "no-store"
    if path.count(".") or path == "/":
        policy = dict(part.strip().split(" ", 1) for part in answer.headers["Content-Security-Policy"].split(";"))
        assert policy["default-src"] == "'none'" and "unsafe" not in str(policy)
        assert {policy[name] for name in ("script-src", "style-src", "connect-src", "img-src")} == {"'self'"}


def test_what_to_do_is_known_for_every_reason(alloyd):
    """Each reason that OPERATIONS.md tells of has a title and advice."""
    text = (harness.ROOT / "docs" / "OPERATIONS.md").read_text()
    table = re.search(r"\| reason \| blocking .*?\n\n", text, re.S)[0]
    keys = [key.replace("NAME", "events") for key in re.findall(r"^\| `([\w.@:]+)` \|", table, re.M)]
    rows = re.findall(r"^    \{\"(.+?)\",", (harness.ROOT / "src/admin/advice.c").read_text(), re.M)
    patterns = ["^" + re.escape(row).replace(r"\*", ".+") + "$" for row in rows]
    assert len(keys) >= 25
    assert [key for key in keys if not any(re.search(p, key) for p in patterns)] == [], "give them a row in advice.c"
