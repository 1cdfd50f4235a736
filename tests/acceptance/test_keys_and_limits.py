"""Keys, tiers and counts of ingest on a whole instance, as an administrator, a sender and the operator use them."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any

import httpx2
import pytest
from gql import Client, gql
from gql.transport.websockets import WebsocketsTransport

from tests.acceptance.test_graphql_reads import ask
from tests.acceptance.test_graphql_reads import data as asked
from tests.conftest import Instance

pytestmark = pytest.mark.slow

CREATE = """mutation($input: CreateApiKeyInput!) { createApiKey(input: $input) { __typename
  ... on CreateApiKeyPayload { secret apiKey { id keyId } } ... on Error { message } } }"""
ROTATE = """mutation($input: RotateApiKeyInput!) { rotateApiKey(input: $input) {
  ... on RotateApiKeyPayload { secret } ... on Error { message } } }"""
REVOKE = "mutation($input: RevokeApiKeyInput!) { revokeApiKey(input: $input) { ... on Error { message } __typename } }"
BREAKDOWN = """query($q: MetricQuery!) { breakdown(query: $q) { rows { labels { name value } value } } }"""
LIVE = "subscription($q: MetricQuery!) { series(query: $q) { kind columns } }"


def create(instance: Instance, **input: Any) -> dict[str, Any]:
    found = asked(instance, CREATE, input={"name": "made", **input})["createApiKey"]
    assert found["__typename"] == "CreateApiKeyPayload", found
    return {"secret": found["secret"], **found["apiKey"]}


def send(instance: Instance, secret: str, events: list[dict[str, Any]] | str) -> httpx2.Response:
    content = events if isinstance(events, str) else json.dumps({"events": events})
    headers = {"Authorization": f"Bearer {secret}", "Content-Type": "application/json"}
    return httpx2.post(f"{instance.url}/v1/events", content=content, headers=headers, timeout=20)


def by_reason(instance: Instance, metric: str, key_id: str) -> dict[str, float]:
    question = {
        "metric": metric, "range": {"last": "1h"}, "groupBy": ["reason"],
        "filters": [{"dimension": "key", "values": [key_id]}],
    }  # fmt: skip
    rows = asked(instance, BREAKDOWN, q=question)["breakdown"]["rows"]
    return {row["labels"][0]["value"]: row["value"] for row in rows}


def until(found: Callable[[], Any], expected: Any, seconds: float = 90.0) -> None:
    end = time.monotonic() + seconds
    while (last := found()) != expected:
        assert time.monotonic() < end, last
        time.sleep(0.1)


def test_a_key_of_the_api_sends_is_rotated_and_is_refused_once_it_has_ended(instance: Instance) -> None:
    key = create(instance, scopes=["EVENTS_WRITE"], kind="PUBLISHABLE", origins=["*"])
    event = {"type": "ping", "context": {"user_agent": ""}}
    assert send(instance, key["secret"], [event]).status_code == 202
    second = asked(instance, ROTATE, input={"id": key["id"], "overlapHours": 1})["rotateApiKey"]["secret"]
    assert [send(instance, secret, [event]).status_code for secret in (key["secret"], second)] == [202, 202]
    assert asked(instance, REVOKE, input={"id": key["id"]})["revokeApiKey"]["__typename"] == "RevokeApiKeyPayload"
    until(lambda: send(instance, second, [event]).status_code, 401)
    until(lambda: send(instance, key["secret"], [event]).status_code, 401)


def test_an_unknown_a_revoked_an_expired_and_a_malformed_key_are_refused_alike(instance: Instance) -> None:
    revoked, good = create(instance, scopes=["ADMIN"]), create(instance, scopes=["ADMIN"])
    asked(instance, REVOKE, input={"id": revoked["id"]})
    soon = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 2))
    expired = create(instance, scopes=["ADMIN"], expiresAt=soon)
    time.sleep(2.1)
    secrets = [revoked["secret"], expired["secret"], good["secret"][:-1] + "x", "cm_sk_short", "nonsense"]
    told = set()
    for secret in secrets:
        answer = send(instance, secret, [{"type": "a"}])
        error = answer.json()["error"]
        told.add((answer.status_code, error["code"], error["message"]))
        assert secret not in answer.text
    assert len(told) == 1 and next(iter(told))[:2] == (401, "invalid_api_key")


def test_what_became_of_events_is_read_as_any_other_metric_and_is_no_event(instance: Instance) -> None:
    key = create(instance, scopes=["EVENTS_WRITE", "METRICS_READ"], isUnsigned=True)
    good = {"type": "good", "id": "0190b6f0-7e5a-7000-8000-2f1d8f6f4a12", "context": {"user_agent": ""}}
    old = {"type": "old", "timestamp": "2026-01-01T00:00:00Z", "historical": True, "context": {"user_agent": ""}}
    answer = send(instance, key["secret"], [good, old, good, {"type": ""}, {"type": "a", "id": "x"}]).json()
    assert answer["accepted"] == 2, answer
    assert send(instance, key["secret"], [good]).json()["accepted"] == 0
    assert send(instance, key["secret"], "{").status_code == 400
    until(lambda: by_reason(instance, "ingest_accepted", key["keyId"]), {"": 2})
    until(lambda: by_reason(instance, "ingest_duplicates", key["keyId"]), {"taken_before": 2})
    until(
        lambda: by_reason(instance, "ingest_rejected", key["keyId"]),
        {"invalid_name": 1, "invalid_id": 1, "invalid_json": 1},
    )
    assert by_reason(instance, "ingest_late", key["keyId"]) == {"over_5_days": 1}
    query = "query($q: MetricQuery!) { breakdown(query: $q) { rows { labels { value } value } } }"
    question = {"metric": "events", "range": {"from": "2025-12-31T00:00:00Z", "to": "2200-01-01T00:00:00Z"},
                "groupBy": ["type"], "interval": "MONTH", "includeBots": True}  # fmt: skip
    rows = asked(instance, query, q=question)["breakdown"]["rows"]
    counted = {row["labels"][0]["value"]: row["value"] for row in rows}
    assert (counted.pop("good"), counted.pop("old")) == (1, 1)
    assert set(counted) <= {"ping"}
    usage = asked(instance, "{ tenant { usage { byKey { keyId accepted } } } }")["tenant"]["usage"]["byKey"]
    assert {row["keyId"]: row["accepted"] for row in usage}[key["keyId"]] == 2


async def test_a_live_reader_sees_a_refusal_within_seconds(instance: Instance) -> None:
    key = create(instance, scopes=["EVENTS_WRITE"], isUnsigned=True)
    question = {
        "metric": "ingest_rejected", "range": {"last": "1h"}, "interval": "MINUTE",
        "filters": [{"dimension": "key", "values": [key["keyId"]]}],
    }  # fmt: skip
    url = instance.url.replace("http", "ws") + "/graphql"
    transport = WebsocketsTransport(url=url, init_payload={"authorization": f"Bearer {instance.secret_key}"})
    async with Client(transport=transport) as session:
        document = gql(LIVE)
        document.variable_values = {"q": question}
        frames = session.subscribe(document)
        first = (await anext(frames))["series"]
        assert (first["kind"], first["columns"]["series"][0]["total"]) == ("SNAPSHOT", 0)
        await asyncio.to_thread(send, instance, key["secret"], [{"type": ""}])
        async with asyncio.timeout(90):
            async for frame in frames:
                if frame["series"]["columns"]["series"] and frame["series"]["columns"]["series"][0]["total"] == 1:
                    break
        await frames.aclose()


def test_the_operator_changes_a_tier_and_the_events_follow(instance: Instance) -> None:
    instance.cli("tenant", "create", "shop", "--tier", "free")
    made = instance.cli("key", "create", "--tenant", "shop", "--scope", "admin", "--unsigned").stdout.split()
    secret = made[4]
    events = [{"type": "a", "timestamp": "2020-01-01T00:00:00Z", "historical": True, "context": {"user_agent": ""}}]
    assert send(instance, secret, events).json()["results"][0]["code"] == "timestamp_out_of_range"
    told = instance.cli("tenant", "tier", "shop", "enterprise").stdout
    assert "free -> enterprise" in told and "dropped" in told
    limits = "{ tenant { tier limits { eventsPerMonth } } }"
    until(lambda: ask(instance, limits, key=secret)["data"]["tenant"],
          {"tier": "ENTERPRISE", "limits": {"eventsPerMonth": None}})  # fmt: skip
    until(lambda: "move" in instance.cli("tenant", "list").stdout, False)
    again = instance.cli("tenant", "tier", "shop", "enterprise", check=False)
    assert again.returncode == 1 and "already" in again.stderr
    assert instance.cli("tenant", "tier", "nobody", "pro", check=False).returncode == 1
    assert instance.cli("tenant", "tier", "shop", "gold", check=False).returncode == 2
    rotated = instance.cli("key", "rotate", made[2], "--tenant", "shop", "--overlap-hours", "0").stdout.split()[4]
    until(lambda: "errors" in ask(instance, limits, key=rotated) or "data" in ask(instance, limits, key=rotated), True)
    wrong = instance.cli("key", "rotate", made[2], "--tenant", "shop", "--overlap-hours", "500", check=False)
    assert wrong.returncode == 1 and "168" in wrong.stderr
