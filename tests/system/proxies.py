# SPDX-License-Identifier: Apache-2.0
"""Real proxies before alloyd: nginx, HAProxy and Caddy, with the configurations that docs/examples/ shows."""

import os
import random
import re
import signal
import socket
import subprocess
import time

import harness

EXAMPLES = harness.ROOT / "docs" / "examples"
STREAM_MODULE = "/usr/lib/nginx/modules/ngx_stream_module.so"


def example(name, *changes):
    """An example with its ports and whatever else is changed: (pattern, replacement), each for one place."""
    text = (EXAMPLES / name).read_text()
    for pattern, replacement in changes:
        text, count = re.subn(pattern, lambda _: replacement, text, flags=re.M)  # pylint: disable=cell-var-from-loop
        assert count == 1, f"{name} has {count} places like {pattern}"
    return text


class Proxy(harness.Process):
    """What clients connect to in place of alloyd."""

    def __init__(self, name, folder):
        super().__init__(name, folder)
        self.folder = folder
        self.host, self.port = "127.0.0.1", harness.free_port()
        self.config = folder / f"{name}-{self.port}.conf"

    def connect(self, source=""):
        return socket.create_connection((self.host, self.port), harness.DEADLINE, source_address=(source, 0))

    def client(self, source=""):
        return harness.http.client.HTTPConnection(self.host, self.port, timeout=harness.DEADLINE,
                                                  source_address=(source, 0))

    def post(self, body, path="/v1/events", headers=None, source=""):
        client = self.client(source)
        try:
            return harness.request(client, body, path, headers)
        finally:
            client.close()

    def answers(self):
        """Whether an alloyd answers through it."""
        try:
            client = self.client()
            client.request("GET", "/healthz")
            return client.getresponse().status == 200
        except (OSError, harness.http.client.HTTPException):
            return False
        finally:
            client.close()

    def kill(self):
        """TERM, since nginx' workers do not notice that their master is gone."""
        if self.alive():
            self.signal(signal.SIGTERM)
        if self.popen is not None:
            try:
                self.popen.wait(harness.DEADLINE)
            except subprocess.TimeoutExpired:
                super().kill()
                raise


class Nginx(Proxy):
    """nginx with the example for HTTP, or the one for streams."""

    def __init__(self, folder, alloyd, stream=False, buffered=True, upstream=None):
        super().__init__("nginx", folder)
        listen = (r"^ +listen 80;", f"    listen 127.0.0.1:{self.port};")
        upstream = upstream or f"127.0.0.1:{alloyd.port}"
        if stream:
            part = "stream {\n" + example("nginx-stream.conf", listen, (r"127\.0\.0\.1:8080;", upstream + ";")) + "}\n"
        else:
            part = example("nginx.conf", listen, (r"^ +server 127\.0\.0\.1:8080;", f"    server {upstream};"))
            part = "http {\n    access_log off;\n" + "".join(
                f"    {kind}_temp_path {folder}/nginx-{kind};\n"
                for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
            ) + ("" if buffered else "    proxy_request_buffering off;\n") + part + "}\n"
        # Workers of root are somebody else otherwise, and may not write into the test's folder.
        user = "user root;\n" if os.geteuid() == 0 else ""
        module = f"load_module {STREAM_MODULE};\n" if stream else ""
        self.config.write_text(f"{module}{user}daemon off;\npid {folder}/nginx-{self.port}.pid;\nworker_processes 1;\n"
                               f"error_log stderr notice;\nevents {{\n    worker_connections 1024;\n}}\n{part}")

    def start(self):
        self.spawn(["nginx", "-p", self.folder, "-e", "stderr", "-c", self.config])
        self.wait_ready(self.answers)
        return self


