# SPDX-License-Identifier: Apache-2.0
"""What deploy/systemd describes: machines with an alloyd each, and HAProxy before them."""

import re

import harness
from proxies import HAProxy

FILES = harness.ROOT / "deploy" / "systemd"
NAMES = ("one", "two", "three")


class Machine(harness.Alloyd):
    """An alloyd with deploy/systemd/alloy.ini; what is this machine's own is overridden."""

    def spawn_only(self, env=None):
        words = [word for section, keys in self.sections.items() for key, value in keys.items()
                 for word in ("--set", f"{section}.{key}={value}")]
        self.spawn([self.build / "alloyd", "--config", FILES / "alloy.ini", *words], env)


class Balancer(HAProxy):
    """HAProxy with deploy/systemd/haproxy.cfg before these machines."""

    def __init__(self, folder, machines, host="127.0.0.1"):  # pylint: disable=super-init-not-called
        super(HAProxy, self).__init__("haproxy", folder)
        self.host = host
        self.stats = folder / f"haproxy-{self.port}.sock"
        self.figures = harness.free_port()
        changes = [(r"/run/haproxy/admin\.sock mode 660", f"{self.stats} mode 660"), (r"maxconn 50000", "maxconn 500"),
                   (r"bind :80$", f"bind {host}:{self.port}"), (r"127\.0\.0\.1:8405", f"127.0.0.1:{self.figures}")]
        changes += [(rf"server {name} [\d.]+:8080$", f"server {name} {machine.host}:{machine.port}")
                    for name, machine in machines.items()]
        text = (FILES / "haproxy.cfg").read_text()
        for pattern, replacement in changes:
            text, count = re.subn(pattern, replacement, text, flags=re.M)
            assert count == 1, pattern
        self.config.write_text(text)

    def state(self, server="one"):
        return super().state(server)

    def states(self):
        return {name: self.state(name) for name in NAMES}
