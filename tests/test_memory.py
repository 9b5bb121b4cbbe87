"""What was let go of is given back, and the last use is written where it is looked for."""

from __future__ import annotations

import subprocess
import sys

import pytest

from greenroom.memory import Recency

PROGRAM = """
from pathlib import Path
from greenroom.memory import give_back_memory

def resident_kb():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))

many = [bytes(2_000) for _ in range(50_000)]
last = bytes(2_000)  # stands at the end of the heap, which therefore cannot shrink by itself
full = resident_kb()
del many
give_back_memory()
print(full - resident_kb())
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="malloc_trim is glibc's")
def test_what_is_free_inside_the_heap_goes_back_to_the_system():
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60, check=True
    )
    assert int(ended.stdout) > 80_000


def test_what_is_made_later_was_used_later():
    assert Recency().at_s <= Recency().at_s
