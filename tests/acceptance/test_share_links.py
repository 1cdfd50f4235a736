"""Share links over the real doors: what a token opens and what it does not, budgets under a flood, an end in time."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import time
from typing import Any

import httpx2
import pytest
import websockets
from websockets.asyncio.client import ClientConnection
from websockets.typing import Subprotocol

from tests.conftest import Instance

pytestmark = pytest.mark.slow

QUERY = {"metric": "events", "range": {"last": "24h"}, "groupBy": ["type"], "includeBots": True}
CREATE = """mutation($input: CreateQuestionInput!) { createQuestion(input: $input) {
  ... on CreateQuestionPayload { question { id } } ... on Error { message } } }"""
SHARE = """mutation($input: CreateShareLinkInput!) { createShareLink(input: $input) {
  ... on CreateShareLinkPayload { token shareLink { id } } ... on Error { message } } }"""
REVOKE = """mutation($input: RevokeShareLinkInput!) { revokeShareLink(input: $input) { __typename } }"""
DELETE = """mutation($input: DeleteQuestionInput!) { deleteQuestion(input: $input) { __typename } }"""
SHOW = "{ sharedQuestion { name series { columns } } }"
LIVE = "subscription { sharedSeries { kind columns } }"


def post(instance: Instance, token: str, query: str, **variables: Any) -> httpx2.Response:
    return httpx2.post(
        f"{instance.url}/graphql",
        json={"query": query, "variables": variables},
        headers={"Authorization": f"Bearer {token}"},
        timeout=20,
    )


def as_admin(instance: Instance, text: str, **input: Any) -> Any:
    answer = post(instance, instance.secret_key, text, input=input).json()
    assert "errors" not in answer, answer
    return next(iter(answer["data"].values()))


def link(instance: Instance, **terms: Any) -> tuple[str, str, str]:
    """A token, its link's id, and its question's."""
    question = as_admin(instance, CREATE, name="Shown", query=QUERY)["question"]["id"]
    made = as_admin(instance, SHARE, objectId=question, **terms)
    return made["token"], made["shareLink"]["id"], question


async def opened(instance: Instance, token: str) -> ClientConnection:
    """A socket that is acknowledged."""
    url = f"{instance.url.replace('http', 'ws', 1)}/graphql"
    socket = await websockets.connect(url, subprotocols=[Subprotocol("graphql-transport-ws")])
    await socket.send(json.dumps({"type": "connection_init", "payload": {"authorization": f"Bearer {token}"}}))
    assert json.loads(await socket.recv())["type"] == "connection_ack"
    return socket


def test_a_token_shows_the_question_and_is_refused_by_every_other_door(instance: Instance) -> None:
    token, _, _ = link(instance)
    answer = post(instance, token, SHOW)
    assert answer.status_code == 200
    assert answer.json()["data"]["sharedQuestion"]["name"] == "Shown"
    assert "RateLimit-Remaining" in answer.headers
    event = {"events": [{"type": "forged", "context": {"user_agent": ""}}]}
    for headers in ({"Authorization": f"Bearer {token}"}, {"X-CM-Key": token, "X-CM-Signature": "t=1,v1=" + "a" * 64}):
        sent = httpx2.post(f"{instance.url}/v1/events", json=event, headers=headers)
        assert sent.status_code == 401
    assert httpx2.post(f"{instance.url}/v1/events?key={token}", json=event).status_code in (400, 401)
    refused = post(instance, token, "{ tenant { slug } }").json()
    assert refused["data"] is None and refused["errors"][0]["extensions"]["code"] == "PERMISSION_DENIED"


@pytest.mark.parametrize(
    "query",
    [
        "{ __schema { types { name } } }", '{ __type(name: "Tenant") { fields { name } } }',
        "{ sharedQuestion { name } ...x } fragment x on Query { __schema { queryType { name } } }",
    ],
)  # fmt: skip
def test_a_link_sees_no_schema(instance: Instance, query: str) -> None:
    token, _, _ = link(instance)
    answer = post(instance, token, query).json()
    assert answer["errors"][0]["extensions"]["code"] == "INTROSPECTION_DISABLED" and not answer.get("data")
    assert post(instance, token, "{ __typename sharedQuestion { __typename } }").json()["data"]["__typename"] == "Query"


def test_a_link_streams_over_server_sent_events_too(instance: Instance) -> None:
    token, _, _ = link(instance)
    headers = {"Authorization": f"Bearer {token}", "Accept": "text/event-stream"}
    with httpx2.stream(
        "POST", f"{instance.url}/graphql/stream", json={"query": LIVE}, headers=headers, timeout=20
    ) as answer:
        assert answer.status_code == 200
        lines = (line for line in answer.iter_lines() if line.startswith("data:") and len(line) > 6)
        assert "SNAPSHOT" in next(lines)


@pytest.mark.parametrize(
    "change",
    [
        lambda t: t[:-2] + ("AA" if t[-2:] != "AA" else "BB"), lambda t: t + "A", lambda t: t[:-1], lambda t: "cm_sl_",
        lambda t: t.replace("cm_sl_", "cm_sk_"), lambda t: t.upper(), lambda t: "cm_sl_" + "x" * 20_000,
    ],
)  # fmt: skip
def test_a_token_that_was_guessed_or_changed_opens_nothing(instance: Instance, change: Any) -> None:
    token, _, _ = link(instance)
    answer = post(instance, change(token), SHOW)
    assert answer.status_code in (401, 431)
    if answer.status_code == 401:
        assert token not in answer.text


def test_a_revoked_link_is_refused_within_five_seconds_and_so_is_one_whose_question_is_gone(
    instance: Instance,
) -> None:
    for end in ("revoke", "delete"):
        token, id, question = link(instance)
        assert post(instance, token, SHOW).status_code == 200
        as_admin(instance, REVOKE if end == "revoke" else DELETE, id=id if end == "revoke" else question)
        ended_at = time.monotonic()
        while post(instance, token, SHOW).status_code == 200:
            assert time.monotonic() - ended_at < 6
            time.sleep(0.1)
        answer = post(instance, token, SHOW)
        assert (answer.status_code, answer.json()["errors"][0]["extensions"]["code"]) == (401, "INVALID_SHARE_LINK")


async def test_a_socket_tells_what_changes_and_is_closed_within_thirty_seconds_of_the_links_end(
    instance: Instance,
) -> None:
    token, id, _ = await asyncio.to_thread(link, instance)
    socket = await opened(instance, token)
    await socket.send(json.dumps({"id": "1", "type": "subscribe", "payload": {"query": LIVE}}))
    first = json.loads(await socket.recv())
    assert first["payload"].get("data"), first
    assert first["payload"]["data"]["sharedSeries"]["kind"] == "SNAPSHOT", first
    event = {"events": [{"type": "shared_live", "context": {"user_agent": ""}}]}
    headers = {"Authorization": f"Bearer {instance.publishable_key}"}
    async with httpx2.AsyncClient() as client:
        assert (await client.post(f"{instance.url}/v1/events", json=event, headers=headers)).status_code == 202
    async with asyncio.timeout(20):
        while True:
            frame = json.loads(await socket.recv())["payload"]["data"]["sharedSeries"]
            if frame["kind"] == "DELTA" and "shared_live" in json.dumps(frame["columns"]):
                break
    # Other streams are not for it.
    other = 'subscription { series(query: {metric: "events", range: {last: "1h"}}) { kind } }'
    await socket.send(json.dumps({"id": "2", "type": "subscribe", "payload": {"query": other}}))
    async with asyncio.timeout(10):
        while (message := json.loads(await socket.recv()))["id"] != "2":
            pass
    assert "PERMISSION_DENIED" in json.dumps(message)
    await asyncio.to_thread(as_admin, instance, REVOKE, id=id)
    with pytest.raises(websockets.ConnectionClosed) as closed:
        async with asyncio.timeout(30):
            while True:
                await socket.recv()
    assert closed.value.rcvd is not None and closed.value.rcvd.code in (4401, 4403)


async def test_a_flood_spends_the_budget_exactly_and_is_told_when_to_come_back(instance: Instance) -> None:
    token, _, _ = await asyncio.to_thread(link, instance, costPerMinute=100)
    cost = (await asyncio.to_thread(post, instance, token, SHOW)).json()["extensions"]["cost"]["requested"]
    async with httpx2.AsyncClient(timeout=30) as client:

        async def ask() -> httpx2.Response:
            headers = {"Authorization": f"Bearer {token}"}
            return await client.post(f"{instance.url}/graphql", json={"query": SHOW}, headers=headers)

        began = time.monotonic()
        answers = await asyncio.gather(*(ask() for _ in range(60)))
        took = time.monotonic() - began
    good = sum(answer.status_code == 200 for answer in answers)
    refused = [answer for answer in answers if answer.status_code == 429]
    assert good + len(refused) == 60
    # What was spent before, and what came back meanwhile.
    assert (100 - cost) // cost - 1 <= good <= (100 - cost + 100 * (took + 2) / 60) / cost + 1
    assert all(int(answer.headers["Retry-After"]) >= 1 for answer in refused)
    assert {answer.json()["errors"][0]["extensions"]["code"] for answer in refused} == {"BUDGET_SPENT"}
    # Nobody else's budget or rate is touched.
    assert post(instance, instance.secret_key, "{ viewer { actor } }").status_code == 200


def test_an_operation_that_costs_more_than_the_whole_budget_is_told_so(instance: Instance) -> None:
    token, _, _ = link(instance, costPerMinute=100)
    aliases = " ".join(f"a{n}: series {{ columns }}" for n in range(12))
    answer = post(instance, token, f"{{ sharedQuestion {{ {aliases} }} }}")
    assert answer.json()["errors"][0]["extensions"]["code"] == "OVER_BUDGET"


def test_uses_are_counted_and_the_last_one_is_known(instance: Instance) -> None:
    token, id, _ = link(instance)
    for _ in range(7):
        assert post(instance, token, SHOW).status_code == 200
    text = "query($id: ID!) { node(id: $id) { ... on ShareLink { uses lastUsedAt } } }"
    deadline = time.monotonic() + 15
    while (node := post(instance, instance.secret_key, text, id=id).json()["data"]["node"])["uses"] < 7:
        assert time.monotonic() < deadline, node
        time.sleep(0.3)
    assert node["uses"] == 7 and node["lastUsedAt"]


def test_another_tenants_link_shows_its_own_question_only(instance: Instance) -> None:
    instance.cli("tenant", "create", "neighbour")
    made = instance.cli("key", "create", "--tenant", "neighbour", "--scope", "admin", "--unsigned").stdout.split()
    neighbour = dataclasses.replace(instance, secret_key=made[4])
    _, id, question = link(instance)
    token, _, _ = link(neighbour)
    shown = post(instance, token, SHOW).json()["data"]["sharedQuestion"]["series"]["columns"]
    assert sum(line["total"] for line in shown["series"]) == 0
    answers = [
        post(neighbour, neighbour.secret_key, SHARE, input={"objectId": question}),
        post(neighbour, neighbour.secret_key, REVOKE, input={"id": id}),
        post(neighbour, neighbour.secret_key, DELETE, input={"id": question}),
    ]
    for answer in answers:
        assert "There is no" in answer.text or "NotFound" in answer.text
