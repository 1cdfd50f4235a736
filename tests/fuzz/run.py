"""Sends operations, whole and damaged, to a running instance and keeps count of what came back."""

from __future__ import annotations

import asyncio
import base64
import binascii
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import httpx2
import msgspec

from schema.build import schema
from tests.fuzz.damage import Damaged, damaged
from tests.fuzz.operations import Operations

MAX_IDS = 200
STREAM_SHARE = 0.03


@dataclass(slots=True)
class Tally:
    """What came back: statuses, codes, and every answer that is a fault of ours."""

    statuses: Counter[int] = field(default_factory=Counter)
    codes: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def sent(self) -> int:
        return sum(self.statuses.values())


async def run(
    url: str, secret: str, *, operations: int, seed: int, tally: Tally | None = None, concurrency: int = 8
) -> Tally:
    """Sends so many. The same seed makes the same operations, but for ids that the instance has given."""
    tally, made = tally or Tally(), Operations(schema._schema, seed)
    left = operations
    started = time.monotonic()

    async def sender(client: httpx2.AsyncClient) -> None:
        nonlocal left
        while left > 0:
            left -= 1
            whole = made.random.random() < 0.4
            body = made.next()
            request = Damaged(msgspec.json.encode(_sendable(body))) if whole else damaged(body, made.random)
            is_stream = made.random.random() < STREAM_SHARE
            await _send(client, request, is_stream=is_stream, tally=tally, ids=made.ids)

    headers = {"Authorization": f"Bearer {secret}", "Content-Type": "application/json"}
    async with httpx2.AsyncClient(base_url=url, headers=headers, timeout=30) as client:
        await asyncio.gather(*(sender(client) for _ in range(concurrency)))
    tally.seconds = time.monotonic() - started
    return tally


async def _send(client: httpx2.AsyncClient, request: Damaged, *, is_stream: bool, tally: Tally, ids: list[str]) -> None:
    headers = {name: value.encode("latin-1") for name, value in request.headers.items()}
    if is_stream:
        # The first event is enough: what is left of a stream ends with its connection.
        async with client.stream(
            "POST", "/graphql/stream", content=request.body, headers={"Accept": b"text/event-stream", **headers}
        ) as answer:
            first = b""
            async for piece in answer.aiter_bytes():
                first += piece
                if b"event: " in first or len(first) > 100_000:
                    break
        tally.statuses[answer.status_code] += 1
        _look(tally, request, answer.status_code, None)
        return
    answer = await client.post("/graphql", content=request.body, headers=headers)
    tally.statuses[answer.status_code] += 1
    try:
        found = msgspec.json.decode(answer.content)
    except msgspec.DecodeError:
        tally.faults.append(f"no JSON: {request.body[:2000]!r} -> {answer.content[:500]!r}")
        return
    _look(tally, request, answer.status_code, found)
    _keep_ids(found, ids)


def _look(tally: Tally, request: Damaged, status: int, found: Any) -> None:
    if status >= 500:
        tally.faults.append(f"{status}: {request.body[:3000]!r} -> {found}")
    if not isinstance(found, dict):
        return
    for error in found.get("errors", ()):
        code = error.get("extensions", {}).get("code", "none")
        tally.codes[code] += 1
        if code in ("INTERNAL", "none"):
            tally.faults.append(f"{code}: {request.body[:3000]!r} -> {found}")


def _keep_ids(found: Any, ids: list[str]) -> None:
    """Ids to ask for again; not those of keys, whose ends could be this one's own."""
    waiting = [found]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            if isinstance(id := value.get("id"), str) and len(ids) < MAX_IDS and not _is_key(id):
                ids.append(id)
            waiting.extend(value.values())
        elif isinstance(value, list):
            waiting.extend(value)


def _is_key(id: str) -> bool:
    try:
        return base64.urlsafe_b64decode(id + "=" * (-len(id) % 4)).startswith(b"ApiKey:")
    except (binascii.Error, ValueError):
        return True


def _sendable(value: Any) -> Any:
    """The same without halves of surrogate pairs, which the encoder does not write."""
    if isinstance(value, str):
        return value.encode(errors="replace").decode()
    if isinstance(value, dict):
        return {_sendable(key): _sendable(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_sendable(inner) for inner in value]
    return value
