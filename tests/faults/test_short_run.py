"""The short run of the faults, as anyone may type it: nothing lost, nothing doubled, on either log."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from tests.conftest import ROOT

pytestmark = pytest.mark.slow
COMMAND = [sys.executable, "-m", "tests.faults", "--short", "--seed", "make test"]


@pytest.mark.parametrize("log", ["valkey", "kafka"])
def test_faults_lose_double_and_invent_nothing(log: str, request: pytest.FixtureRequest) -> None:
    if log == "kafka":
        # Skips, or fails in CI, where a broker cannot be had.
        request.getfixturevalue("kafka_brokers")
    done = subprocess.run([*COMMAND, "--log", log], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    last = done.stdout.splitlines()[-1]
    found = re.fullmatch(r"acknowledged (\d+) lost 0 duplicated 0 unexpected 0 recovered \d+", last)
    assert found and int(found[1]) > 1000, last
