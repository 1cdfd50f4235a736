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

# Ids travel as one string of 16 bytes each: to encode a hundred arguments costs the client more than the look-up.
# KEYS: slots. ARGV: ids. Answers for each slot and id whether it is there.
_FIND = """
local ids = {}
for at = 1, #ARGV[1], 16 do ids[#ids + 1] = string.sub(ARGV[1], at, at + 15) end
local found = {}
for n, key in ipairs(KEYS) do found[n] = redis.call('SMISMEMBER', key, unpack(ids)) end
return found
"""
# KEYS: slot. ARGV: ids, seconds to keep.
_NOTE = """
local ids = {}
for at = 1, #ARGV[1], 16 do ids[#ids + 1] = string.sub(ARGV[1], at, at + 15) end
redis.call('SADD', KEYS[1], unpack(ids))
redis.call('EXPIRE', KEYS[1], ARGV[2])
"""


class SeenIds:
    """Sets of 16-byte ids, one a tenant and hour."""

    def __init__(self, url: str) -> None:
        self._client = open_valkey(url, seconds=CALL_SECONDS, connections=64)
        self._find_script = self._client.register_script(_FIND)
        self._note_script = self._client.register_script(_NOTE)

    async def find(self, tenant_id: UUID, ids: Sequence[UUID]) -> set[UUID]:
        """Those of the ids that were taken within the window.

        Raises:
            LogUnavailable: nobody can tell right now; nothing was accepted.
        """
        if not ids:
            return set()
        slot = int(time.time()) // SLOT_SECONDS
        keys = [seen_key(tenant_id, slot - back) for back in range(SLOTS)]
        try:
            answers = await self._find_script(keys=keys, args=[_packed(ids)])
        except VALKEY_AWAY as error:
            raise LogUnavailable(retry_after=1.0) from error
        return {ids[n] for answer in answers for n, is_member in enumerate(answer) if is_member}

    async def note(self, tenant_id: UUID, ids: Sequence[UUID]) -> None:
        """Notes ids that the log took; when nobody answers, the note is missed and nothing else."""
        if not ids:
            return
        key = seen_key(tenant_id, int(time.time()) // SLOT_SECONDS)
        try:
            await self._note_script(keys=[key], args=[_packed(ids), SLOT_SECONDS * SLOTS])
        except VALKEY_AWAY:
            return

    async def close(self) -> None:
        await self._client.aclose()


def _packed(ids: Sequence[UUID]) -> bytes:
    return b"".join([event_id.bytes for event_id in ids])
