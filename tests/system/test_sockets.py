# SPDX-License-Identifier: Apache-2.0
"""Sockets that alloyd is given by its parent, as systemd does (sd_listen_fds), by a launcher in the harness."""

import configparser
import http.client
import os
import re
import shutil
import socket
import subprocess

import pytest

import harness
from conftest import sections_for
from test_lifecycle import Systemd, analyze
from test_tls import Authority, Door

UNIT = harness.ROOT / "config" / "alloyd.socket"


@pytest.fixture
def discarding(make_alloyd):
    """An alloyd, not yet started, whose configured ports are taken: it must not open them."""
    return make_alloyd(sections_for(None, None, "default.events"))


def port_of(s):
    return s.getsockname()[1]


def given(alloyd, s, attribute="port"):
    """From now on the harness asks this socket's port."""
    setattr(alloyd, attribute, port_of(s))
    return s


def listening(alloyd):
    return re.findall(r'msg="listening" address=(\S+)', alloyd.log())


def test_a_named_socket_takes_the_place_of_the_configured_addresses(discarding):
    configured = discarding.port
    with given(discarding, harness.listen_on()) as s, socket.create_server(("127.0.0.1", configured)):
        discarding.start_with([s], ["event"])
        assert discarding.post(harness.event("a")).status == 202
        assert len(listening(discarding)) == 2
        assert f"address=127.0.0.1:{discarding.port} socket=given" in discarding.log()


def test_event_and_admin_by_name_in_any_order(discarding):
    with given(discarding, harness.listen_on()) as event, given(discarding, harness.listen_on(), "admin_port") as admin:
        discarding.start_with([admin, event], ["admin", "event"])
        assert discarding.post(harness.event("a")).status == 202
        assert discarding.metrics()['alloy_events_accepted_total{stream="events"}'] == 1


@pytest.mark.parametrize("names", [None, ["alloyd.socket"] * 2, ["unknown", "unknown"]])
def test_sockets_without_a_name_are_known_by_their_ports(discarding, names):
    discarding.port, discarding.admin_port = discarding.admin_port, discarding.port  # listen on any address, in the other order
    discarding.sections["server"]["listen"] = f"127.0.0.1:{discarding.port}"
    discarding.sections["admin"]["listen"] = f"127.0.0.1:{discarding.admin_port}"
    with harness.listen_on(port=discarding.admin_port) as admin, harness.listen_on("0.0.0.0", discarding.port) as event:
        discarding.start_with([admin, event], names)
        assert discarding.post(harness.event("a")).status == 202
        assert discarding.admin("/stats").json["ready"] is True


def test_a_socket_on_another_port_without_a_name_is_for_events(discarding):
    with given(discarding, harness.listen_on()) as s:
        discarding.start_with([s])
        assert discarding.post(harness.event("a")).status == 202


