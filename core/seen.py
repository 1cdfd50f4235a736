"""Which event ids the log took within the last hour: what tells a duplicate at the door.

Only a hint to the caller. Ids are noted after the log has them, so an id that is told a duplicate is never lost;
what counts is decided by the ledger, in the transaction that counts.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from uuid import UUID

from core.errors import LogUnavailable
from core.event_ids import ID_BYTES, packed
from core.topics import seen_key
from core.valkey import VALKEY_AWAY
from core.valkey_turns import Turns, command, parts

SLOT_SECONDS = 3600
SLOTS = 2
WINDOW_SECONDS = SLOT_SECONDS * (SLOTS - 1)
CALL_SECONDS = 1.0


class SeenIds:
    """Sets of 16-byte ids, one a tenant and hour. Ids are text as `core.event_ids` has them."""

    def __init__(self, url: str) -> None:
        self._turns = Turns(url, seconds=CALL_SECONDS)

    async def find(self, tenant_id: UUID, ids: Sequence[str]) -> set[str]:
        """Those of the ids that were taken within the window.

        Raises:
            LogUnavailable: nobody can tell right now; nothing was accepted.
        """
        if not ids:
            return set()
        slot = int(time.time()) // SLOT_SECONDS
        keys = [seen_key(tenant_id, slot - back).encode() for back in range(SLOTS)]
        members, count = parts(packed(ids), ID_BYTES), len(ids)
        try:
            answers = await self._turns.ask(*(command((b"SMISMEMBER", key), members, count) for key in keys))
        except VALKEY_AWAY as error:
            raise LogUnavailable(retry_after=1.0) from error
        return {ids[n] for answer in answers if 1 in answer for n, is_member in enumerate(answer) if is_member}

    async def note(self, tenant_id: UUID, ids: Sequence[str]) -> None:
        """Notes ids that the log took; when nobody answers, the note is missed and nothing else."""
        if not ids:
            return
        key = seen_key(tenant_id, int(time.time()) // SLOT_SECONDS).encode()
        members = parts(packed(ids), ID_BYTES)
        seconds = str(SLOT_SECONDS * SLOTS).encode()
        try:
            await self._turns.ask(
                command((b"SADD", key), members, len(ids)),
                command((b"EXPIRE", key, seconds)),
            )
        except VALKEY_AWAY:
            return

    async def close(self) -> None:
        await self._turns.close()
