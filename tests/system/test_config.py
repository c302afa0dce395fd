# SPDX-License-Identifier: Apache-2.0
"""The command line and the configuration file, from outside."""

import pathlib
import re
import socket
import subprocess
import textwrap

import pytest

import harness

ALLOYD = harness.BUILD / "alloyd"
STREAM = "[stream.a]\ntable = d.t\n"  # two lines that make a configuration complete


def run(*arguments):
    return subprocess.run([ALLOYD, *map(str, arguments)], capture_output=True, text=True, timeout=harness.DEADLINE)


@pytest.fixture
def ini(tmp_path):
    def write(text, name="a.ini"):
        path = tmp_path / name
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return path

    return write


def problems(path, *options):
    """The (line, message) of each problem that --check prints."""
    result = run("--check", "--config", path, *options)
    found = []
    assert result.stdout in ("", f"{path}: ok\n")
    for line in result.stderr.splitlines():
        match = re.fullmatch(re.escape(str(path)) + r":(\d+): (.+)", line)
        assert match, line
        found.append((int(match[1]), match[2]))
    assert result.returncode == (2 if found else 0), result
    return found


def test_segments_and_mappings(ini):
    """A segment is a mapping: what vm.max_map_count does not allow is refused with the figures."""
    most = int(pathlib.Path("/proc/sys/vm/max_map_count").read_text())
    fitting = (most - 2048) * 64
    assert problems(ini(f"{STREAM}[journal]\nsegment = 64KiB\nmax_bytes = {fitting}KiB")) == []
    (line, message), = problems(ini(f"{STREAM}[journal]\nsegment = 64KiB\nmax_bytes = {fitting + 64}KiB"))
    assert line == 4 and f"takes {most - 2047} segments" in message and f"gives a process {most}:" in message
    assert "set journal.segment to 128KiB or more, or the sysctl vm.max_map_count to" in message
    if most == 65530:  # the usual one
        assert problems(ini(f"{STREAM}[journal]\nsegment = 64KiB\nmax_bytes = 8GiB"))
        assert problems(ini(f"{STREAM}[journal]\nsegment = 256KiB\nmax_bytes = 8GiB")) == []
    assert problems(ini(f"{STREAM}[journal]\nsegment = 64KiB")) == []  # auto takes what there is


def test_files_and_folders_that_are_not_there_are_problems(ini, tmp_path):
    """Of every key that names one; the rest is in test_config.c."""
    file = tmp_path / "a file"
    file.write_text("x")
    good = f"{STREAM}[redis]\nurl = rediss://:pw@h?ssl_ca_certs={tmp_path}/a%20file\n[journal]\ndir = {tmp_path}/new/journal\n"
    assert problems(ini(good)) == []
    found = problems(ini(f"{STREAM}[redis]\nurl = rediss://:pw@h?ssl_ca_certs=/none/ca.pem\n[journal]\ndir = {file}/journal\n"
                         "[clickhouse]\npassword_file = /none/password\n[auth]\nkeys_file = /none/keys\n"))
    assert sorted(found) == [
        (4, "redis.url: ssl_ca_certs = /none/ca.pem: No such file or directory"),
        (6, f"journal.dir = {file}/journal: {file} is not a folder"),
        (8, "clickhouse.password_file = /none/password: No such file or directory"),
        (10, "auth.keys_file = /none/keys: No such file or directory")]
    # The folder of a socket may be made when alloyd starts.
    assert problems(ini(f"{STREAM}[server]\nlisten = unix:/none/socket\n")) == []
    assert problems(ini(f"{STREAM}[server]\nlisten = unix:{file}/socket\n")) == [
        (4, f"server.listen = unix:{file}/socket: {file} is not a folder")]


