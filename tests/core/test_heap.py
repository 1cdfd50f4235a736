"""What a settled process does with memory that it frees."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

COUNT_FAULTS = """
import resource, sys
from core.heap import settle_heap
if "settled" in sys.argv:
    settle_heap()
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def work():
    parts = [bytes(1_000_000) for _ in range(3)]
    return b"".join(parts)
work()
before = faults()
for _ in range(20):
    work()
print(faults() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another allocator")
def test_memory_of_a_megabyte_is_not_asked_of_the_system_anew_each_time() -> None:
    def faults(*arguments: str) -> int:
        done = subprocess.run(
            [sys.executable, "-c", COUNT_FAULTS, *arguments], capture_output=True, text=True, check=True
        )
        return int(done.stdout)

    assert faults("settled") * 10 < faults()