def test_several_sockets_of_one_kind_are_all_served(discarding, tmp_path):
    path = f"{tmp_path}/s"
    with given(discarding, harness.listen_on()) as one, harness.listen_on() as other, harness.listen_on(f"unix:{path}") as third:
        discarding.start_with([one, other, third], ["event", "event2", "event-local"])
        for n in range(20):
            assert discarding.post(harness.event(f"a{n}")).status == 202
            client = http.client.HTTPConnection("127.0.0.1", port_of(other))
            assert harness.request(client, harness.event(f"b{n}")).status == 202
            client.close()
            with socket.socket(socket.AF_UNIX) as s:
                s.connect(path)
                body = harness.event(f"c{n}").encode()
                s.sendall(b"POST /v1/events HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
                assert harness.read_answer(s).status == 202
        assert discarding.drain() == 0
        assert os.path.exists(path), "the file is its giver's"


def test_ipv6_and_both_families(discarding):
    with given(discarding, harness.listen_on("::")) as s:
        discarding.start_with([s], ["event"])
        assert discarding.post(harness.event("a")).status == 202
        with socket.create_connection(("::1", discarding.port)) as client:
            client.sendall(b"GET /readyz HTTP/1.1\r\nHost: a\r\n\r\n")
            assert harness.read_answer(client).status == 200


@pytest.mark.parametrize("named", [True, False])
def test_a_socket_for_tls_by_name_or_port(discarding, tmp_path, named):
    door = Door(discarding, ca := Authority(tmp_path / "certificates"), ca.sign("alloy.example"))
    with harness.listen_on(port=0 if named else door.port) as s:
        door.port = port_of(s)
        discarding.start_with([s], ["tls"] if named else None)
        assert door.post(harness.event("a")).status == 202
        assert discarding.post(harness.event("b")).status == 202, "the plain port is as configured"


def test_a_socket_for_tls_needs_a_certificate(discarding):
    with harness.listen_on() as s:
        discarding.spawn_with([s], ["tls"])
        assert discarding.wait() == 1
        assert "server.tls_listen is empty" in discarding.log()
        discarding.popen = None


def test_an_admin_socket_beyond_loopback_needs_a_key(discarding, tmp_path):
    key = tmp_path / "key"
    key.write_text("secret-of-the-admin-port\n")
    with given(discarding, harness.listen_on("0.0.0.0"), "admin_port") as s:
        discarding.spawn_with([s], ["admin"])
        assert discarding.wait() == 1
        assert "admin.key_file" in discarding.log()
        discarding.sections["admin"]["key_file"] = key
        discarding.spawn_with([s], ["admin"])
        harness.wait_until(discarding.listens, discarding.log)
        assert discarding.admin("/stats").status == 401 and discarding.admin("/healthz").status == 200


def test_an_admin_socket_serves_though_admin_listen_is_empty(discarding):
    discarding.sections["admin"]["listen"] = ""
    with given(discarding, harness.listen_on(), "admin_port") as s:
        discarding.start_with([s], ["admin"])


@pytest.mark.parametrize("make", [lambda: socket.socket(), lambda: socket.socket(type=socket.SOCK_DGRAM),
                                  lambda: open("/dev/null", "rb")])
def test_what_is_no_listening_socket_is_an_error(discarding, make):
    with make() as s:
        discarding.spawn_with([s], ["event"])
        assert discarding.wait() == 1
        assert 'descriptor 3' in discarding.log() and "no listening stream socket" in discarding.log()
        discarding.popen = None


def test_sockets_for_another_process_are_left_alone(discarding):
    with harness.listen_on() as s:
        discarding.spawn_with([s], ["event"], listen_pid="1")
        discarding.wait_ready(discarding.readyz)
        assert discarding.post(harness.event("a")).status == 202


def test_every_thread_accepts_from_a_given_socket(discarding):
    discarding.sections["server"]["threads"] = 4
    with given(discarding, harness.listen_on()) as s:
        discarding.start_with([s], ["event"])
        clients = [discarding.connect() for _ in range(200)]
        for client in clients:
            client.sendall(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
        for client in clients:
            assert harness.read_answer(client).status == 200
        counts = sockets_by_thread(discarding)
        for client in clients:
            client.close()
    assert sum(counts) >= 200 and len(counts) >= 4
    assert sorted(counts)[-4] > 30, counts


def sockets_by_thread(alloyd):
    """How many descriptors each epoll instance of a process watches."""
    counts = []
    for fd in os.listdir(f"/proc/{alloyd.pid}/fd"):
        try:
            if "eventpoll" in os.readlink(f"/proc/{alloyd.pid}/fd/{fd}"):
                with open(f"/proc/{alloyd.pid}/fdinfo/{fd}") as f:
                    counts.append(sum(line.startswith("tfd:") for line in f))
        except FileNotFoundError:
            pass
    return counts


def test_connections_wait_in_a_given_socket_until_alloyd_runs(discarding, tmp_path):
    systemd = Systemd(tmp_path / "notify")
    with given(discarding, harness.listen_on()) as s, discarding.connect() as early:
        body = harness.event("a").encode()
        early.sendall(b"POST /v1/events HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        discarding.spawn_with([s], ["event"], systemd.env)
        assert harness.read_answer(early).status == 202
        assert systemd.next()["READY"] == "1"
    systemd.socket.close()


# ---- the unit


def test_the_socket_unit_is_valid(tmp_path):
    shutil.copy(harness.ROOT / "config" / "alloyd.service", tmp_path)
    unit = shutil.copy(UNIT, tmp_path)
    result = analyze("verify", "--man=no", unit)
    complaints = [line for line in (result.stdout + result.stderr).splitlines() if "alloyd.socket" in line]
    assert complaints == [], result


def test_the_socket_unit_listens_where_alloyd_does():
    unit = configparser.ConfigParser()
    unit.read(UNIT)
    assert unit["Socket"]["ListenStream"] == "127.0.0.1:8080"  # the default of server.listen
    assert unit["Socket"]["FileDescriptorName"] == "event"
    assert unit["Install"]["WantedBy"] == "sockets.target"


def test_the_socket_unit_is_installed_beside_the_service(tmp_path):
    result = subprocess.run(["cmake", "--install", harness.BUILD], env=dict(os.environ, DESTDIR=str(tmp_path)),
                            capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    units = sorted(path.name for path in tmp_path.glob("usr/lib/systemd/system/*"))
    assert units == ["alloyd.service", "alloyd.socket"]
