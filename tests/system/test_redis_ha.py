# SPDX-License-Identifier: Apache-2.0
"""Redis over TLS, and Redis with replicas and Sentinels."""

import contextlib
import signal
import subprocess
import threading

import pytest

import harness
from conftest import sections_for
from test_lifecycle import reload


# ---- TLS


def make_certificates(folder):
    """A CA; a certificate of 127.0.0.1 and one of a client, both from that CA; and one that nobody knows."""
    def openssl(*arguments):
        subprocess.run(["openssl", *map(str, arguments)], cwd=folder, check=True, capture_output=True)

    def authority(name):
        openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", 2, "-subj",
                f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.pem")

    authority("ca")
    authority("stranger")
    for name, alternative in ("redis", "IP:127.0.0.1"), ("client", "DNS:client"), ("elsewhere", "DNS:elsewhere"), ("localhost", "DNS:localhost"):
        (folder / "extensions").write_text(f"subjectAltName = {alternative}\n")
        openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", f"/CN={name}", "-keyout",
                f"{name}.key", "-out", f"{name}.csr")
        openssl("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", 2,
                "-extfile", "extensions", "-out", f"{name}.pem")
    return folder


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def tls_redis(tmp_path, certificates):
    """Starts a Redis with a TLS port, and a plain one to look in; returns it, with its TLS port."""
    started = []

    def start(name="redis", *options):
        redis = harness.Redis(tmp_path)
        redis.tls_port = harness.free_port()
        started.append(redis)
        return redis.start("--tls-port", redis.tls_port, "--tls-cert-file", certificates / f"{name}.pem", "--tls-key-file",
                           certificates / f"{name}.key", "--tls-ca-cert-file", certificates / "ca.pem", *options)
    yield start
    for redis in started:
        redis.kill()


def test_claims_over_tls(make_alloyd, tls_redis, certificates, clickhouse, table):
    redis = tls_redis("redis", "--tls-auth-clients", "yes")
    redis.command("CONFIG", "SET", "requirepass", "secret word")
    files = f"ssl_ca_certs={certificates}/ca.pem&ssl_certfile={certificates}/client.pem&ssl_keyfile={certificates}/client.key"
    url = f"rediss://:secret%20word@127.0.0.1:{redis.tls_port}/2?{files}"
    sections = sections_for(None, clickhouse, table, redis={"url": url})
    one, other = make_alloyd(sections).start(), make_alloyd(sections).start()
    # More than one TLS record each way, and more than one batch.
    body = "\n".join(harness.event(f"{i:05d}-{'x' * 200}") for i in range(6000))
    assert one.post(body).json["accepted"] == 6000 and other.post(body).status == 202
    harness.wait_until(lambda: one.books()["pending"] == other.books()["pending"] == 0, "all inserted")
    assert clickhouse.count(table) == 6000
    assert one.books()["duplicate_l2"] + other.books()["duplicate_l2"] == 6000
    assert one.metrics()["alloy_redis_up"] == 1 and other.metrics()["alloy_events_unclaimed_total"] == 0


@pytest.mark.parametrize("name, files, reason", [
    ("redis", "ssl_ca_certs={0}/stranger.pem", "TLS: the handshake failed: self-signed certificate"),
    ("redis", "", "TLS: the handshake failed: self-signed certificate|TLS: the handshake failed: unable to get local issuer"),
    ("elsewhere", "ssl_ca_certs={0}/ca.pem", "TLS: the handshake failed: IP address mismatch"),
    ("redis", "ssl_ca_certs={0}/client.key", "TLS: ssl_ca_certs cannot be read"),
])
def test_a_redis_that_cannot_be_trusted_is_named_with_the_reason(make_alloyd, tls_redis, certificates, name, files, reason):
    redis = tls_redis(name, "--tls-auth-clients", "no")
    url = f"rediss://127.0.0.1:{redis.tls_port}/0?{files.format(certificates)}"
    alloyd = make_alloyd(sections_for(None, None, "default.events", clickhouse={"url": "discard:"}, redis={"url": url}))
    alloyd.start(ready=False)

    def told():
        return any(part in alloyd.admin("/readyz").body.decode() for part in reason.split("|"))
    harness.wait_until(told, lambda: alloyd.admin("/readyz").body.decode())
    # It passes, as with any Redis that is away.
    assert alloyd.post(harness.event("a")).status == 202
    harness.wait_until(lambda: alloyd.metrics()["alloy_events_unclaimed_total"] == 1, "an unclaimed event")


