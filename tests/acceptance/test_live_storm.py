"""A thousand come back at once, as after a cut of the network: each is served or told when to come again, and nobody
else notices."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import resource
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx2
import pytest
import websockets
from websockets.asyncio.client import ClientConnection

from core.database import Database
from core.settings import Settings
from core.tenancy import Tenant
from tests.conftest import make_key
from tests.resolvers.test_live_hub import Counting, until_connected
from tests.web.serving import Serving, serving, until
from tests.web.test_series_sse import bearer
from web import crowd
from web.open_files import raise_open_files

COUNT = 1000
DOCUMENT = """subscription($q: MetricQuery!, $r: String) {
  series(query: $q, resumeFrom: $r) { kind seq epoch cursor columns } }"""
QUESTION = {"metric": "events", "range": {"last": "3h"}, "interval": "HOUR"}


@pytest.fixture(autouse=True)
def open_files() -> Iterator[None]:
    """The clients of the storm are in this process, beside the server that raises the limit for itself."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    raise_open_files()
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.fixture
async def web(settings: Settings) -> AsyncIterator[Serving]:
    async with serving(dataclasses.replace(settings, heartbeat_seconds=1.0)) as running:
        await until_connected(running.services)
        yield running


async def subscribed(web: Serving, secret: str, resume_from: str | None) -> ClientConnection:
    socket = await websockets.connect(
        f"ws://127.0.0.1:{web.port}/graphql", subprotocols=["graphql-transport-ws"],  # type: ignore[list-item]
        open_timeout=60, ping_interval=None,
    )  # fmt: skip
    await socket.send(json.dumps({"type": "connection_init", "payload": {"authorization": f"Bearer {secret}"}}))
    assert json.loads(await socket.recv())["type"] == "connection_ack"
    payload = {"query": DOCUMENT, "variables": {"q": QUESTION, "r": resume_from}}
    await socket.send(json.dumps({"type": "subscribe", "id": "1", "payload": payload}))
    return socket


async def frame_of(socket: ClientConnection, *kinds: str) -> Any:
    while True:
        message = json.loads(await socket.recv())
        assert message["type"] == "next", message
        frame = message["payload"]["data"]["series"]
        if not kinds or frame["kind"] in kinds:
            return frame


async def come(web: Serving, secret: str, resume_from: str) -> str:
    """What one who comes back meets with."""
    try:
        socket = await subscribed(web, secret, resume_from)
        frame = await frame_of(socket)
        await socket.close()
        return str(frame["kind"])
    except websockets.InvalidStatus as refused:
        error = json.loads(refused.response.body or b"{}")["error"]
        assert refused.response.status_code == 429 and int(refused.response.headers["retry-after"]) > 0
        return str(error["code"])
    except websockets.ConnectionClosed as closed:
        assert closed.rcvd is not None
        return f"closed {closed.rcvd.code}"


@pytest.mark.parametrize("of_address", [crowd.MAX_OF_ADDRESS, 2 * COUNT])
async def test_a_thousand_who_come_back_at_once_are_served_or_refused_with_a_time(
    of_address: int,
    web: Serving,
    database: Database,
    settings: Settings,
    tenant: Tenant,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(crowd, "MAX_OF_ADDRESS", of_address)
    _, secret = await make_key(database, settings, tenant)

    class Context:
        backends = web.services

    counting = Counting(database, tenant, Context())  # type: ignore[arg-type]
    async with asyncio.timeout(240):
        other = await subscribed(web, secret, None)
        cursor = (await frame_of(other, "SNAPSHOT"))["cursor"]
        await counting.add(0)
        before = await frame_of(other, "DELTA")
        storm = asyncio.gather(*(come(web, secret, cursor) for _ in range(COUNT)))
        # Whoever was there goes on without a hole, and whoever asks is answered.
        seqs = [before["seq"]]
        async with httpx2.AsyncClient(timeout=60) as client:
            while not storm.done():
                await counting.add(0)
                frame = await frame_of(other, "DELTA", "GAP")
                seqs.append(frame["seq"])
                answer = await client.post(
                    f"{web.url}/graphql", json={"query": "{ tenant { slug } }"}, headers=bearer(secret)
                )
                assert answer.status_code == 200 and answer.json()["data"]["tenant"]["slug"] == tenant.slug
        outcomes = Counter(await storm)
        await other.close()
    # All who were served got what they had missed, and nothing else; who was not knows when to come again.
    assert set(outcomes) <= {"DELTA", "too_many_sockets"}, outcomes
    assert outcomes["DELTA"] >= 50, outcomes
    assert seqs == sorted(seqs)
    await until(lambda: web.readers() == 0)
    assert len(web.services.hub.streams()) == 1
