# SPDX-License-Identifier: Apache-2.0
"""Boots a bare Debian: its systemd is process 1 of its own namespaces, as in a container.

Only the network is that of whoever boots it: enter_network() gives this process and its children one of their own.
"""

import ctypes
import fcntl
import json
import os
import pathlib
import signal
import socket
import struct
import subprocess
import sys
import time

from bare import run

DEADLINE = 60

# What runs as process 1 until systemd takes its place; $1: the folder, $2: the cgroup of this machine.
BOOT = """
set -eu
mount --bind "$1" "$1"
cd "$1"
mount -t proc -o nosuid,nodev,noexec proc proc
mount --bind proc/sys proc/sys
mount -o remount,bind,ro proc/sys
mount -t sysfs -o ro,nosuid,nodev,noexec sysfs sys
mount -t cgroup2 -o nosuid,nodev,noexec cgroup2 sys/fs/cgroup
mount -t tmpfs -o mode=755 tmpfs dev
for name in null zero full random urandom tty; do cp -a "/dev/$name" dev; done
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=0666,mode=620,gid=5 devpts dev/pts
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
mount -t tmpfs tmpfs dev/shm
mount -t tmpfs -o mode=755 tmpfs run
mount -t tmpfs tmpfs tmp
pivot_root . .
umount -l .
# systemd mounts the credentials of a service in another namespace, from which they have to come here.
mount --make-rshared /
exec env -i container=other PATH=/usr/sbin:/usr/bin:/sbin:/bin \\
    setpriv --bounding-set -sys_time,-sys_module,-sys_rawio,-syslog,-wake_alarm /lib/systemd/systemd --system
"""
CLONE_NEWNET = 0x40000000
SIOCSIFFLAGS, IFF_UP = 0x8914, 1
HALT = signal.SIGRTMIN + 3


def enter_network():
    """From here on this thread, its threads and its children have a network of their own, with nothing but a loopback."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNET) != 0:
        sys.exit(f"FAILED: no network of its own: {os.strerror(ctypes.get_errno())}")
    with socket.socket() as s:
        fcntl.ioctl(s, SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", IFF_UP))


def cgroup2():
    """Where cgroup2 is mounted, alone or beside the older kind."""
    for line in pathlib.Path("/proc/self/mountinfo").read_text().splitlines():
        if line.split(" - ")[1].split()[0] == "cgroup2":
            return pathlib.Path(line.split()[4])
    sys.exit("FAILED: cgroup2 is not mounted on this machine")


class Machine:
    """A booted Debian; commands run in it."""

    def __init__(self, root, folder):
        self.root = root
        self.log_path = folder / "boot.log"
        self.cgroup = cgroup2() / f"alloy-systemd.{os.getpid()}"
        self.popen, self.pid = None, None

    def boot(self):
        self.cgroup.mkdir()
        # Whatever becomes of us, process 1 ends with us, and all of the machine with it.
        enter = ('echo 0 > "$2/cgroup.procs"; exec setpriv --pdeathsig KILL unshare --mount --uts --ipc --pid --cgroup --fork '
                 '--kill-child --propagation private sh -c "$3" boot "$1"')
        with open(self.log_path, "wb") as log:
            self.popen = subprocess.Popen(["sh", "-c", enter, "sh", str(self.root), str(self.cgroup), BOOT],
                                          stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.await_that(self.find_first, "process 1")
        self.await_that(lambda: self.run("systemctl", "is-system-running", check=False).strip() in ("running", "degraded"), "a booted systemd")

    def await_that(self, condition, what):
        end = time.monotonic() + DEADLINE
        while not condition():
            if self.popen.poll() is not None or time.monotonic() > end:
                sys.exit(f"FAILED: {what}: {self.log_path.read_text(errors='replace')[-2000:]}")
            time.sleep(0.05)

    def find_first(self):
        children = pathlib.Path(f"/proc/{self.popen.pid}/task/{self.popen.pid}/children").read_text().split()
        if not children or pathlib.Path(f"/proc/{children[0]}/comm").read_text().strip() != "systemd":
            return False
        self.pid = int(children[0])
        return True

    def run(self, *argv, check=True):
        return run("nsenter", "-t", self.pid, "-m", "-u", "-i", "-p", "-C", *argv, check=check)

    def succeeds(self, *argv):
        return subprocess.run(["nsenter", "-t", str(self.pid), "-m", "-u", "-i", "-p", "-C", *argv], check=False,
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0

    def show(self, unit, *names):
        """Properties of a unit, as systemctl show names them."""
        lines = self.run("systemctl", "show", unit, "-p", ",".join(names)).splitlines()
        found = dict(line.split("=", 1) for line in lines)
        return found[names[0]] if len(names) == 1 else [found[name] for name in names]

    def journal(self, *options):
        """Entries of journald as dicts, oldest first."""
        self.run("journalctl", "--sync")
        return [json.loads(line) for line in self.run("journalctl", "-o", "json", "--no-pager", "-q", *options).splitlines()]

    def host_pid(self, pid):
        """The number outside of a process of the machine."""
        for path in pathlib.Path("/proc").glob("[0-9]*"):
            try:
                numbers = next(line for line in (path / "status").read_text().splitlines() if line.startswith("NSpid:"))
                if numbers.split()[-1] == str(pid) and os.readlink(path / "ns/pid") == os.readlink(f"/proc/{self.pid}/ns/pid"):
                    return int(path.name)
            except OSError:
                pass
        raise ProcessLookupError(pid)

    def halt(self):
        """Shuts it down, as reboot and poweroff do."""
        os.kill(self.pid, HALT)
        self.popen.wait(DEADLINE)
        self.end()

    def end(self):
        if self.popen is not None and self.popen.poll() is None:
            try:
                os.kill(self.pid or self.popen.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            self.popen.wait()
        end = time.monotonic() + DEADLINE
        while self.cgroup.exists() and "populated 1" in (self.cgroup / "cgroup.events").read_text() and time.monotonic() < end:
            time.sleep(0.05)
        for folder, _, _ in os.walk(self.cgroup, topdown=False):
            os.rmdir(folder)