def test_tls_to_a_port_that_speaks_none_is_told(make_alloyd, redis):
    alloyd = make_alloyd(sections_for(None, None, "default.events", clickhouse={"url": "discard:"},
                                      redis={"url": f"rediss://127.0.0.1:{redis.port}"})).start(ready=False)
    harness.wait_until(lambda: "redis" in alloyd.admin("/readyz").body.decode(), "a reason in /readyz")
    assert alloyd.post(harness.event("a")).status == 202


# ---- Sentinel


class Sentinel(harness.Redis):
    def start_for(self, master, quorum):
        conf = self.folder / f"sentinel-{self.port}.conf"
        conf.write_text(f"port {self.port}\nbind 127.0.0.1\ndir {self.folder}\nsentinel monitor main 127.0.0.1 {master.port} {quorum}\n"
                        "sentinel down-after-milliseconds main 700\nsentinel failover-timeout main 3000\n")
        self.spawn(["redis-server", conf, "--sentinel"])
        self.wait_ready(self.answers)
        return self

    def master_port(self):
        return int(self.command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "main")[1])


class Replicated:
    """A master, a replica and three Sentinels."""

    def __init__(self, folder):
        def redis(kind=harness.Redis):
            sub = folder / f"{kind.__name__}-{harness.free_port()}"
            sub.mkdir()
            return kind(sub)

        self.master = redis().start()
        self.replica = redis().start("--replicaof", "127.0.0.1", self.master.port)
        harness.wait_until(lambda: b"state=online" in self.master.command("INFO", "replication"), "a replica")
        self.sentinels = [redis(Sentinel).start_for(self.master, 2) for _ in range(3)]
        for sentinel in self.sentinels:
            harness.wait_until(lambda s=sentinel: self.knows_all(s), "Sentinels that know each other and the replica")

    @staticmethod
    def knows_all(sentinel):
        return (len(sentinel.command("SENTINEL", "REPLICAS", "main")) == 1
                and len(sentinel.command("SENTINEL", "SENTINELS", "main")) == 2)

    def url(self, login=""):
        return "redis-sentinel://" + login + ",".join(f"127.0.0.1:{s.port}" for s in self.sentinels) + "/main"

    def end(self):
        for process in (*self.sentinels, self.replica, self.master):
            with contextlib.suppress(ProcessLookupError):
                process.signal(signal.SIGCONT)
            process.kill()


@pytest.fixture
def replicated(tmp_path):
    started = []

    def start():
        started.append(Replicated(tmp_path))
        return started[-1]
    yield start
    for servers in started:
        servers.end()


@pytest.mark.parametrize("how", ["kill", "stop"])
def test_claims_follow_the_master_through_a_failover(make_alloyd, replicated, clickhouse, table, how):
    servers = replicated()
    sections = sections_for(None, clickhouse, table, redis={"url": servers.url(), "on_failure": "hold"})
    one, other = make_alloyd(sections).start(), make_alloyd(sections).start()
    stop = threading.Event()
    sent = []

    def send():
        while not stop.is_set():
            name = f"e{len(sent)}"
            if one.post(harness.event(name)).status == 202:
                sent.append(name)

    sender = threading.Thread(target=send)
    sender.start()
    try:
        harness.wait_until(lambda: one.books()["inserted"] > 0, "claims at the first master")
        if how == "kill":
            servers.master.kill()
        else:
            servers.master.signal(signal.SIGSTOP)
        harness.wait_until(lambda: servers.sentinels[0].master_port() == servers.replica.port, "a failover", 60)
        before = one.books()["inserted"]
        harness.wait_until(lambda: one.books()["inserted"] > before + 10, "claims at the new master")
    finally:
        stop.set()
        sender.join()
    harness.wait_until(lambda: one.books()["pending"] == 0, "all inserted")
    # What was claimed before the failover is known to the new master, whose replica it was.
    for name in sent[:20] + sent[-20:]:
        assert other.post(harness.event(name)).status == 202
    harness.wait_until(lambda: other.books()["pending"] == 0, "all decided")
    count, different = clickhouse.rows(f"SELECT count(), uniqExact(event_id) FROM {table}")[0]
    assert int(count) == int(different) == len(sent)


