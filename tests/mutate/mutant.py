# SPDX-License-Identifier: Apache-2.0
"""What a mutant is."""

from typing import NamedTuple, Tuple


class Mutant(NamedTuple):
    name: str
    folder: str
    old: str
    new: str
    breaks: str  # what goes wrong in life
    tests: Tuple[str, ...]  # tests/unit/*/test_<name>.c
    argued: str = ""  # why it may live
