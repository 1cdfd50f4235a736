"""The ingest door's smaller parts: bodies, bounds, whose address it is."""

from __future__ import annotations

import gzip
import zlib
from typing import Any

import pytest
import zstandard
from starlette.requests import Request

from core.errors import InvalidRequest
from core.settings import Settings
from web.ingest.body import decompress, read_body
from web.peer import client_address

LIMIT = 1000


def request(chunks: list[bytes] | None = None, peer: str = "198.51.100.9", **headers: str) -> Request:
    waiting = list(chunks or [])

    async def receive() -> dict[str, Any]:
        chunk = waiting.pop(0)
        return {"type": "http.request", "body": chunk, "more_body": bool(waiting)}

    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return Request({"type": "http", "method": "POST", "path": "/", "headers": raw, "client": (peer, 1)}, receive)


async def test_a_body_is_bounded_while_it_arrives_whatever_it_declared() -> None:
    assert await read_body(request([b"a" * 500, b"b" * 500]), LIMIT) == b"a" * 500 + b"b" * 500
    for bad in (request([b"a" * 500, b"b" * 501]), request([b"a" * 900, b"b" * 900], content_length="5")):
        with pytest.raises(InvalidRequest) as refusal:
            await read_body(bad, LIMIT)
        assert refusal.value.code == "body_too_large" and "1000" in refusal.value.message
    with pytest.raises(InvalidRequest):
        await read_body(request([], content_length="1001"), LIMIT)


@pytest.mark.parametrize("encoding", ["", "identity", "gzip", "zstd", " GZIP "])
def test_a_body_comes_back_in_the_clear_up_to_the_limit(encoding: str) -> None:
    pack = {"gzip": gzip.compress, "zstd": zstandard.compress}.get(encoding.strip().lower(), bytes)
    assert decompress(pack(b"x" * LIMIT), encoding, LIMIT) == b"x" * LIMIT
    if encoding not in ("", "identity"):
        with pytest.raises(InvalidRequest, match="expands to more"):
            decompress(pack(b"x" * (LIMIT + 1)), encoding, LIMIT)


@pytest.mark.parametrize(
    ("body", "encoding"),
    [
        (gzip.compress(b"a") + gzip.compress(b"b"), "gzip"),
        (gzip.compress(b"a") + b"rest", "gzip"),
        (zlib.compress(b"a"), "gzip"),
        (b"", "gzip"),
        (zstandard.compress(b"a") + b"rest", "zstd"),
        (zstandard.compress(b"a" * 500)[:-3], "zstd"),
        (b"", "zstd"),
    ],
)
def test_a_broken_or_longer_stream_is_refused(body: bytes, encoding: str) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        decompress(body, encoding, LIMIT)
    assert refusal.value.code == "invalid_encoding"


@pytest.mark.parametrize(
    ("peer", "forwarded", "trusted", "address"),
    [
        ("198.51.100.9", "203.0.113.1", "", "198.51.100.9"),
        ("10.0.0.1", "203.0.113.1", "10.0.0.0/8", "203.0.113.1"),
        ("10.0.0.1", "6.6.6.6, 203.0.113.1", "10.0.0.0/8", "203.0.113.1"),
        ("10.0.0.1", "203.0.113.1, 10.0.0.7", "10.0.0.0/8", "203.0.113.1"),
        ("198.51.100.9", "203.0.113.1", "10.0.0.0/8", "198.51.100.9"),
        ("10.0.0.1", "", "10.0.0.0/8", "10.0.0.1"),
        ("10.0.0.1", "nonsense", "10.0.0.1", "nonsense"),
        # As a socket that takes IPv4 and IPv6 tells it.
        ("::ffff:10.0.0.1", "203.0.113.1", "10.0.0.0/8", "203.0.113.1"),
    ],
)
def test_only_a_trusted_proxy_says_whose_address_it_is(peer: str, forwarded: str, trusted: str, address: str) -> None:
    settings = Settings(trusted_proxies=trusted)
    assert client_address(request(peer=peer, x_forwarded_for=forwarded), settings) == address