def test_with_wait_a_failover_forgets_no_claim(make_alloyd, replicated, clickhouse, table):
    servers = replicated()
    sections = sections_for(None, clickhouse, table, redis={"url": servers.url(), "on_failure": "hold", "wait_replicas": 1,
                                                            "wait_timeout": "5s"})
    one, other = make_alloyd(sections).start(), make_alloyd(sections).start()
    sent = [f"e{i}" for i in range(20000)]
    for i in range(0, len(sent), 1000):
        assert one.post("\n".join(map(harness.event, sent[i:i + 1000]))).status == 202
    harness.wait_until(lambda: one.books()["inserted"] > 5000, "claims at the first master")
    servers.master.kill()
    assert one.metrics()["alloy_redis_wait_short_total"] == 0
    harness.wait_until(lambda: servers.sentinels[0].master_port() == servers.replica.port, "a failover", 60)
    one.sections["redis"]["wait_timeout"] = "20ms"
    reload(one)
    harness.wait_until(lambda: one.books()["pending"] == 0, "all inserted", 60)
    # The new master has no replica. Its claims stand, and that is told.
    assert one.post(harness.event("more")).status == 202
    harness.wait_until(lambda: told(one), "a reason")
    for i in range(0, len(sent), 1000):
        assert other.post("\n".join(map(harness.event, sent[i:i + 1000]))).status == 202
    for alloyd in (one, other):
        harness.wait_until(lambda: alloyd.books()["pending"] == 0, "all decided", 60)
    count, different = clickhouse.rows(f"SELECT count(), uniqExact(event_id) FROM {table}")[0]
    assert int(count) == int(different) == len(sent) + 1


def test_a_master_that_was_replaced_and_still_answers_is_left(make_alloyd, replicated, clickhouse, table):
    """As behind a partition: the Sentinels have another master, and nobody has told the old one."""
    servers = replicated()
    alloyd = make_alloyd(sections_for(None, clickhouse, table, redis={"url": servers.url()})).start()
    assert alloyd.post(harness.event("before")).status == 202
    harness.wait_until(lambda: alloyd.books()["inserted"] == 1, "a row")
    servers.replica.command("REPLICAOF", "NO", "ONE")
    for sentinel in servers.sentinels:
        sentinel.command("SENTINEL", "REMOVE", "main")
        sentinel.command("SENTINEL", "MONITOR", "main", "127.0.0.1", servers.replica.port, 2)

    def moved():
        assert alloyd.post(harness.event(f"after-{len(keys())}-{harness.time.monotonic_ns()}")).status == 202
        return keys()

    def keys():
        return [key for key in servers.replica.command("KEYS", "alloy:events:after-*")]
    harness.wait_until(moved, "claims at the new master")
    assert alloyd.metrics()["alloy_events_unclaimed_total"] == 0


def test_sentinels_that_are_away_are_passed_over_and_the_password_goes_to_both(make_alloyd, replicated, clickhouse, table):
    servers = replicated()
    for sentinel in servers.sentinels:
        sentinel.command("ACL", "SETUSER", "default", ">pw")
    servers.master.command("CONFIG", "SET", "requirepass", "pw")
    url = servers.url(":pw@").replace("@", f"@127.0.0.1:{harness.free_port()},")
    alloyd = make_alloyd(sections_for(None, clickhouse, table, redis={"url": url})).start()
    assert alloyd.post(harness.event("a")).status == 202
    harness.wait_until(lambda: alloyd.books()["inserted"] == 1, "a row")
    assert alloyd.metrics()["alloy_events_unclaimed_total"] == 0 and "pw@" not in alloyd.log()


