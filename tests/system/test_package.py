# SPDX-License-Identifier: Apache-2.0
"""What is installed: by cmake --install below any prefix, and by the Debian package, as far as dpkg-deb shows it.

tests/package/run installs, upgrades, removes and purges it in a bare Debian 12.
"""

import os
import pathlib
import re
import shutil
import subprocess

import pytest

import harness

FOLDERS = ("bin", "lib", "share", "sbin")


def run(*argv, **more):
    result = subprocess.run([str(a) for a in argv], capture_output=True, text=True, check=False, **more)
    assert result.returncode == 0, f"{argv}: {result.stdout[-2000:]}{result.stderr[-2000:]}"
    return result.stdout


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """The package's file; beside it what it holds, in the folder tree."""
    folder = tmp_path_factory.mktemp("package")
    run("cpack", "-B", folder, cwd=harness.BUILD)
    (deb,) = folder.glob("alloyd_*.deb")
    run("dpkg-deb", "-x", deb, folder / "tree")
    run("dpkg-deb", "-e", deb, folder / "control")
    return deb


@pytest.fixture(scope="module")
def tree(package):
    return package.parent / "tree"


def install(folder, prefix):
    run("cmake", "--install", harness.BUILD, "--prefix", prefix, env=dict(os.environ, DESTDIR=str(folder)))
    return folder


@pytest.fixture(scope="module", params=["/usr", "/usr/local", "/opt/alloy"])
def installed(request, tmp_path_factory):
    """(root, prefix) of an installation."""
    return install(tmp_path_factory.mktemp("root"), request.param), request.param


# ---- any prefix


def test_the_unit_runs_what_is_installed(installed):
    root, prefix = installed
    unit = (root / prefix[1:] / "lib/systemd/system/alloyd.service").read_text()
    program, *arguments = re.search(r"^ExecStart=(\S+) (.*)$", unit, re.M).groups()
    assert program == f"{prefix}/bin/alloyd"
    assert run(root / program[1:], "--version").startswith("alloyd ")
    config = root / arguments[0].split()[1][1:]
    assert "ok" in run(root / program[1:], "--check", "--config", config)


def named_paths(text):
    """Absolute paths below /usr, /opt and /etc/alloy that a text names."""
    return {path.rstrip(".,;:)") for path in re.findall(r"(?<![\w./-])/(?:usr|opt|etc/alloy)/[\w./-]+", text)}


def test_every_path_that_units_and_pages_name_is_there(installed):
    root, prefix = installed
    texts = [path for folder in ("lib/systemd", "lib/sysusers.d", "share/man")
             for path in (root / prefix[1:] / folder).rglob("*") if path.is_file()]
    assert len(texts) >= 5
    for path in texts:
        text = path.read_text().replace("\\-", "-").replace("\\&", "").replace("\\fR", " ")
        named = named_paths(text)
        for name in named - {"/etc/alloy/clickhouse.password"}:
            assert (root / name[1:]).exists(), (path, name)
    unit = (root / prefix[1:] / "lib/systemd/system/alloyd.service").read_text()
    assert {name for name in named_paths(unit) if not name.startswith("/etc/")} == {
        f"{prefix}/bin/alloyd", f"{prefix}/share/doc/alloy/README.md"}


LINK = re.compile(r"\]\(([^)\s]+)\)")


def test_links_in_the_installed_documents_lead_somewhere(installed):
    root, prefix = installed
    doc = root / prefix[1:] / "share/doc/alloy"
    count = 0
    for path in doc.rglob("*.md"):
        for target in LINK.findall(re.sub(r"```.*?```|`[^`]*`", "", path.read_text(), flags=re.S)):
            if re.match(r"[a-z]+:", target) or target.startswith("#"):
                continue
            goal = (path.parent / target.partition("#")[0]).resolve()
            assert goal.exists() and doc.resolve() in goal.parents, (path, target)
            count += 1
    assert count > 40


def test_what_the_documents_say_is_installed_is_there(tmp_path):
    """The documents tell of an installation below /usr."""
    root = install(tmp_path, "/usr")
    own = re.compile(r"/usr/(?:share/(?:doc/)?alloy|bin/alloy|lib/systemd/system/alloy)[\w./-]*|/etc/alloy/alloy\.ini")
    found = set()
    for path in (root / "usr/share/doc/alloy").rglob("*"):
        if path.is_file():
            found |= {name.rstrip(".") for name in own.findall(path.read_text(errors="replace"))}
    assert "/usr/share/alloy/schema.sql" in found and "/usr/share/alloy/alloy.rules.yml" in found
    for name in found:
        assert (root / name[1:]).exists(), name


def test_a_configuration_that_is_there_stays(tmp_path):
    (tmp_path / "etc/alloy").mkdir(parents=True)
    (tmp_path / "etc/alloy/alloy.ini").write_text("[stream.mine]\ntable = a.b\n")
    install(tmp_path, "/usr")
    assert (tmp_path / "etc/alloy/alloy.ini").read_text() == "[stream.mine]\ntable = a.b\n"


# ---- the package


def control(package):
    fields = {}
    for line in run("dpkg-deb", "-f", package).splitlines():
        if not line.startswith(" "):
            name, _, fields_text = line.partition(": ")
            fields[name] = fields_text
    return fields


