# SPDX-License-Identifier: Apache-2.0
"""What the compiler and the linker were asked to do against memory errors, read from the binaries."""

import platform
import re
import subprocess

import pytest

import harness

SANITIZERS = {"__asan_", "__ubsan_", "__tsan_"}


def read(*argv):
    return subprocess.run(argv, capture_output=True, text=True, check=True, timeout=60).stdout


def readelf(option, program):
    return read("readelf", "-W", option, harness.BUILD / program)


def sanitizers(program):
    return set(re.findall("|".join(SANITIZERS), readelf("--dyn-syms", program)))


if sanitizers("alloyd"):  # which find memory errors themselves, and do not go with the rest

    def test_the_programs_have_the_same_sanitizers():
        assert sanitizers("alloyctl") == sanitizers("alloyd")

else:
    pytestmark = pytest.mark.parametrize("program", ["alloyd", "alloyctl", "alloy-clickhouse"])

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

    if platform.machine() == "x86_64":

        def test_jumps_are_checked_where_the_processor_can(program):
            assert re.search(r"x86 feature:.*\bSHSTK\b", readelf("--notes", program))
            code = read("objdump", "-d", "--no-show-raw-insn", harness.BUILD / program)
            assert re.search(r"<main>:\n +[0-9a-f]+:\tendbr64", code)