def test_an_unknown_master_is_told_by_its_name(make_alloyd, replicated):
    servers = replicated()
    alloyd = make_alloyd(sections_for(None, None, "default.events", clickhouse={"url": "discard:"},
                                      redis={"url": servers.url().replace("/main", "/mian")})).start(ready=False)
    harness.wait_until(lambda: "knows no master mian" in alloyd.admin("/readyz").body.decode(),
                       lambda: alloyd.admin("/readyz").body.decode())


# ---- WAIT


@pytest.fixture
def pair(tmp_path):
    """A master and a replica, without Sentinels."""
    servers = []

    def redis(*options):
        sub = tmp_path / f"redis-{len(servers)}"
        sub.mkdir()
        servers.append(harness.Redis(sub))
        return servers[-1].start(*options)
    master = redis()
    replica = redis("--replicaof", "127.0.0.1", master.port)
    harness.wait_until(lambda: b"state=online" in master.command("INFO", "replication"), "a replica")
    yield master, replica
    for server in servers:
        with contextlib.suppress(ProcessLookupError):
            server.signal(signal.SIGCONT)
        server.kill()


def told(alloyd):
    return alloyd.reason_text("redis.replicas")


def test_a_replica_that_stops_is_told_and_holds_up_nothing(make_alloyd, pair, clickhouse, table):
    master, replica = pair
    alloyd = make_alloyd(sections_for(None, clickhouse, table, redis={"url": master.url, "wait_replicas": 1,
                                                                      "wait_timeout": "5s"})).start()

    def post(name, count=100):
        before = alloyd.books()["inserted"]
        assert alloyd.post("\n".join(harness.event(f"{name}-{i}") for i in range(count))).status == 202
        harness.wait_until(lambda: alloyd.books()["inserted"] == before + count, f"the rows of {name}")

    def short():
        return alloyd.metrics()["alloy_redis_wait_short_total"]

    post("both")
    # What has gone on is at the replica.
    assert len(replica.command("KEYS", "alloy:events:both-*")) == 100
    assert not told(alloyd) and short() == 0
    alloyd.sections["redis"]["wait_timeout"] = "20ms"
    reload(alloyd)
    replica.signal(signal.SIGSTOP)
    for i in range(3):
        post(f"stopped-{i}")
    assert "0 of redis.wait_replicas = 1" in told(alloyd) and str(master.port) in told(alloyd)
    assert alloyd.admin("/readyz").status == 200 and short() >= 3
    replica.signal(signal.SIGCONT)
    # Without another event.
    harness.wait_until(lambda: not told(alloyd), lambda: told(alloyd))
    alloyd.sections["redis"]["wait_timeout"] = "5s"
    reload(alloyd)
    before = short()
    post("again")
    assert short() == before
    assert alloyd.metrics()["alloy_redis_errors_total"] == 0 and alloyd.metrics()["alloy_events_unclaimed_total"] == 0


def test_a_redis_without_replicas_is_told_until_a_reload_asks_for_none(make_alloyd, redis, clickhouse, table):
    section = {"url": redis.url, "wait_replicas": 2, "wait_timeout": "10ms"}
    alloyd = make_alloyd(sections_for(None, clickhouse, table, redis=section)).start()
    assert alloyd.post(harness.event("a")).status == 202
    harness.wait_until(lambda: told(alloyd), "a reason")
    harness.wait_until(lambda: alloyd.books()["inserted"] == 1, "a row")
    alloyd.sections["redis"]["wait_replicas"] = 0
    reload(alloyd)
    harness.wait_until(lambda: not told(alloyd), lambda: told(alloyd))


def test_a_user_without_wait_is_told(make_alloyd, redis, clickhouse, table):
    redis.command("ACL", "SETUSER", "alloy", "on", ">pw", "~*", "+@all", "-wait")
    section = {"url": redis.url.replace("redis://", "redis://alloy:pw@"), "wait_replicas": 1}
    alloyd = make_alloyd(sections_for(None, clickhouse, table, redis=section)).start()
    assert alloyd.post(harness.event("a")).status == 202
    harness.wait_until(lambda: "NOPERM" in told(alloyd), lambda: told(alloyd))
    harness.wait_until(lambda: alloyd.books()["inserted"] == 1, "a row")
    assert alloyd.metrics()["alloy_redis_up"] == 1 and alloyd.metrics()["alloy_events_unclaimed_total"] == 0
