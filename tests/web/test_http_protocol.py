"""A head that does not end is not kept: over a real connection to the running process."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from urllib.parse import urlsplit

import pytest

from tests.web.conftest import Client, RunningWeb

POST = b"POST /auth/login HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"


async def sent(web: RunningWeb, beginning: bytes, rest: bytes, most: int) -> tuple[int, bytes]:
    """How many bytes of an endless rest were taken, and what was answered."""
    parts = urlsplit(web.url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    writer.write(beginning)
    taken = 0
    with suppress(ConnectionError, TimeoutError):
        async with asyncio.timeout(20):
            while taken < most and not reader.at_eof():
                writer.write(rest)
                await writer.drain()
                taken += len(rest)
                await asyncio.sleep(0)
    answer = b""
    with suppress(ConnectionError, TimeoutError):
        async with asyncio.timeout(5):
            answer = await reader.read(4096)
    writer.close()
    return taken, answer


@pytest.mark.parametrize(
    "beginning",
    [
        b"GET / HTTP/1.1\r\nauthorization: Bearer ",
        b"GET /",
        b"POST /graphql HTTP/1.1\r\n",
        POST + b"1;",
        POST + b"0\r\nx-trailer: ",
    ],
)
async def test_an_endless_head_is_cut_off(web: RunningWeb, client: Client, beginning: bytes) -> None:
    rest = b"a: b\r\n" * 3000 if beginning.endswith(b"\r\n") else b"x" * 18_000
    taken, answer = await sent(web, beginning, rest, 40_000_000)
    assert taken < 20_000_000
    assert answer == b"" or b" 431 " in answer or b" 400 " in answer
    assert (await client.http.get(f"{web.url}/health/live")).status_code == 200


async def test_what_is_large_and_whole_is_no_head(web: RunningWeb, client: Client) -> None:
    """A body beyond the bound of a head is the door's to refuse; and several requests go over one connection."""
    for _ in range(3):
        answer = await client.post("/graphql", {"query": "{ viewer { actor } }", "variables": {"pad": "x" * 200_000}})
        assert answer.status_code == 401
        assert (await client.http.get(f"{web.url}/health/live", headers={"x": "y" * 30_000})).status_code == 200
    answer = await client.http.get(f"{web.url}/health/live", headers={"x": "y" * 200_000})
    assert answer.status_code in (200, 431)
