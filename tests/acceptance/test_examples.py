"""The examples that a key can run, as somebody does who copies them: by curl, against a running instance. All of them
are run in tests/resolvers/test_query_counts.py."""

from __future__ import annotations

import json
import re
import subprocess
import time
from typing import Any

import pytest

from core.permissions import Scope
from schema.examples import Example, answer_named, load_examples, object_named
from tests.conftest import Instance
from tests.resolvers.examples_run import REFUSAL_NAMES, at

pytestmark = pytest.mark.slow
EXAMPLES = load_examples()
# What an empty instance has none of; what was sent a moment before; and those whose maker runs once in a tenant.
NOT_HERE = {
    *("mutations/replayDeadLetter", "mutations/dropDeadLetter", "mutations/resendInvitation"),
    *("mutations/revokeInvitation", "mutations/updateSignInConnection", "mutations/deleteSignInConnection"),
}


def is_made(value: Any) -> bool:
    """Whether variables need an object that only a test makes."""
    return re.search(r'"<[A-Z]\w+>"', json.dumps(value)) is not None


BY_KEY = [
    example
    for example in EXAMPLES.values()
    if example.caller in set(Scope) and example.name not in NOT_HERE and not is_made(example.variables)
]


@pytest.fixture(scope="module")
def secrets(instance: Instance) -> dict[str, str]:
    """A key of each scope."""
    found = {}
    for scope in Scope:
        made = instance.cli("key", "create", "--scope", scope.value, "--unsigned").stdout
        found[scope.value] = re.findall("secret (cm_.+)", made)[0]
    return found


def run(instance: Instance, secrets: dict[str, str], example: Example) -> Any:
    """An example's data, by curl."""
    body = {"query": example.document, "variables": given(instance, secrets, example.variables)}
    path, more = ("/graphql", []) if example.kind != "subscriptions" else ("/graphql/stream", ["-N", "--max-time", "3"])
    accept = "application/json" if example.kind != "subscriptions" else "text/event-stream"
    done = subprocess.run(
        ["curl", "-s", *more, f"{instance.url}{path}", "-H", f"Authorization: Bearer {secrets[example.caller]}",
         "-H", "Content-Type: application/json", "-H", f"Accept: {accept}", "-d", json.dumps(body)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    lines = re.findall(r"^data: (.+)$", done.stdout, re.MULTILINE) if more else [done.stdout]
    answer = json.loads(lines[0])
    assert "errors" not in answer, answer
    refused = [found for found in answer["data"].values() if isinstance(found, dict)]
    assert not [found for found in refused if found.get("__typename") in REFUSAL_NAMES], answer
    return answer["data"]


def given(instance: Instance, secrets: dict[str, str], value: Any) -> Any:
    """Variables with what other examples answer put in."""
    if isinstance(value, dict):
        return {key: given(instance, secrets, inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [given(instance, secrets, inner) for inner in value]
    named = answer_named(value) if isinstance(value, str) else None
    if named is None:
        return value
    return at(run(instance, secrets, EXAMPLES[named[0]]), named[1])


@pytest.mark.parametrize("example", BY_KEY, ids=lambda example: example.name)
def test_an_example_works_as_it_is_copied(instance: Instance, secrets: dict[str, str], example: Example) -> None:
    if example.name == "queries/nodes":
        # It asks for an event, so there must be one.
        run(instance, secrets, EXAMPLES["mutations/ingestEvents"])
        end = time.monotonic() + 60
        while (
            time.monotonic() < end
            and not run(instance, secrets, EXAMPLES["queries/events"])["tenant"]["events"]["edges"]
        ):
            time.sleep(0.2)
    run(instance, secrets, example)


def test_most_examples_are_run_so() -> None:
    assert len(BY_KEY) > 25 and object_named("<SavedQuestion>") == "SavedQuestion"
