"""Clients of Valkey: a call ends when its caller says so."""

from __future__ import annotations

import asyncio

import pytest
import uvloop

from core.settings import Settings
from core.valkey import VALKEY_AWAY, open_valkey, resets_as_away


async def test_a_time_out_around_calls_always_comes_through(settings: Settings) -> None:
    client = open_valkey(settings.redis_url, seconds=2.0)
    await client.ping()
    for n in range(300):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.001 + n * 0.00001):
                for _ in range(1000):
                    await client.ping()
    await client.aclose()


def test_a_connection_reset_before_it_is_written_to_is_a_server_that_is_away_on_uvloop_too() -> None:
    async def write_to_what_is_closed() -> None:
        async with await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0) as server:
            _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            writer.transport.abort()
            await asyncio.sleep(0.05)
            with pytest.raises(VALKEY_AWAY), resets_as_away():
                writer.writelines([b"PING"])

    uvloop.run(write_to_what_is_closed())
