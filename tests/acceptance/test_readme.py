"""What the README tells people to type works as it is written."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from typing import Any

import pytest

from tests.conftest import ROOT, Instance

pytestmark = pytest.mark.slow

README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^curl (?:.*\\\n)*.*(?:\n .*)*$", README, re.MULTILINE)


def run(command: str, instance: Instance) -> dict[str, object]:
    keys = {"SECRET_KEY": instance.secret_key, "PUBLISHABLE_KEY": instance.publishable_key}
    done = subprocess.run(
        ["bash", "-c", command.replace("http://127.0.0.1:8000", instance.url).replace("curl", "curl -s", 1)],
        env={**os.environ, **keys}, capture_output=True, text=True, timeout=30, check=True,
    )  # fmt: skip
    answer: dict[str, object] = json.loads(done.stdout)
    return answer


def test_a_metric_is_defined_counts_an_event_and_is_charted_as_the_readme_says(instance: Instance) -> None:
    define, send, chart = COMMANDS
    made = run(define, instance)
    assert made["data"] == {"createMetric": {"metric": {"key": "signups", "state": "BACKFILLING"}}}
    assert run(send, instance)["accepted"] == 1
    for _ in range(100):
        answer: Any = run(chart, instance)
        assert "errors" not in answer, answer
        totals = [line["total"] for line in answer["data"]["series"]["columns"]["series"]]
        if sum(totals) >= 1:
            return
        time.sleep(0.1)
    raise AssertionError(answer)


def test_the_readme_names_the_stream_of_the_same_metric() -> None:
    assert "cloudmetrics watch signups" in README
