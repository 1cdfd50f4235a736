"""Tails: word of the newest counted events, told only while somebody listens, and only of some when there are many.

Who listens says so by a mark that ends by itself; who counts looks at the marks once a second, and publishes where and
what an event is, never the event: that is read from the database, by who may.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any
from uuid import UUID

import msgspec

from core.errors import LiveUnavailable
from core.topics import TAILS_KEY, tail_channel
from core.valkey import VALKEY_AWAY, open_valkey

MARK_SECONDS = 10.0
CALL_SECONDS = 2.0
MAX_TOLD = 200


class TailedEvent(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Where an event is (epoch milliseconds and id), and what filters ask first."""

    timestamp_ms: int
    id: bytes
    type: str
    session_id: str
    user_id: str
    is_bot: bool


class Told(msgspec.Struct, frozen=True, array_like=True):
    """One message: the newest events, oldest first, and how many others were counted and not told of."""

    events: list[TailedEvent]
    skipped: int


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Told)


def decode_told(text: str) -> Told:
    """A message.

    Raises:
        ValueError: the text is none.
    """
    return _decoder.decode(text)


class Tails:
    """Marks and messages."""

    def __init__(self, url: str) -> None:
        self._client = open_valkey(url, seconds=CALL_SECONDS, connections=2)

    async def listen(self, tenant_id: UUID) -> None:
        """Marks that somebody listens to a tenant's events, for `MARK_SECONDS`. Raises LiveUnavailable."""
        try:
            await self._client.zadd(TAILS_KEY, {str(tenant_id): time.time() + MARK_SECONDS})
        except VALKEY_AWAY as error:
            raise LiveUnavailable(retry_after=1.0) from error

    async def listened(self) -> frozenset[UUID]:
        """Tenants whose events somebody listens to. Raises LiveUnavailable."""
        try:
            now = time.time()
            await self._client.zremrangebyscore(TAILS_KEY, "-inf", now)
            found: Any = await self._client.zrangebyscore(TAILS_KEY, now, "+inf")
        except VALKEY_AWAY as error:
            raise LiveUnavailable(retry_after=1.0) from error
        return frozenset(UUID(member.decode()) for member in found)

    async def tell(self, told: Mapping[UUID, Told]) -> None:
        """Publishes a message a tenant. Raises LiveUnavailable."""
        try:
            pipeline = self._client.pipeline(transaction=False)
            for tenant_id, message in told.items():
                pipeline.publish(tail_channel(tenant_id), _encoder.encode(message))
            await pipeline.execute()
        except VALKEY_AWAY as error:
            raise LiveUnavailable(retry_after=1.0) from error

    async def close(self) -> None:
        await self._client.aclose()


class Gathered:
    """What is to be told of one tenant: the newest, and how many more there were."""

    def __init__(self) -> None:
        self._events: list[TailedEvent] = []
        self._skipped = 0

    def add(self, events: Iterable[TailedEvent]) -> None:
        """Newer ones."""
        self._events.extend(events)
        if (over := len(self._events) - MAX_TOLD) > 0:
            del self._events[:over]
            self._skipped += over

    def skip(self, count: int) -> None:
        """So many that nobody need look at."""
        self._skipped += count

    def told(self) -> Told:
        return Told(self._events, self._skipped)
