# SPDX-License-Identifier: Apache-2.0
"""alloyd as it runs in a container: process 1, no root, and nothing to write to but its volume."""

import os
import pathlib
import re
import signal
import subprocess

import pytest
import yaml

import harness
from conftest import sections_for

USER = 10001
EXAMPLES = harness.ROOT / "docs" / "examples"
DOCKERFILE = harness.ROOT / "Dockerfile"


class Contained(harness.Alloyd):
    """An alloyd in namespaces of its own, as a container runtime starts it. pid is that of alloyd outside."""

    def spawn(self, argv, env=None):
        # /mnt is the container's: the program and its configuration, and in it the volume, which alone can be written.
        script = f"""
            set -e
            mount --make-rprivate /
            mount -t tmpfs -o mode=755 tmpfs /mnt
            mkdir /mnt/volume
            cp {argv[0]} {self.ini} /mnt
            mount --bind {self.volume} /mnt/volume
            mount -o remount,ro /mnt
            mount -o remount,bind,ro /
            cd /
            exec setpriv --reuid {USER} --regid {USER} --clear-groups --no-new-privs --bounding-set=-all --inh-caps=-all \\
                /mnt/alloyd --config /mnt/{self.ini.name}
        """
        super().spawn(["unshare", "--mount", "--pid", "--fork", "--mount-proc", "sh", "-c", script], env)

    @property
    def pid(self):
        children = pathlib.Path(f"/proc/{self.popen.pid}/task/{self.popen.pid}/children").read_text().split()
        return int(children[0]) if children else self.popen.pid

    def status(self, field):
        text = pathlib.Path(f"/proc/{self.pid}/status").read_text()
        return re.search(rf"^{field}:\s*(.*)$", text, re.M)[1].split()


@pytest.fixture
def contained(request, tmp_path):
    """contained(sections) gives one that is not yet started."""
    if os.geteuid() != 0:
        pytest.fail("only root can make the namespaces of a container")
    made = request.node.alloy_processes = []

    def make(sections):
        alloyd = Contained(tmp_path, {**sections, "journal": {"dir": "/mnt/volume/journal"},
                                      "dead_letter": {"dir": "/mnt/volume/dead-letter"}})
        alloyd.volume = tmp_path / f"volume-{len(made)}"
        alloyd.volume.mkdir()
        os.chown(alloyd.volume, USER, USER)
        made.append(alloyd)
        return alloyd

    yield make
    for alloyd in made:
        alloyd.finish()


def test_process_1_without_root_and_with_a_read_only_root_drains_at_term(contained, redis, clickhouse, table):
    alloyd = contained(sections_for(redis, clickhouse, table, worker={"linger": "1min"})).start()
    assert alloyd.status("NSpid")[-1] == "1" and alloyd.status("Uid") == [str(USER)] * 4
    assert int(alloyd.status("CapEff")[0], 16) == 0 and alloyd.status("NoNewPrivs") == ["1"]
    mounts = pathlib.Path(f"/proc/{alloyd.pid}/mounts").read_text()
    assert [line.split()[3].split(",")[0] for line in mounts.splitlines() if line.split()[1] == "/"][-1] == "ro"
    for n in range(50):
        assert alloyd.post(harness.event(f"pid1-{n}")).status == 202
    assert alloyd.drain(20) == 0
    assert clickhouse.count(table) == 50
    assert "clean=yes" in alloyd.log()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_process_1_takes_every_signal_that_it_knows(contained, number):
    alloyd = contained(sections_for(None, None, "default.events")).start()
    alloyd.signal(signal.SIGHUP)
    harness.wait_until(lambda: "reload" in alloyd.log(), "the reload")
    assert alloyd.post(harness.event("a")).status == 202
    alloyd.signal(number)
    assert alloyd.wait(20) == 0


def test_process_1_restarts_in_place(contained):
    alloyd = contained(sections_for(None, None, "default.events")).start()
    pid = alloyd.pid
    alloyd.signal(signal.SIGUSR2)
    harness.wait_until(lambda: alloyd.log().count('msg="serving"') == 2 and alloyd.readyz(), lambda: alloyd.log()[-3000:])
    assert alloyd.pid == pid and alloyd.post(harness.event("a")).status == 202
    assert alloyd.drain(20) == 0


