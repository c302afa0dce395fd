# SPDX-License-Identifier: Apache-2.0
"""What the compiler and the linker were asked to do against memory errors, read from the binaries."""

import platform
import re
import subprocess

import pytest

import harness

PROGRAMS = ("alloyd", "alloyctl", "alloy-clickhouse")


def readelf(option, program):
    return subprocess.run(["readelf", "-W", option, harness.BUILD / program], capture_output=True, text=True, check=True,
                          timeout=60).stdout


@pytest.fixture(params=PROGRAMS)
def program(request):
    if re.search(r"__[at]san_|__ubsan_", readelf("--dyn-syms", "alloyd")):
        pytest.skip("sanitizers find memory errors themselves")
    return request.param


def test_addresses_are_random_and_tables_read_only(program):
    assert re.search(r"Type: +DYN", readelf("--file-header", program))
    dynamic = readelf("--dynamic", program)
    assert re.search(r"FLAGS_1.*\bNOW\b.*\bPIE\b", dynamic) and "TEXTREL" not in dynamic
    segments = readelf("--program-headers", program)
    assert "GNU_RELRO" in segments
    assert re.search(r"GNU_STACK .* RW +0x", segments)  # not executable
    assert not re.search(r"LOAD .* RWE ", segments)


def test_stacks_are_guarded_and_lengths_checked(program):
    symbols = readelf("--dyn-syms", program)
    assert "__stack_chk_fail" in symbols
    assert re.search(r"__(snprintf|vsnprintf|memcpy|fprintf|printf)_chk", symbols)


@pytest.mark.skipif(platform.machine() != "x86_64", reason="CET is x86's")
def test_jumps_are_checked_where_the_processor_can(program):
    assert re.search(r"x86 feature:.*\bSHSTK\b", readelf("--notes", program))
    code = subprocess.run(["objdump", "-d", "--no-show-raw-insn", harness.BUILD / program], capture_output=True, text=True,
                          check=True, timeout=60).stdout
    assert re.search(r"<main>:\n +[0-9a-f]+:\tendbr64", code)
