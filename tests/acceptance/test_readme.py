"""What the README tells people to type works as it is written."""

from __future__ import annotations

import json
import os
import re
import subprocess

import pytest

from tests.conftest import ROOT, Instance

pytestmark = pytest.mark.slow

COMMANDS = re.findall(r"^curl (?:.*\\\n)*.*(?:\n .*)*$", (ROOT / "README.md").read_text(), re.MULTILINE)


def run(command: str, instance: Instance) -> dict[str, object]:
    keys = {"SECRET_KEY": instance.secret_key, "PUBLISHABLE_KEY": instance.publishable_key}
    done = subprocess.run(
        ["bash", "-c", command.replace("http://127.0.0.1:8000", instance.url).replace("curl", "curl -s", 1)],
        env={**os.environ, **keys}, capture_output=True, text=True, timeout=30, check=True,
    )  # fmt: skip
    answer: dict[str, object] = json.loads(done.stdout)
    return answer


def test_an_event_is_sent_as_the_readme_says(instance: Instance) -> None:
    (command,) = (command for command in COMMANDS if "/v1/events" in command)
    assert run(command, instance)["accepted"] == 1


def test_a_metric_is_read_as_the_readme_says(instance: Instance) -> None:
    (command,) = (command for command in COMMANDS if "/graphql" in command)
    answer = run(command, instance)
    assert "errors" not in answer, answer
    assert answer["data"]["series"]["columns"]["series"], answer  # type: ignore[index]