def test_its_fields_are_those_of_a_debian_package(package):
    fields = control(package)
    version = run(harness.BUILD / "alloyd", "--version").split()[1]
    assert fields["Package"] == "alloyd" and fields["Version"] == f"{version}-1"
    assert fields["Architecture"] == run("dpkg", "--print-architecture").strip()
    assert "Maintainer" in fields and "Section" in fields
    assert package.name == f"alloyd_{version}-1_{fields['Architecture']}.deb"
    assert len(list(package.parent.glob("alloyd-dbgsym_*"))) == 1


def test_it_depends_on_the_package_of_each_library(package, tree):
    depends = {word.split()[0] for word in control(package)["Depends"].split(", ")}
    assert "adduser" in depends  # postinst
    needed = set(re.findall(r"NEEDED.*\[(\S+)\]", run("readelf", "-d", tree / "usr/bin/alloyd", tree / "usr/bin/alloyctl")))
    owners = run("dpkg-query", "-S", *(f"*/{library}" for library in needed)).splitlines()
    for library in needed:
        assert {line.split(":")[0] for line in owners if line.endswith("/" + library)} & depends, library


def test_it_holds_what_a_user_looks_for(package, tree):
    for name in ("usr/bin/alloyd", "usr/bin/alloyctl", "usr/lib/systemd/system/alloyd.service",
                 "usr/lib/sysusers.d/alloy.conf", "usr/share/alloy/alloy.ini", "usr/share/alloy/alloy.rules.yml",
                 "usr/share/alloy/schema.sql", "usr/share/man/man8/alloyd.8.gz", "usr/share/man/man1/alloyctl.1.gz",
                 "usr/share/man/man5/alloy.ini.5.gz", "usr/share/bash-completion/completions/alloyd",
                 "usr/share/bash-completion/completions/alloyctl", "usr/share/zsh/vendor-completions/_alloyd",
                 "usr/share/zsh/vendor-completions/_alloyctl", "usr/share/doc/alloyd/copyright",
                 "usr/share/doc/alloyd/changelog.Debian.gz", "usr/share/doc/alloyd/README.md", "etc/alloy/alloy.ini"):
        assert (tree / name).exists(), name
    documents = {str(path.relative_to(harness.ROOT)) for path in (harness.ROOT / "docs").rglob("*") if path.is_file()}
    for name in documents | {"README.md", "SECURITY.md", "LICENSE"}:
        assert (tree / "usr/share/doc/alloy" / name).is_file(), name
    units = {path.name for pattern in ("*.service", "*.socket") for path in (harness.ROOT / "config").glob(pattern)}
    assert units == {path.name for path in (tree / "usr/lib/systemd/system").iterdir()}
    # The engine for trials and what only the build needs are not for production.
    assert {path.name for path in (tree / "usr/bin").iterdir()} == {"alloyd", "alloyctl"}
    assert [path for path in tree.rglob("*") if path.is_file() and "chdb" in path.name] == []


def test_owners_and_modes(package, tree):
    listing = run("dpkg-deb", "-c", package)
    for line in listing.splitlines():
        mode, owner, *_, name = line.split(" -> ")[0].split()
        assert owner == "root/root", line
        wanted = {"d": "drwxr-xr-x", "l": "lrwxrwxrwx"}.get(mode[0], "-rw-r--r--")
        if name.startswith("./usr/bin/") and mode[0] == "-":
            wanted = "-rwxr-xr-x"
        elif name == "./etc/alloy/alloy.ini":
            wanted = "-rw-r-----"  # passwords; postinst gives it to the group
        assert mode == wanted, line
    for program in ("alloyd", "alloyctl"):
        assert "debug_info" not in run("readelf", "-S", tree / "usr/bin" / program), "it is not stripped"


def test_the_configuration_is_a_conffile_and_nothing_else_is_in_etc(package, tree):
    conffiles = (package.parent / "control" / "conffiles").read_text().split()
    assert conffiles == ["/etc/alloy/alloy.ini"]
    assert ["/" + str(path.relative_to(tree)) for path in (tree / "etc").rglob("*") if path.is_file()] == conffiles
    assert (tree / "etc/alloy/alloy.ini").read_text() == (harness.ROOT / "config/alloy.ini").read_text()


def test_the_scripts_are_shell_and_do_nothing_when_asked_for_nothing(package):
    for name in ("postinst", "prerm", "postrm"):
        script = package.parent / "control" / name
        assert os.access(script, os.X_OK)
        for shell in ("sh", "bash"):
            run(shell, "-n", script)
        text = script.read_text()
        assert text.startswith("#!/bin/sh\n") and "\nset -e\n" in text


def test_the_pages_of_the_package_can_be_read(tree):
    if shutil.which("man") is None:
        pytest.fail("man is not installed: run scripts/install --test")
    for page in (tree / "usr/share/man").rglob("*.gz"):
        assert "NAME" in run("man", "-l", page, env=dict(os.environ, MANPAGER="cat", LC_ALL="C.UTF-8"))


def test_the_sysusers_file_is_valid(tree, tmp_path):
    (tmp_path / "etc").mkdir()
    run("systemd-sysusers", f"--root={tmp_path}", tree / "usr/lib/sysusers.d/alloy.conf")
    line = next(line for line in (tmp_path / "etc/passwd").read_text().splitlines() if line.startswith("alloy:"))
    assert line.split(":")[5] == "/var/lib/alloy"
    user = pathlib.Path(tree / "usr/lib/systemd/system/alloyd.service").read_text()
    assert "\nUser=alloy\n" in user
