"""GraphQL over server-sent events: the protocol's words, the same limits, and nothing left when somebody goes."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import httpx2
import pytest

from core import api_keys
from core.audit import Author
from core.database import Database
from core.settings import Settings
from core.tenancy import Tenant
from resolvers import live_hub
from tests.conftest import make_key
from tests.web.serving import Serving, serving, until
from web import credentials, crowd
from web.auth import keys

STREAM = {
    "query": "subscription($q: MetricQuery!) { series(query: $q) { kind seq columns } }",
    "variables": {"q": {"metric": "events", "range": {"last": "10m"}, "interval": "MINUTE"}},
}


@pytest.fixture
async def web(settings: Settings) -> AsyncIterator[Serving]:
    async with serving(dataclasses.replace(settings, heartbeat_seconds=0.3)) as running:
        yield running


@pytest.fixture
async def secret(database: Database, settings: Settings, tenant: Tenant) -> str:
    return (await make_key(database, settings, tenant))[1]


def headers_of(secret: str, **more: str) -> dict[str, str]:
    base = {"Authorization": f"Bearer {secret}", "Accept": "text/event-stream", "Content-Type": "application/json"}
    return {**base, **more}


async def events_of(answer: httpx2.Response) -> AsyncIterator[tuple[str, Any]]:
    """(event, data) of a stream; ("", None) for a comment."""
    event, data = "", ""
    async for line in answer.aiter_lines():
        if line.startswith(":"):
            yield "", None
        elif line.startswith("event:"):
            event = line.removeprefix("event:").strip()
        elif line.startswith("data:"):
            data = line.removeprefix("data:").strip()
        elif event:
            yield event, json.loads(data) if data else None
            event = ""


async def whole(web: Serving, secret: str, body: object, **headers: str) -> tuple[httpx2.Response, list[Any]]:
    async with httpx2.AsyncClient(timeout=20) as client:
        sent = {"content": body} if isinstance(body, bytes) else {"json": body}
        async with client.stream(
            "POST", f"{web.url}/graphql/stream", headers=headers_of(secret, **headers), **sent
        ) as answer:
            if answer.headers["content-type"].startswith("application/json"):
                await answer.aread()
                return answer, []
            return answer, [found async for found in events_of(answer) if found[0]]


async def test_a_query_is_one_result_and_complete_with_its_cost(web: Serving, secret: str) -> None:
    answer, found = await whole(web, secret, {"query": "{ tenant { slug } }"})
    assert answer.status_code == 200 and answer.headers["content-type"].startswith("text/event-stream")
    assert answer.headers["ratelimit-limit"] and answer.headers["x-request-id"]
    assert [event for event, _ in found] == ["next", "complete"] and found[1][1] is None
    assert found[0][1]["data"]["tenant"]["slug"] and found[0][1]["extensions"]["cost"]["requested"] == 1


async def test_a_subscription_begins_with_a_snapshot_and_beats_while_nothing_happens(web: Serving, secret: str) -> None:
    async with httpx2.AsyncClient(timeout=20) as client:
        async with client.stream(
            "POST", f"{web.url}/graphql/stream", headers=headers_of(secret), json=STREAM
        ) as answer:
            found = events_of(answer)
            assert await anext(found) == ("", None)
            kinds = []
            async for event, data in found:
                if event:
                    kinds.append(data["data"]["series"]["kind"])
                if len(kinds) == 4:
                    break
    assert kinds[0] in ("SNAPSHOT", "GAP") and kinds[-1] == "HEARTBEAT"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"query": "{ nope }"}, "GRAPHQL_VALIDATION_FAILED"),
        ({"query": "{"}, "GRAPHQL_PARSE_FAILED"),
        ({"query": "{" + "a{" * 12 + "b" + "}" * 13}, "DEPTH_LIMIT"),
        ({"extensions": {"persistedQuery": {"version": 1, "sha256Hash": "0" * 64}}}, "PERSISTED_QUERY_NOT_SUPPORTED"),
    ],
)
async def test_what_is_wrong_with_a_document_is_told_in_the_stream(
    web: Serving, secret: str, body: Any, code: str
) -> None:
    answer, found = await whole(web, secret, body)
    assert answer.status_code == 200 and [event for event, _ in found] == ["next", "complete"]
    assert found[0][1]["errors"][0]["extensions"]["code"] == code


@pytest.mark.parametrize(
    ("body", "headers", "status", "code"),
    [
        (b"1", {}, 400, "BAD_REQUEST"),
        (b"[]", {}, 400, "BATCHING_DISABLED"),
        (b"x" * 300_000, {}, 413, "BODY_TOO_LARGE"),
        (b"{}", {"Content-Type": "text/plain"}, 415, "UNSUPPORTED_MEDIA_TYPE"),
        (b"{}", {"Accept": "application/json"}, 406, "NOT_ACCEPTABLE"),
        (b"{}", {"Authorization": ""}, 401, "INVALID_API_KEY"),
    ],
)
async def test_a_request_that_cannot_be_used_is_answered_with_its_status(
    web: Serving, secret: str, body: bytes, headers: dict[str, str], status: int, code: str
) -> None:
    answer, _ = await whole(web, secret, body, **headers)
    assert answer.status_code == status, answer.text
    assert answer.json()["errors"][0]["extensions"]["code"] == code


async def test_a_get_is_refused(web: Serving, secret: str) -> None:
    async with httpx2.AsyncClient() as client:
        answer = await client.get(f"{web.url}/graphql/stream?query={{__typename}}", headers=headers_of(secret))
    assert answer.status_code == 405 and answer.headers["allow"] == "POST"


async def open_raw(web: Serving, secret: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A stream whose first bytes have come."""
    reader, writer = await asyncio.open_connection("127.0.0.1", web.port)
    body = json.dumps(STREAM).encode()
    lines = [f"{name}: {value}" for name, value in headers_of(secret).items()]
    head = "\r\n".join(["POST /graphql/stream HTTP/1.1", "Host: x", *lines, f"Content-Length: {len(body)}", "", ""])
    writer.write(head.encode() + body)
    async with asyncio.timeout(20):
        assert b"200" in await reader.readline()
        await reader.readuntil(b":\n\n")
    return reader, writer


