"""`Idempotency-Key` on a real instance of two web workers: one answer, one count, whatever comes in between."""

from __future__ import annotations

import gzip
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import uuid4

import httpx2
import pytest

from cloudmetrics.data_folder import DataFolder
from core.keys import sign
from tests.conftest import Instance, start_instance

pytestmark = pytest.mark.slow
COUNT = "query($q: MetricQuery!) { series(query: $q) { series { total } } }"


@pytest.fixture(scope="module")
def instance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    running = start_instance(tmp_path_factory.mktemp("keyed") / "data", "--empty", "--workers", "2")
    try:
        yield running
    finally:
        running.cli("down")


def events(kind: str, count: int = 3) -> bytes:
    return json.dumps({"events": [{"type": kind}] * count}).encode()


def post(instance: Instance, key: str, body: bytes, query: str = "", **headers: str) -> httpx2.Response:
    given = {"Authorization": f"Bearer {instance.publishable_key}", "Content-Type": "application/json"}
    if key:
        given["Idempotency-Key"] = key
    return httpx2.post(f"{instance.url}/v1/events{query}", content=body, headers={**given, **headers}, timeout=30)


def until(is_so: Callable[[], bool], what: str, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end, what
        time.sleep(0.1)


def counted(instance: Instance, kind: str) -> int:
    question = {
        "metric": "events",
        "range": {"last": "24h"},
        "includeBots": True,
        "filters": [{"dimension": "type", "op": "EQ", "values": [kind]}],
    }
    answer = httpx2.post(
        f"{instance.url}/graphql",
        headers={"Authorization": f"Bearer {instance.secret_key}"},
        json={"query": COUNT, "variables": {"q": question}},
        timeout=10,
    ).json()
    return int(answer["data"]["series"]["series"][0]["total"] or 0)


def settled(instance: Instance, kind: str, number: int) -> None:
    """That many are counted, and no more once everything that the log has is counted."""
    until(lambda: counted(instance, kind) >= number, "counted")
    health = f"{instance.url}/health/ready"
    until(lambda: not any(httpx2.get(health, timeout=5).json()["lag"].values()), "no lag")
    assert counted(instance, kind) == number


def test_a_repeat_gets_the_first_answer_with_its_request_id_and_counts_once(instance: Instance) -> None:
    first = post(instance, "k-1", events("once"))
    for content, extra in ((events("once"), {}), (gzip.compress(events("once")), {"Content-Encoding": "gzip"})):
        again = post(instance, "k-1", content, **extra)
        assert again.status_code == 202 and again.content == first.content
        assert again.headers["idempotent-replayed"] == "true" and "idempotent-replayed" not in first.headers
        assert again.headers["x-request-id"] == first.headers["x-request-id"] == first.json()["request_id"]
        assert "ratelimit-remaining" in again.headers
    settled(instance, "once", 3)


def test_another_body_a_dry_run_and_a_bad_key_are_told_apart(instance: Instance) -> None:
    assert post(instance, "k-2", events("dry"), "?dry_run=true").json()["accepted"] == 3
    other = post(instance, "k-2", events("dry"))
    assert other.status_code == 409 and other.json()["error"]["code"] == "idempotency_conflict"
    assert other.json()["error"]["field"] == "idempotency-key"
    bad = post(instance, "two words", events("dry"))
    assert bad.status_code == 400 and bad.json()["error"]["code"] == "invalid_idempotency_key"
    # What was refused as a whole may be mended under its key.
    assert post(instance, "k-3", b"{").status_code == 400
    assert post(instance, "k-3", events("mended")).status_code == 202


def test_twenty_at_once_are_one(instance: Instance) -> None:
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda _: post(instance, "k-20", events("twenty")), range(20)))
    taken = [answer for answer in answers if answer.status_code == 202]
    told = [answer for answer in answers if answer.status_code == 409]
    assert taken and len(taken) + len(told) == 20 and len({answer.content for answer in taken}) == 1
    for answer in told:
        assert answer.json()["error"]["code"] == "idempotency_in_progress" and int(answer.headers["retry-after"]) >= 1
    assert post(instance, "k-20", events("twenty")).headers["idempotent-replayed"] == "true"
    settled(instance, "twenty", 3)


def test_a_replayed_signature_counts_once_under_any_key(instance: Instance) -> None:
    made = instance.cli("key", "create", "--kind", "secret").stdout.splitlines()
    key_id = next(line.split()[-1] for line in made if "key id" in line)
    secret = next(line.split()[-1] for line in made if "secret" in line and "cm_sk_" in line)
    body = events("signed")
    now = int(time.time())
    signature = f"t={now},v1={sign(secret, timestamp=now, method='POST', path='/v1/events', body=body)}"
    for key in ("", "mine", "somebody's", "mine"):
        headers = {"X-CM-Key": key_id, "X-CM-Signature": signature, "Content-Type": "application/json"}
        headers |= {"Idempotency-Key": key} if key else {}
        answer = httpx2.post(f"{instance.url}/v1/events", content=body, headers=headers, timeout=30)
        assert answer.status_code == 202
    settled(instance, "signed", 3)


def test_valkey_frozen_is_a_503_that_says_when_to_come_back(instance: Instance) -> None:
    pid = instance.pid("valkey")
    os.kill(pid, signal.SIGSTOP)
    try:
        answer = post(instance, str(uuid4()), events("frozen"))
    finally:
        os.kill(pid, signal.SIGCONT)
    assert answer.status_code == 503 and int(answer.headers["retry-after"]) >= 1
    assert answer.json()["error"]["code"] == "idempotency_unavailable"
    until(lambda: post(instance, str(uuid4()), events("after")).status_code == 202, "it is back")


def test_killed_between_append_and_answer_a_repeat_counts_once(tmp_path: Path) -> None:
    running = start_instance(tmp_path / "data", "--empty", settings={"FAIL_POINT": "after_ack:2"})
    try:
        assert post(running, "", events("first")).status_code == 202
        with pytest.raises(httpx2.HTTPError):
            post(running, "k-kill", events("killed"))

        def answered() -> bool:
            try:
                return post(running, "k-kill", events("killed")).status_code == 202
            except httpx2.HTTPError:
                return False

        # The lock of the dead one ends after 30 s.
        until(answered, "the lock ends", 90)
        settled(running, "killed", 3)
        assert post(running, "k-kill", events("killed")).headers["idempotent-replayed"] == "true"
        assert DataFolder.at(running.data).read("run")["children"]["web"]["restarts"] == 1
    finally:
        running.cli("down")
