"""A tenant moves from a topic of its own to the one that all share, and back, with records waiting in either."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from uuid import uuid4

import httpx2
import pytest

from tests.acceptance.test_main_job import QUERY
from tests.conftest import Instance, start_instance

pytestmark = pytest.mark.slow

EVENTS = 40


@pytest.mark.parametrize("log", ["valkey", "kafka"])
def test_moving_between_own_and_shared_topics_loses_and_doubles_nothing(
    log: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    settings = {} if log == "valkey" else {"KAFKA_BROKERS": request.getfixturevalue("kafka_brokers")}
    sent: list[str] = []
    for topics in ("each", "shared"):
        instance = start_instance(tmp_path / "data", "--empty", settings={**settings, "TENANT_TOPICS": topics})
        try:
            # Frozen workers leave what is sent now in this way's topic, for the ones of the next.
            os.kill(instance.pid("pipeline"), signal.SIGSTOP)
            fresh = [str(uuid4()) for _ in range(EVENTS)]
            assert send(instance, fresh) == EVENTS
            # Sent before under the other way: known at the door, or to the ledger.
            send(instance, sent)
            sent += fresh
        finally:
            os.kill(instance.pid("pipeline"), signal.SIGKILL)
            instance.cli("down")
    instance = start_instance(tmp_path / "data", settings={**settings, "TENANT_TOPICS": "each"})
    try:
        deadline = time.monotonic() + 60
        while counted(instance) < len(sent) and time.monotonic() < deadline:
            time.sleep(0.2)
        time.sleep(2.0)
        assert counted(instance) == len(sent) == 2 * EVENTS
    finally:
        instance.cli("down")


def send(instance: Instance, ids: list[str]) -> int:
    """How many of some events are accepted."""
    if not ids:
        return 0
    answer = httpx2.post(
        f"{instance.url}/v1/events",
        json={"events": [{"type": "moved", "id": event_id, "context": {"user_agent": ""}} for event_id in ids]},
        headers={"Authorization": f"Bearer {instance.publishable_key}"},
        timeout=20,
    )
    assert answer.status_code == 202, answer.text
    return int(answer.json()["accepted"])


def counted(instance: Instance) -> float:
    question = {"metric": "events", "range": {"last": "1h"}, "includeBots": True}
    answer = httpx2.post(
        f"{instance.url}/graphql",
        json={"query": QUERY, "variables": {"q": question}},
        headers={"Authorization": f"Bearer {instance.secret_key}"},
        timeout=20,
    ).json()
    return float(answer["data"]["series"]["columns"]["series"][0]["total"])