async def test_a_thousand_who_come_and_go_leave_nothing(
    web: Serving, secret: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_hub, "LINGER_SECONDS", 0.2)
    before = len(asyncio.all_tasks())
    for _ in range(20):
        connections = await asyncio.gather(*(open_raw(web, secret) for _ in range(50)))
        await until(lambda: web.readers() == 50)
        for _, writer in connections:
            writer.transport.abort()
    await until(lambda: web.readers() == 0, 5)
    await until(lambda: len(asyncio.all_tasks()) <= before, 5)


async def test_an_address_has_so_many_streams(web: Serving, secret: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crowd, "MAX_OF_ADDRESS", 3)
    connections = [await open_raw(web, secret) for _ in range(3)]
    answer, _ = await whole(web, secret, STREAM)
    assert answer.status_code == 429 and int(answer.headers["retry-after"]) > 0
    connections[0][1].transport.abort()
    await until(lambda: web.readers() == 2)
    answer, found = await whole(web, secret, {"query": "{ __typename }"})
    assert answer.status_code == 200 and len(found) == 2
    for _, writer in connections:
        writer.transport.abort()


async def test_a_key_that_is_revoked_ends_its_streams_with_the_reason(
    web: Serving, database: Database, settings: Settings, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(credentials, "RECHECK_SECONDS", 0.1)
    monkeypatch.setattr(keys, "FRESH_SECONDS", 0.1)
    key, secret = await make_key(database, settings, tenant)
    asked = asyncio.create_task(whole(web, secret, STREAM))
    await until(lambda: web.readers() == 1)
    await api_keys.revoke_key(database, key.tenant.id, key.id, Author.operator(key.tenant.id))
    async with asyncio.timeout(15):
        _, found = await asked
    assert found[-1][0] == "complete"
    assert found[-2][1]["errors"][0]["extensions"]["code"] == "INVALID_API_KEY"
    await until(lambda: web.readers() == 0)


async def test_a_server_that_stops_ends_its_streams_without_complete(settings: Settings, secret: str) -> None:
    async with serving(settings) as web:
        reader, writer = await open_raw(web, secret)
        web.server.should_exit = True
        async with asyncio.timeout(5):
            rest = await reader.read()
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()
    assert b"event: complete" not in rest and rest.endswith(b"0\r\n\r\n")