class Caddy(Proxy):
    """Caddy with the example, before one alloyd or two."""

    def __init__(self, folder, alloyd, other=None):
        super().__init__("caddy", folder)
        ports = " ".join(f"127.0.0.1:{server.port}" for server in (alloyd, other) if server)
        self.config.write_text("{\n\tadmin off\n}\n" + example(
            "Caddyfile", (r"^:80 \{$", f":{self.port} {{"), (r"127\.0\.0\.1:8080 127\.0\.0\.1:8180", ports),
            (r"health_interval 1s", "health_interval 100ms")))

    def start(self):
        self.spawn(["caddy", "run", "--adapter", "caddyfile", "--config", self.config],
                   {"HOME": str(self.folder), "XDG_DATA_HOME": str(self.folder), "XDG_CONFIG_HOME": str(self.folder)})
        self.wait_ready(self.answers)
        return self


class HAProxy(Proxy):
    """HAProxy with the example, before one alloyd or two. sends: how it tells the client's address; to: another port."""

    def __init__(self, folder, alloyd, other=None, sends="send-proxy-v2", mode="http", to=None):
        super().__init__("haproxy", folder)
        self.stats = folder / f"haproxy-{self.port}.sock"
        second = f"    server b 127.0.0.1:{other.port} {sends}" if other else ""
        self.config.write_text(example(
            "haproxy.cfg", (r"^global$", f"global\n    stats socket {self.stats} level admin"),
            (r"^    bind :80$", f"    bind 127.0.0.1:{self.port}"), (r"inter 1s", "inter 100ms"),
            (r"maxconn 20000", "maxconn 500"),  # descriptors may be few here
            (r"^    mode http$", f"    mode {mode}"),
            (r"^    server a 127\.0\.0\.1:8080 send-proxy-v2$", f"    server a 127.0.0.1:{to or alloyd.port} {sends}"),
            (r"^    server b 127\.0\.0\.1:8180 send-proxy-v2$", second)))

    def launch(self):
        self.spawn(["haproxy", "-db", "-f", self.config])

    def start(self, answers=None):
        self.launch()
        self.wait_ready(lambda: self.state() == "UP" and (answers or self.answers)())
        return self

    def state(self, server="a"):
        """UP or DOWN."""
        try:
            with socket.socket(socket.AF_UNIX) as s:
                s.settimeout(harness.DEADLINE)
                s.connect(str(self.stats))
                s.sendall(b"show stat\n")
                lines = harness.read_all(s).decode().splitlines()
        except OSError:
            return None
        names = lines[0].lstrip("# ").split(",")
        for line in lines[1:]:
            row = dict(zip(names, line.split(",")))
            if (row.get("pxname"), row.get("svname")) == ("alloy", server):
                return row["status"].split()[0]
        return None


def lasting_ports(alloyd):
    """Gives it ports that no connection of a client can take while it is down."""
    with open("/proc/sys/net/ipv4/ip_local_port_range", encoding="ascii") as file:
        lowest = int(file.read().split()[0])
    ports = []
    while len(ports) < 2:
        port = random.randrange(lowest // 2, lowest)
        with socket.socket() as s:
            try:
                s.bind(("127.0.0.1", port))
                ports.append(port)
            except OSError:
                continue
    alloyd.port, alloyd.admin_port = ports
    alloyd.sections["server"]["listen"] = f"127.0.0.1:{alloyd.port}"
    alloyd.sections["admin"]["listen"] = f"127.0.0.1:{alloyd.admin_port}"


def send_until_taken(proxy, ids, ends, troubles=None):
    """As a client should: again with the same ids, until somebody takes them. Notes in troubles what came instead of a 202."""
    body = "\n".join(map(harness.event, [ids] if isinstance(ids, str) else ids))
    troubles = [] if troubles is None else troubles
    while time.monotonic() < ends:
        try:
            answer = proxy.post(body)
        except (OSError, harness.http.client.HTTPException) as error:
            troubles.append(repr(error))
            continue
        if answer.status == 202:
            return
        assert answer.status in (502, 503, 504), answer
        troubles.append(answer.status)
        time.sleep(0.02)
    raise AssertionError(f"nobody took {ids}")
