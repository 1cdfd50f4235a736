"""The keys that sign access tokens: kept sealed, followed by another with an overlap, published without their secret.

A new key is published before it signs, so that whoever caches the set has it by then; the one before it stays in the
set until the last token that it signed has expired.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any

from joserfc.jwk import RSAKey

from core.database import Database
from core.keys import seal, unseal
from core.queries import named
from core.tokens import ACCESS_SECONDS, LEEWAY_SECONDS, new_key

FIND_SIGNING = named("signing_keys", "find_signing_key")
LIST = named("signing_keys", "list_signing_keys")
INSERT = named("signing_keys", "insert_signing_key")
RETIRE = named("signing_keys", "retire_signing_keys")
FORGET = named("signing_keys", "forget_signing_keys")

# How long the published set may be cached, and twice that until a key of it signs.
PUBLISHED_SECONDS = 300
AHEAD_SECONDS = 2 * PUBLISHED_SECONDS


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A key as it is published. It signs from `signs_from`, and what it signed is good until `verifies_until`."""

    kid: str
    jwk: dict[str, Any]
    created_at: datetime
    signs_from: datetime
    verifies_until: datetime | None

    def verifies(self, now: datetime) -> bool:
        """Whether what it signed is good."""
        return self.verifies_until is None or self.verifies_until > now


def states_of(keys: Sequence[PublicKey], now: datetime) -> dict[str, str]:
    """By `kid`: waiting to sign, signing, retiring (what it signed is still good) or retired. Newest first."""
    states: dict[str, str] = {}
    for key in keys:
        if not key.verifies(now):
            states[key.kid] = "retired"
        elif key.signs_from > now:
            states[key.kid] = "waiting"
        else:
            states[key.kid] = "retiring" if "signing" in states.values() else "signing"
    return states


async def signing_key(database: Database, master_key: bytes) -> RSAKey:
    """The private key that signs now; the first one is made when it is asked for.

    Raises:
        Misconfigured: another master key sealed it.
    """
    async with database.as_doorkeeper() as session:
        row = await session.fetchrow(FIND_SIGNING)
    if row is None:
        return await _add(database, master_key, ahead_seconds=0)
    return _opened(row["kid"], row["sealed_private"], master_key)


async def list_signing_keys(database: Database) -> list[PublicKey]:
    """All keys that are kept, newest first."""
    async with database.as_doorkeeper() as session:
        rows = await session.fetch(LIST)
    return [
        PublicKey(
            row["kid"], json.loads(row["public_jwk"]), row["created_at"], row["signs_from"], row["verifies_until"]
        )
        for row in rows
    ]


async def rotate_signing_key(database: Database, master_key: bytes, *, at_once: bool = False) -> str:
    """A new key, the `kid` of which it answers; it signs after `AHEAD_SECONDS`, and the others verify for as long as
    what they signed lives. `at_once`, for a key that was stolen: the others' tokens are refused from now on."""
    if not at_once:
        return str((await _add(database, master_key, ahead_seconds=AHEAD_SECONDS)).kid)
    return str((await _add(database, master_key, ahead_seconds=0, others_seconds=0)).kid)


async def _add(
    database: Database, master_key: bytes, *, ahead_seconds: int, others_seconds: int | None = None
) -> RSAKey:
    key = await asyncio.to_thread(new_key)
    kid = str(key.kid)
    sealed = seal(json.dumps(key.as_dict(private=True)), key_id=kid, master_key=master_key)
    public = json.dumps(key.as_dict(private=False), sort_keys=True)
    if others_seconds is None:
        others_seconds = ahead_seconds + ACCESS_SECONDS + LEEWAY_SECONDS
    async with database.as_doorkeeper(is_write=True) as session:
        await session.execute(RETIRE, others_seconds)
        await session.execute(INSERT, kid, sealed, public, ahead_seconds)
        await session.execute(FORGET)
    return key


@lru_cache(maxsize=8)
def _opened(kid: str, sealed: bytes, master_key: bytes) -> RSAKey:
    return RSAKey.import_key(json.loads(unseal(sealed, key_id=kid, master_key=master_key)))
