"""The WebSocket rows of the threat table, by frames made by hand: every close code of the protocol among them."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest

from tests.attacks.cpu import cpu_ms
from tests.attacks.raw_socket import TEXT, RawSocket, frame
from tests.attacks.socket_rows import ATTACKS, INIT, SocketAttack, asked, subscribe
from tests.conftest import Instance

pytestmark = pytest.mark.slow
MAX_CPU_MS = 50.0
# What takes the server's time by its number of messages or bytes, and is cut for it.
FLOODS = {"W6 a flood of pings of the protocol"}


def init(secret: str) -> dict[str, Any]:
    return {"type": "connection_init", "payload": {"authorization": f"Bearer {secret}"}}


async def opened(instance: Instance, secret: str = "") -> RawSocket:
    """A socket whose sender is known."""
    socket = await RawSocket.open(instance.url)
    await socket.send(init(secret or instance.secret_key))
    assert (await socket.message())["type"] == "connection_ack"
    return socket


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.id)
async def test_an_attack_ends_as_its_row_says(instance: Instance, attack: SocketAttack) -> None:
    socket = await RawSocket.open(instance.url, attack.protocol)
    assert socket.status == 101, socket.head
    messages = list(attack.messages)
    if messages and messages[0] == INIT:
        await socket.send(init(instance.secret_key))
        assert (await socket.message())["type"] == "connection_ack"
        messages.pop(0)
    before = cpu_ms(instance.pid("web"))
    await socket.send(*messages)
    if attack.error:
        found = await socket.message()
        while found["type"] != "error":
            errors = found.get("payload", {}).get("errors") if found["type"] == "next" else None
            if errors:
                found = {"type": "error", "payload": errors}
            else:
                found = await socket.message()
        assert found["payload"][0]["extensions"]["code"] == attack.error
        await socket.send({"type": "ping"})
        while (await socket.message())["type"] != "pong":
            pass
    else:
        code, reason = await socket.close_code()
        assert code == attack.code, (code, reason)
        assert reason or code < 4000
    spent = cpu_ms(instance.pid("web")) - before
    assert spent < MAX_CPU_MS * (10 if attack.id in FLOODS else 1), spent
    socket.abort()


async def test_w1_of_several_protocols_the_one_that_is_spoken_is_chosen(instance: Instance) -> None:
    socket = await RawSocket.open(instance.url, "graphql-ws, graphql-transport-ws")
    assert "sec-websocket-protocol: graphql-transport-ws" in socket.head.lower()
    assert "permessage-deflate" not in socket.head.lower()
    socket.abort()


async def test_w3_a_cookie_opens_nothing_whatever_the_origin(instance: Instance) -> None:
    for origin in ("https://evil.example", instance.url, "null"):
        socket = await RawSocket.open(
            instance.url, Cookie=f"authorization=Bearer {instance.secret_key}; cm_refresh=x", Origin=origin
        )
        await socket.send({"type": "connection_init"})
        assert (await socket.close_code())[0] == 4401


async def test_w5_an_unknown_id_is_let_pass_and_an_id_is_free_again(instance: Instance) -> None:
    socket = await opened(instance)
    await socket.send({"id": "nothing", "type": "complete"})
    for _ in range(3):
        await socket.send(subscribe("1", "{ __typename }"))
        assert [(await socket.message())["type"], (await socket.message())["type"]] == ["next", "complete"]
    await socket.send(asked(), {"id": "1", "type": "complete"}, {"type": "ping"})
    while (await socket.message())["type"] != "pong":
        pass
    socket.abort()


async def test_w5_ten_thousand_that_come_and_go_are_cut_off(instance: Instance) -> None:
    socket = await opened(instance)
    pairs = b"".join(
        frame(TEXT, b'{"id":"%d","type":"subscribe","payload":{"query":"{__typename}"}}' % n)
        + frame(TEXT, b'{"id":"%d","type":"complete"}' % n)
        for n in range(10_000)
    )
    await socket.send(pairs)
    assert (await socket.close_code())[0] == 4429
    other = await opened(instance)
    await other.send(subscribe("1", "{ __typename }"))
    assert (await other.message())["payload"]["data"] == {"__typename": "Query"}
    other.abort()


async def test_w8_a_key_that_is_revoked_ends_its_sockets(instance: Instance) -> None:
    made = instance.cli("key", "create", "--scope", "metrics:read", "--unsigned").stdout
    key_id, secret = re.findall("key id (.+)", made)[0], re.findall("secret (cm_.+)", made)[0]
    socket = await opened(instance, secret)
    await socket.send(asked())
    assert (await socket.message())["type"] == "next"
    await asyncio.to_thread(instance.cli, "key", "revoke", key_id)
    # Heartbeats come until then.
    async with asyncio.timeout(30):
        code, reason = await socket.close_code()
    assert code == 4403 and "revoked" in reason


async def test_w9_a_query_on_a_socket_tells_its_cost_and_the_limit_of_its_caller(instance: Instance) -> None:
    socket = await opened(instance)
    await socket.send(subscribe("1", "{ viewer { rateLimit { limit remaining } } }"))
    payload = (await socket.message())["payload"]
    assert payload["extensions"]["cost"]["requested"] > 0 and payload["data"]["viewer"]["rateLimit"]["remaining"] > 0
    socket.abort()


def test_no_traceback_was_written(instance: Instance) -> None:
    for log in (instance.data / "logs").glob("*.log"):
        assert "Traceback" not in log.read_text(errors="replace"), log.name
