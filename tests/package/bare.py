# SPDX-License-Identifier: Apache-2.0
"""A bare Debian 12 in a folder, into which the package is installed; for the commands beside it."""

import os
import pathlib
import re
import shutil
import subprocess
import sys

SOURCE = pathlib.Path(__file__).resolve().parents[2]
RELEASE = "bookworm"
INI = "etc/alloy/alloy.ini"


def say(text):
    print(f"==> {text}", flush=True)


def run(*argv, check=True, **more):
    result = subprocess.run([str(a) for a in argv], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                            check=False, **more)
    if check and result.returncode != 0:
        sys.exit(f"FAILED: {' '.join(map(str, argv))}\n{result.stdout[-4000:]}")
    return result.stdout


def mirror():
    """Where apt gets Debian from on this machine."""
    for line in run("apt-get", "indextargets", "--format", "$(REPO_URI) $(CODENAME) $(ORIGIN)",
                    "Created-By: Packages").splitlines():
        uri, codename, origin = (line.split(" ") + ["", ""])[:3]
        if origin == "Debian" and codename == RELEASE:
            return uri
    sys.exit(f"FAILED: apt on this machine knows no mirror of Debian {RELEASE}")


class Chroot:
    """A bare Debian, whose apt asks the same mirror."""

    def __init__(self, folder, base):
        self.root = folder / "root"
        made = base or self.root
        if not made.exists():
            say(f"a bare Debian ({RELEASE}, minbase) by debootstrap")
            run("debootstrap", "--variant=minbase", RELEASE, made, mirror())
        if base:
            run("cp", "-a", base, self.root)
        self.run("apt-get", "update", "-qq")

    def run(self, *argv, check=True, user=None):
        return run("chroot", *([f"--userspec={user}"] if user else []), self.root, "env", "DEBIAN_FRONTEND=noninteractive",
                   "LC_ALL=C", *argv, check=check)

    def path(self, name):
        return self.root / name.lstrip("/")

    def install(self, package, *options):
        shutil.copy(package, self.root / "tmp")
        return self.run("apt-get", "install", "-y", "-qq", "--no-install-recommends", *options, f"/tmp/{package.name}")

    def owner(self, name):
        return self.run("stat", "-c", "%U:%G %a", "/" + name).strip()

    def state(self):
        found = self.run("dpkg-query", "-W", "-f", "${db:Status-Abbrev}", "alloyd", check=False).strip()
        return "un" if found.startswith("dpkg-query: no packages") else found


def expect(what, seen, wanted):
    if seen != wanted:
        sys.exit(f"FAILED: {what}: {seen!r}, not {wanted!r}")
    print(f"    {what}: {seen}", flush=True)


def later_version(package, folder):
    """The same package as an upgrade, whose shipped configuration has changed."""
    tree = folder / "later"
    run("dpkg-deb", "-R", package, tree)
    control = tree / "DEBIAN" / "control"
    control.write_text(re.sub(r"^(Version: .*)-1$", r"\1-2", control.read_text(), flags=re.M))
    with open(tree / INI, "a") as ini:
        ini.write("; A comment of the later version.\n")
    later = folder / package.name.replace("-1_", "-2_")
    run("dpkg-deb", "--root-owner-group", "-b", tree, later)
    return later


def need(*tools):
    if os.geteuid() != 0:
        sys.exit("FAILED: only root can make a bare Debian and install into it")
    for tool in tools:
        if shutil.which(tool) is None:
            sys.exit(f"FAILED: {tool} is not installed: run scripts/install --test")


def find_package(given):
    return given or SOURCE / run(SOURCE / "scripts" / "package").splitlines()[-1]
