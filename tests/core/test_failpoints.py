"""A fail point ends the process at the pass that was asked for, and at no other."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from core.errors import Misconfigured
from core.failpoints import arm
from tests.conftest import ROOT

PASSES = """
from core.failpoints import arm, reached
arm({armed!r})
for n in range(1, 6):
    print(n, flush=True)
    reached("before_commit")
"""


def passes(armed: str) -> tuple[int, list[str]]:
    """How a process that passes a step five times ended, and the passes it began."""
    script = [sys.executable, "-c", PASSES.format(armed=armed)]
    done = subprocess.run(script, cwd=ROOT, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout.split()


def test_a_process_dies_at_the_pass_that_was_asked_for() -> None:
    assert passes("before_commit") == (-signal.SIGKILL, ["1"])
    assert passes("after_ack:1,before_commit:3") == (-signal.SIGKILL, ["1", "2", "3"])


def test_without_its_step_armed_it_goes_on() -> None:
    assert passes("") == (0, ["1", "2", "3", "4", "5"])
    assert passes("after_commit:2:stop") == (0, ["1", "2", "3", "4", "5"])


@pytest.mark.parametrize("text", ["somewhere", "before_commit:0", "before_commit:x", "after_ack:1:explode"])
def test_what_is_no_step_is_refused(text: str) -> None:
    with pytest.raises(Misconfigured, match="CLOUDMETRICS_FAIL_POINT"):
        arm(text)
