"""A question whose caller goes away, or that takes too long, is cancelled in the database."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import pytest
from websockets.asyncio.client import connect

from core.database import Database, as_owner
from core.settings import Settings
from core.tenancy import Tenant
from query import engine
from tests.conftest import make_key
from tests.web.serving import Serving, serving

RUNNING = """SELECT count(*) FROM pg_stat_activity
WHERE application_name = 'cloudmetrics app' AND state = 'active' AND datname = current_database()"""
QUERY = {
    "query": "query($q: MetricQuery!) { series(query: $q) { columns } }",
    "variables": {"q": {"metric": "events", "range": {"last": "24h"}}},
}


@pytest.fixture
async def web(settings: Settings) -> AsyncIterator[Serving]:
    async with serving(settings) as running:
        yield running


@pytest.fixture
async def secret(database: Database, settings: Settings, tenant: Tenant) -> str:
    return (await make_key(database, settings, tenant))[1]


@asynccontextmanager
async def locked_rollups(settings: Settings, superuser_url: str) -> AsyncIterator[Any]:
    """While nobody can read them; gives a connection that watches."""
    async with as_owner(settings.owner_url) as owner, as_owner(superuser_url) as watcher:
        async with owner.transaction():
            await owner.execute("LOCK TABLE rollup_1m, rollup_5m, rollup_1h IN ACCESS EXCLUSIVE MODE")
            yield watcher


async def until_running(watcher: Any, count: int) -> None:
    async with asyncio.timeout(8):
        while await watcher.fetchval(RUNNING) != count:
            await asyncio.sleep(0.02)


async def test_who_closes_the_connection_ends_the_statement(
    web: Serving, secret: str, settings: Settings, superuser_url: str
) -> None:
    body = json.dumps(QUERY).encode()
    async with locked_rollups(settings, superuser_url) as watcher:
        _, writer = await asyncio.open_connection("127.0.0.1", web.port)
        writer.write(
            b"POST /graphql HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: "
            + str(len(body)).encode() + b"\r\nAuthorization: Bearer " + secret.encode() + b"\r\n\r\n" + body
        )  # fmt: skip
        await until_running(watcher, 1)
        writer.transport.abort()
        await until_running(watcher, 0)
    # And the next is answered as ever.
    async with httpx2.AsyncClient() as client:
        answer = await client.post(f"{web.url}/graphql", json=QUERY, headers={"Authorization": f"Bearer {secret}"})
    assert answer.status_code == 200 and "errors" not in answer.json()


async def test_who_completes_a_query_on_a_socket_ends_the_statement(
    web: Serving, secret: str, settings: Settings, superuser_url: str
) -> None:
    address = f"ws://127.0.0.1:{web.port}/graphql"
    async with (
        locked_rollups(settings, superuser_url) as watcher,
        connect(address, subprotocols=["graphql-transport-ws"]) as socket,
    ):  # type: ignore[list-item]
        await socket.send(json.dumps({"type": "connection_init", "payload": {"authorization": f"Bearer {secret}"}}))
        assert json.loads(await socket.recv())["type"] == "connection_ack"
        await socket.send(json.dumps({"id": "1", "type": "subscribe", "payload": QUERY}))
        await until_running(watcher, 1)
        await socket.send(json.dumps({"id": "1", "type": "complete"}))
        await until_running(watcher, 0)


async def test_a_question_that_takes_too_long_says_what_to_narrow(
    web: Serving, secret: str, settings: Settings, superuser_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "ANSWER_SECONDS", 1.0)
    async with locked_rollups(settings, superuser_url) as watcher:
        async with httpx2.AsyncClient(timeout=20) as client:
            answer = await client.post(f"{web.url}/graphql", json=QUERY, headers={"Authorization": f"Bearer {secret}"})
        (error,) = answer.json()["errors"]
        assert error["extensions"]["code"] == "QUERY_TOO_SLOW" and "shorter range" in error["message"]
        await until_running(watcher, 0)
