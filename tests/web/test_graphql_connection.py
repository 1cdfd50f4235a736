"""A socket is looked at again while it lives, and whatever that finds, or dies of, ends it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from core.database import Database
from core.errors import DatabaseUnavailable
from core.settings import Settings
from core.tenancy import Tenant
from tests.conftest import make_key
from tests.web.serving import serving
from web import graphql_connection
from web.auth.callers import Caller
from web.graphql_door import GraphQLDoor

Change = Callable[[Caller], Caller]


@pytest.fixture
def changes(monkeypatch: pytest.MonkeyPatch) -> list[Change]:
    """What is made of whoever the real door says it is; the last one counts."""
    made: list[Change] = [lambda caller: caller]
    identify = GraphQLDoor.identify

    async def changed(self: GraphQLDoor, authorization: str, address: str) -> Caller:
        return made[-1](await identify(self, authorization, address))

    monkeypatch.setattr(GraphQLDoor, "identify", changed)
    monkeypatch.setattr(graphql_connection, "RECHECK_SECONDS", 0.1)
    return made


@pytest.fixture
async def socket(
    settings: Settings, database: Database, tenant: Tenant, changes: list[Change]
) -> AsyncIterator[ClientConnection]:
    _, secret = await make_key(database, settings, tenant)
    changes.append(with_few)
    async with serving(settings) as web:
        url = web.url.replace("http", "ws", 1) + "/graphql"
        async with connect(url, subprotocols=["graphql-transport-ws"]) as socket:  # type: ignore[list-item]
            payload = {"authorization": f"Bearer {secret}"}
            await socket.send(json.dumps({"type": "connection_init", "payload": payload}))
            assert json.loads(await socket.recv())["type"] == "connection_ack"
            yield socket


def with_few(caller: Caller) -> Caller:
    few = frozenset(sorted(caller.principal.permissions)[:2])
    return replace(caller, principal=replace(caller.principal, permissions=few))


async def closed_with(socket: ClientConnection) -> int:
    with pytest.raises(ConnectionClosed) as closed:
        async with asyncio.timeout(20):
            while True:
                await socket.recv()
    assert closed.value.rcvd is not None
    return closed.value.rcvd.code


async def test_a_recheck_that_fails_for_whatever_reason_ends_the_socket(
    socket: ClientConnection, changes: list[Change]
) -> None:
    def fail(caller: Caller) -> Caller:
        raise ZeroDivisionError

    changes.append(fail)
    assert await closed_with(socket) == 1011


async def test_a_socket_that_nobody_can_confirm_for_a_while_is_ended(
    socket: ClientConnection, changes: list[Change], monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(caller: Caller) -> Caller:
        raise DatabaseUnavailable(retry_after=2.0)

    changes.append(away)
    await asyncio.sleep(0.5)
    await (await socket.ping())
    monkeypatch.setattr(graphql_connection, "UNCONFIRMED_SECONDS", 0.0)
    assert await closed_with(socket) == 1013


async def test_who_was_given_more_since_and_has_lost_it_again_is_ended(
    socket: ClientConnection, changes: list[Change]
) -> None:
    changes.append(lambda caller: caller)
    await socket.send(json.dumps({"type": "subscribe", "id": "1", "payload": {"query": "{ __typename }"}}))
    while json.loads(await socket.recv())["type"] != "complete":
        pass
    changes.append(with_few)
    assert await closed_with(socket) == 4403
