"""Rings: the last minutes of live streams, as Valkey streams, from which a reader goes on in whichever process.

A ring is one epoch of one stream: entries numbered by their `seq`, and a base, which is the whole at some `seq`. Both
end by themselves some minutes after the last was written.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from core.errors import LiveUnavailable
from core.topics import ring_base_key, ring_key
from core.valkey import VALKEY_AWAY, open_valkey

KEPT_SECONDS = 300
CALL_SECONDS = 2.0
_FIELD = b"f"


@dataclass(frozen=True, slots=True)
class RingPart:
    """What is to be written: entries as (seq, bytes), the whole at some seq if it is to be replaced, and the oldest
    entry that is kept. `is_anew`: what there is of it cannot be trusted."""

    tenant_id: UUID
    epoch: str
    entries: Sequence[tuple[int, bytes]]
    base: tuple[int, bytes] | None
    oldest: int
    is_anew: bool = False


class Rings:
    """Writes and reads them."""

    def __init__(self, url: str) -> None:
        self._client = open_valkey(url, seconds=CALL_SECONDS, connections=8)

    async def write(self, parts: Sequence[RingPart]) -> list[bool]:
        """Writes parts in one round trip; of each, whether its ring has it now.

        Raises:
            LiveUnavailable: Valkey is away.
        """
        pipeline = self._client.pipeline(transaction=False)
        counts = [_put(pipeline, part) for part in parts]
        try:
            results: list[Any] = await pipeline.execute(raise_on_error=False)
        except VALKEY_AWAY as error:
            raise LiveUnavailable(retry_after=1.0) from error
        written = []
        for count in counts:
            mine, results = results[:count], results[count:]
            written.append(not any(isinstance(result, Exception) for result in mine))
        return written

    async def read(self, tenant_id: UUID, epoch: str) -> tuple[bytes | None, list[tuple[int, bytes]]]:
        """The base and the entries of a ring, oldest first; (None, []) of one that is not there.

        Raises:
            LiveUnavailable: Valkey is away.
        """
        try:
            pipeline = self._client.pipeline(transaction=True)
            pipeline.get(ring_base_key(tenant_id, epoch))
            pipeline.xrange(ring_key(tenant_id, epoch))
            base, entries = await pipeline.execute()
        except VALKEY_AWAY as error:
            raise LiveUnavailable(retry_after=1.0) from error
        return base, [(int(id.partition(b"-")[0]), fields[_FIELD]) for id, fields in entries]

    async def close(self) -> None:
        await self._client.aclose()


def _put(pipeline: Any, part: RingPart) -> int:
    """Adds a part's commands; how many they are."""
    key, base_key = ring_key(part.tenant_id, part.epoch), ring_base_key(part.tenant_id, part.epoch)
    before = len(pipeline.command_stack)
    if part.is_anew:
        pipeline.delete(key)
    for seq, data in part.entries:
        pipeline.xadd(key, {_FIELD: data}, id=f"{seq}-0")
    if part.base is not None:
        pipeline.set(base_key, part.base[1], ex=KEPT_SECONDS)
    else:
        pipeline.expire(base_key, KEPT_SECONDS)
    pipeline.xtrim(key, minid=part.oldest, approximate=False)
    pipeline.expire(key, KEPT_SECONDS)
    return len(pipeline.command_stack) - before
