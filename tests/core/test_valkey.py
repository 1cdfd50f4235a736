"""Clients of Valkey: a call ends when its caller says so."""

from __future__ import annotations

import asyncio

import pytest

from core.settings import Settings
from core.valkey import open_valkey


async def test_a_time_out_around_calls_always_comes_through(settings: Settings) -> None:
    client = open_valkey(settings.redis_url, seconds=2.0)
    await client.ping()
    for n in range(300):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.001 + n * 0.00001):
                for _ in range(1000):
                    await client.ping()
    await client.aclose()
