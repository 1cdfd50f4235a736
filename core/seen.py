"""Which event ids the log took within the last hour: what tells a duplicate at the door.

Only a hint to the caller. Ids are noted after the log has them, so an id that is told a duplicate is never lost;
what counts is decided by the ledger, in the transaction that counts.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from uuid import UUID

from core.errors import LogUnavailable
from core.topics import seen_key
from core.valkey import VALKEY_AWAY, open_valkey

SLOT_SECONDS = 3600
SLOTS = 2
WINDOW_SECONDS = SLOT_SECONDS * (SLOTS - 1)
CALL_SECONDS = 1.0


class SeenIds:
    """Sets of 16-byte ids, one a tenant and hour."""

    def __init__(self, url: str) -> None:
        self._client = open_valkey(url, seconds=CALL_SECONDS, connections=64)

    async def find(self, tenant_id: UUID, ids: Sequence[UUID]) -> set[UUID]:
        """Those of the ids that were taken within the window.

        Raises:
            LogUnavailable: nobody can tell right now; nothing was accepted.
        """
        if not ids:
            return set()
        slot = int(time.time()) // SLOT_SECONDS
        members = [event_id.bytes for event_id in ids]
        try:
            async with self._client.pipeline(transaction=False) as pipe:
                for back in range(SLOTS):
                    pipe.smismember(seen_key(tenant_id, slot - back), members)
                answers = await pipe.execute()
        except VALKEY_AWAY as error:
            raise LogUnavailable(retry_after=1.0) from error
        return {ids[n] for answer in answers for n, is_member in enumerate(answer) if is_member}

    async def note(self, tenant_id: UUID, ids: Sequence[UUID]) -> None:
        """Notes ids that the log took; when nobody answers, the note is missed and nothing else."""
        if not ids:
            return
        key = seen_key(tenant_id, int(time.time()) // SLOT_SECONDS)
        try:
            async with self._client.pipeline(transaction=False) as pipe:
                pipe.sadd(key, *(event_id.bytes for event_id in ids))
                pipe.expire(key, SLOT_SECONDS * SLOTS)
                await pipe.execute()
        except VALKEY_AWAY:
            return

    async def close(self) -> None:
        await self._client.aclose()