# What is added to STREAM, from line 3 on, and the line at fault.
WRONG = {
    "unknown_section": ("[nonsense]\nx = 1", 3),
    "unknown_key": ("[server]\nlistens = 127.0.0.1:1", 4),
    "key_of_another_section": ("[ring]\nthreads = 1", 4),
    "unknown_stream_key": ("tables = d.t", 3),
    "stream_without_a_name": ("[stream.]\ntable = d.t", 3),
    "stream_with_a_bad_name": ("[stream.a/b]\ntable = d.t", 3),
    "stream_without_a_table": ("[stream.b]\nid = x", 3),
    "bad_table": ("[stream.b]\ntable = nodot", 4),
    "same_path": ("[stream.b]\ntable = d.t\npath = /v1/a", 5),
    "bad_path": ("[stream.b]\ntable = d.t\npath = v1", 5),
    "empty_id": ("id = a,,b", 3),
    "after_comments_and_empty_lines": ("[server]\n[log]\n\n; comment\nlisten = x", 7),
    "duplicate_key": ("[ring]\ncapacity = 10\ncapacity = 10", 5),
    "duplicate_key_further_down": ("[ring]\ncapacity = 10\n[log]\nlevel = info\n[ring]\ncapacity = 20", 8),
    "too_small": ("[ring]\ncapacity = 0", 4),
    "too_large": ("[worker]\nbatch = 100001", 4),
    "overflow": ("[ring]\ncapacity = 18446744073709551617", 4),
    "negative": ("[worker]\nbatch = -1", 4),
    "no_number": ("[worker]\nbatch = many", 4),
    "fraction": ("[worker]\nlinger = 1.5s", 4),
    "size_without_a_unit": ("[server]\nmax_body = 1000", 4),
    "wrong_size_unit": ("[server]\nmax_body = 8MB", 4),
    "duration_without_a_unit": ("[drain]\ntimeout = 30", 4),
    "wrong_duration_unit": ("[drain]\ntimeout = 30sec", 4),
    "wrong_boolean": ("[clickhouse]\nwait_for_async_insert = true", 4),
    "wrong_word": ("[journal]\nsync = sometimes", 4),
    "wrong_level": ("[log]\nlevel = verbose", 4),
    "address_without_a_port": ("[server]\nlisten = 127.0.0.1", 4),
    "bad_port": ("[server]\nlisten = 127.0.0.1:70000", 4),
    "bad_second_address": ("[server]\nlisten = 127.0.0.1:1, [::1:2", 4),
    "relative_unix_path": ("[server]\nlisten = unix:x", 4),
    "one_address_twice": ("[admin]\nlisten = 127.0.0.1:8080", 4),
    "segments_beyond_the_kernels_mappings": ("[journal]\nsegment = 64KiB\nmax_bytes = 1024GiB", 4),
    "max_bytes_beyond_the_kernels_mappings": ("[journal]\nmax_bytes = 1048576GiB", 4),
    "redis_scheme": ("[redis]\nurl = http://127.0.0.1", 4),
    "redis_escape": ("[redis]\nurl = redis://u:%zz@h", 4),
    "redis_database": ("[redis]\nurl = redis://h/x", 4),
    "redis_long_path": ("[redis]\nurl = unix:///" + "a" * 106, 4),
    "clickhouse_scheme": ("[clickhouse]\nurl = 127.0.0.1:8123", 4),
    "password_twice": ("[clickhouse]\npassword = a\npassword_file = /b", 5),
    "password_file_that_is_not_there": ("[clickhouse]\npassword_file = /not/there", 4),
    "segment_too_large_for_the_journal": ("[journal]\nsegment = 64MiB\nmax_bytes = 1MiB", 5),
    "bad_setting_name": ("[clickhouse]\nsetting.a-b = 1", 4),
    "no_equals_sign": ("[server]\nlisten", 4),
    "no_bracket": ("[server\nlisten = 127.0.0.1:1", 3),
    "long_line": ("[clickhouse]\npassword = " + "x" * 5000, 4),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_configuration_names_its_line(ini, name):
    text, line = WRONG[name]
    found = problems(ini(STREAM + text + "\n"))
    assert found and found[0][0] == line, found
    assert len(found) <= 2 and {at for at, _ in found} <= {line, line + 1}, found


def test_a_key_before_the_first_section_names_its_line(ini):
    assert [line for line, _ in problems(ini("listen = 127.0.0.1:1\n" + STREAM))] == [1]


def test_all_problems_are_told_in_one_run(ini):
    text, lines, at = STREAM, [], 3
    for name, (wrong, line) in WRONG.items():
        # Those that would change what the others say, or need a section's only place for a key.
        if name.startswith(("duplicate_key", "no_", "after_", "long", "stream_with", "tables", "empty_id", "one_address")):
            continue
        part = wrong.split("\n")
        section, key = part[0], part[-1].split("=")[0].strip()
        if (section, key) in [(s, k) for _, s, k in lines] or key in ("table", "path", "id"):
            continue
        text += wrong + "\n"
        lines.append((at + line - 3, section, key))
        at += len(part)
    wanted = {line for line, *_ in lines}
    assert len(wanted) >= 15
    found = problems(ini(text))
    assert wanted <= {line for line, _ in found}, (sorted(wanted - {line for line, _ in found}), text, found)


def test_no_stream_and_no_file_are_problems(ini, tmp_path):
    path = ini("[log]\nlevel = info\n")
    result = run("--check", "-c", path)
    assert result.returncode == 2 and str(path) in result.stderr and "stream" in result.stderr
    missing = tmp_path / "missing.ini"
    for options in (["--check"], []):
        result = run(*options, "-c", missing)
        assert result.returncode == 2 and str(missing) in result.stderr, result
    assert run("--check", "-c", tmp_path).returncode == 2


def test_a_good_configuration_passes(ini):
    text = STREAM + ("path = /x\nid = a, b\nttl = 1h\n[server]\nlisten = 127.0.0.1:1, [::1]:2, unix:/tmp/x\n"
                     "threads = auto\nmax_body = 1MiB\n[redis]\nurl =\n; comment\n# comment\n\n"
                     "[clickhouse]\nasync_insert = auto\nsetting.insert_quorum = 2\n[journal]\nmode = memory\n")
    for variant in (text, "\ufeff" + text.replace("\n", "\r\n"), text.rstrip("\n")):
        assert problems(ini(variant)) == []


def test_the_shipped_configuration_passes_and_shows_the_defaults(ini):
    shipped = harness.ROOT / "config" / "alloy.ini"
    assert problems(shipped) == []
    dump = run("-D", "-c", shipped).stdout
    uncommented = re.sub(r"^; (\w[\w.]* =( |$))", r"\1", shipped.read_text(), flags=re.M)
    uncommented = re.sub(r"^(setting|column)\..*\n", "", uncommented, flags=re.M)
    every = ini(uncommented)
    assert problems(every) == []
    assert run("-D", "-c", every).stdout == dump


def test_every_example_of_the_documentation_passes(ini, tmp_path):
    text = (harness.ROOT / "docs" / "CONFIG.md").read_text().partition("## Examples\n")[2]
    examples = [part for part in re.split(r"^\S.*\n", text, flags=re.M) if part.strip()]
    assert len(examples) >= 4
    (tmp_path / "password").write_text("hush\n")
    for example in examples:
        example = re.sub(r"(?<=password_file = ).*", f"{tmp_path}/password", example)
        assert problems(ini(textwrap.dedent(example))) == [], example


DEFAULTS = """server.max_connections=65536 server.max_head=16KiB server.max_body=8MiB server.head_timeout=10s
server.body_timeout=30s server.idle_timeout=75s server.listen=127.0.0.1:8080 admin.listen=127.0.0.1:8081
stream.a.path=/v1/a stream.a.id=event_id stream.a.ttl=24h l1.capacity=1000000 l1.ttl=10min ring.capacity=100000
worker.batch=2500 worker.linger=50ms redis.url=redis://127.0.0.1:6379/0 redis.chunk=1000 redis.ttl=24h
redis.key_prefix=alloy: redis.timeout=500ms redis.on_failure=pass clickhouse.url=http://127.0.0.1:8123
clickhouse.user= clickhouse.async_insert=auto clickhouse.wait_for_async_insert=on clickhouse.max_inflight=4
clickhouse.insert_rows=100000 clickhouse.insert_linger=200ms
clickhouse.timeout=30s clickhouse.retry_min=100ms clickhouse.retry_max=10s journal.mode=file
journal.dir=/var/lib/alloy/journal journal.segment=64MiB journal.max_bytes=8GiB journal.sync=interval
journal.sync_interval=100ms dead_letter.dir=/var/lib/alloy/dead-letter dead_letter.max_bytes=1GiB drain.timeout=30s
log.level=info log.format=logfmt"""


def read_dump(text):
    values, section = {}, None
    for line in text.splitlines():
        if line.startswith("["):
            section = line[1:-1]
        elif line and not line.startswith(";"):
            key, value = line.split(" =", 1)
            values[f"{section}.{key}"] = value.strip()
    return values


def test_the_defaults_are_those_of_the_contract(ini):
    values = read_dump(run("--dump-config", "-c", ini(STREAM)).stdout)
    for item in DEFAULTS.split():
        key, value = item.split("=", 1)
        same = {"24h": {"24h", "1440min"}, "10min": {"10min", "600s"}}.get(value, {value})
        assert values[key] in same, (key, values[key])
    assert values["stream.a.table"] == "d.t"
    memory = read_dump(run("-D", "-c", ini(STREAM), "-o", "journal.mode=memory").stdout)
    assert memory["journal.max_bytes"] == "512MiB"


def test_a_dump_reads_back_and_masks_secrets(ini, tmp_path):
    (tmp_path / "secret").write_text("hush-file\n")
    path = ini(STREAM + "id = x, y\n[stream.b]\ntable = e.u\n[redis]\nurl = redis://u:hush-redis@h:1/2\n"
               "[clickhouse]\nurl = http://u:hush-url@h:1\nsetting.insert_quorum = 2\nmax_inflight = 7\n")
    first = run("--dump-config", "--config", path)
    assert first.returncode == 0
    again = run("--dump-config", "--config", ini(first.stdout, "b.ini"))
    assert again.stdout == first.stdout and again.returncode == 0
    assert problems(ini(first.stdout, "c.ini")) == []
    password = ini(STREAM + "[clickhouse]\nuser = u\npassword = hush-key\n", "d.ini")
    from_file = ini(STREAM + f"[clickhouse]\nuser = u\npassword_file = {tmp_path}/secret\n", "e.ini")
    for result in (first, run("-D", "-c", password), run("-D", "-c", from_file)):
        assert result.returncode == 0 and "hush" not in result.stdout + result.stderr
    assert run("-D", "-c", ini(run("-D", "-c", password).stdout, "f.ini")).returncode == 0


def test_problems_never_show_a_secret(ini):
    path = ini(STREAM + "[redis]\nurl = redis://u:hush@h:x\n[clickhouse]\nurl = ftp://u:hush@h\npassword = hush\n"
               "password_file = /not/there\n")
    assert len(problems(path)) >= 2
    assert "hush" not in run("-t", "-c", path).stderr


def test_set_wins_over_the_file(ini):
    path = ini(STREAM + "[ring]\ncapacity = 10\n[log]\nlevel = debug\n")
    result = run("-D", "-c", path, "--set", "ring.capacity=20", "-o", "ring.capacity=30", "--set=stream.a.path=/p",
                 "-o", "stream.c.table=x.y", "-o", "clickhouse.setting.insert_quorum=3")
    values = read_dump(result.stdout)
    assert values["ring.capacity"] == "30" and values["log.level"] == "debug" and values["stream.a.path"] == "/p"
    assert values["stream.c.table"] == "x.y" and values["clickhouse.setting.insert_quorum"] == "3"


@pytest.mark.parametrize("override", ["ring.capacities=1", "rings.capacity=1", "capacity=1", "ring.capacity", "=1", "",
                                      "ring.capacity=x", "ring.capacity=0", "stream.a.nonsense=1", "ring.=1", ".capacity=1"])
def test_a_wrong_set_is_refused_and_named(ini, override):
    for options in ([], ["--check"], ["--dump-config"]):
        result = run(*options, "-c", ini(STREAM), "--set", override)
        assert result.returncode == 2 and result.stdout == ""
        assert f"--set {override}" in result.stderr, result


def test_set_may_repair_nothing_that_is_wrong_in_the_file(ini):
    path = ini(STREAM + "[ring]\ncapacity = x\n")
    assert problems(path, "--set", "ring.capacity=1")[0][0] == 4


@pytest.mark.parametrize("option", ["--help", "-h", "--version", "-V"])
def test_help_and_version_print_to_standard_output(option):
    result = run(option)
    assert result.returncode == 0 and result.stderr == ""
    if option in ("--version", "-V"):
        assert re.fullmatch(r"alloyd \d+\.\d+\.\d+\n", result.stdout)
    else:
        for word in ("--config", "--set", "--check", "--dump-config", "--version", "--help", "-c", "-o", "-t", "-D"):
            assert word in result.stdout


@pytest.mark.parametrize("arguments", [["--nonsense"], ["-x"], ["argument"], ["--config"], ["-c"], ["--set"], ["-t", "x"],
                                       ["--check=1"], ["--"] + ["x"]])
def test_a_wrong_command_line_is_exit_2(arguments):
    result = run(*arguments)
    assert result.returncode == 2 and "--help" in result.stderr and result.stdout == ""


def test_a_start_with_a_wrong_configuration_is_exit_2_and_binds_and_creates_nothing(ini, tmp_path):
    port = harness.free_port()
    with socket.socket() as s:  # nobody can take the port from us, and alloyd would fail to
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        s.bind(("127.0.0.1", port))
        s.listen()
        path = ini(STREAM + f"[server]\nlisten = 127.0.0.1:{port}\n[journal]\ndir = {tmp_path}/journal\n"
                   f"[dead_letter]\ndir = {tmp_path}/dead\n[ring]\ncapacity = x\n")
        result = run("-c", path)
    assert result.returncode == 2 and f"{path}:10: " in result.stderr
    assert "in use" not in result.stderr and not (tmp_path / "journal").exists() and not (tmp_path / "dead").exists()


def test_check_and_dump_touch_nothing(ini, tmp_path):
    path = ini(STREAM + f"[journal]\ndir = {tmp_path}/journal\n[dead_letter]\ndir = {tmp_path}/dead\n")
    assert run("-t", "-c", path).returncode == run("-D", "-c", path).returncode == 0
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.ini"]
    both = run("-t", "-D", "-c", path)
    assert both.returncode == 0 and problems(ini(both.stdout, "b.ini")) == []