def test_process_1_goes_at_once_at_a_second_signal_and_the_next_one_goes_on(contained, redis, own_clickhouse):
    sections = sections_for(redis, own_clickhouse, "default.events", clickhouse={"url": "http://127.0.0.1:1"})
    alloyd = contained(sections).start()
    assert alloyd.post(harness.event("kept")).status == 202
    alloyd.allow_exit = {0, 1}
    alloyd.signal(signal.SIGTERM)
    harness.wait_until(lambda: "draining" in alloyd.log(), "the drain")
    alloyd.signal(signal.SIGTERM)
    assert alloyd.wait(20) == 1
    alloyd.sections["clickhouse"]["url"] = own_clickhouse.url
    alloyd.start()
    harness.wait_until(lambda: own_clickhouse.count("default.events") == 1, "the row")


# ---- the files


def check(text, tmp_path, env=None):
    ini = tmp_path / "container.ini"
    ini.write_text(text)
    run = subprocess.run([harness.BUILD / "alloyd", "--check", "--config", ini], capture_output=True, text=True,
                         check=False, env=dict(os.environ, **(env or {})))
    assert run.returncode == 0, run.stderr


def dockerfile():
    """(instruction, rest) of each line of the Dockerfile, with continued lines joined."""
    text = re.sub(r"\\\n", " ", re.sub(r"^\s*#.*\n", "", DOCKERFILE.read_text(), flags=re.M))
    return [tuple(line.split(None, 1)) for line in text.splitlines() if line.strip()]


def test_the_dockerfile_names_what_is_there_and_ends_without_root():
    lines = dockerfile()
    for _, rest in [line for line in lines if line[0] == "COPY" and "--from" not in line[1]]:
        sources = [word for word in rest.split() if not word.startswith("--")][:-1]
        assert all((harness.ROOT / source).exists() for source in sources), rest
    assert [rest for word, rest in lines if word == "USER"] == [f"{USER}:{USER}"]
    (make,) = [rest for word, rest in lines if word == "RUN" and "useradd" in rest]
    assert f"--uid {USER} " in make
    assert [rest for word, rest in lines if word == "ENTRYPOINT"] == ['["alloyd"]']
    assert [rest for word, rest in lines if word == "RUN" and "scripts/package" in rest]


def test_the_health_check_of_the_image_asks_the_event_port(make_alloyd):
    alloyd = make_alloyd(sections_for(None, None, "default.events")).start()
    (rest,) = [rest for word, rest in dockerfile() if word == "HEALTHCHECK"]
    words = yaml.safe_load(rest.partition("CMD ")[2])

    def health(port):
        return subprocess.run([word.replace("127.0.0.1/8080", f"127.0.0.1/{port}") for word in words],
                              capture_output=True, check=False, timeout=harness.DEADLINE).returncode

    assert health(alloyd.port) == 0
    assert health(harness.free_port()) != 0


def test_the_configuration_of_the_image_is_good_with_and_without_its_variables(tmp_path):
    text = (harness.ROOT / "packaging/container/alloy.ini").read_text()
    check(text, tmp_path)
    secret = tmp_path / "password"
    secret.write_text("secret\n")
    variables = set(re.findall(r"\$\{(\w+)", text))
    values = {"ALLOY_TABLE": "a.b", "ALLOY_ID": "id", "ALLOY_REDIS": "redis://10.0.0.1", "ALLOY_CLICKHOUSE": "http://10.0.0.2:8123",
              "ALLOY_CLICKHOUSE_USER": "u", "ALLOY_CLICKHOUSE_PASSWORD_FILE": str(secret)}
    assert variables == set(values)
    check(text, tmp_path, values)
    for name in variables:
        assert f"`{name}`" in (harness.ROOT / "docs/CONTAINERS.md").read_text(), name


def test_the_compose_file_mounts_what_is_there_and_passes_variables_that_are_known():
    compose = yaml.safe_load((EXAMPLES / "compose.yaml").read_text())
    alloyd = compose["services"]["alloyd"]
    assert alloyd["read_only"] is True and alloyd["cap_drop"] == ["ALL"]
    known = set(re.findall(r"\$\{(\w+)", (harness.ROOT / "packaging/container/alloy.ini").read_text()))
    assert set(alloyd["environment"]) <= known
    assert (EXAMPLES / alloyd["build"] / "Dockerfile").resolve() == DOCKERFILE
    for service in compose["services"].values():
        for volume in service["volumes"]:
            source = volume.split(":")[0]
            assert source in compose["volumes"] or (EXAMPLES / source).exists(), volume
