"""Keys as the doors know them: looked up once, kept five seconds, and kept on while the database is away."""

from __future__ import annotations

import time
from collections import OrderedDict
from dataclasses import dataclass
from datetime import UTC, datetime

from core.accounts import find_key
from core.database import Database, answered_within
from core.errors import DatabaseUnavailable, Unauthenticated
from core.keys import ApiKey, hash_secret, is_bearer, is_key_id, unseal
from core.queries import named
from core.tenancy import KeyKind, Principal
from web.auth.callers import Caller

FRESH_SECONDS = 5.0
# Of the five that an ingest request may take in all.
LOOK_UP_SECONDS = 2.0
MAX_ENTRIES = 10_000
MONTH_USAGE = named("keys", "month_usage")
TOUCH_KEY = named("keys", "touch_key")


@dataclass(frozen=True, slots=True)
class KnownKey:
    """A key, its unsealed signing secrets, and its tenant's events counted this month."""

    key: ApiKey
    secrets: tuple[str, ...]
    month_usage: int

    def principal(self) -> Principal:
        return Principal.of_key(self.key.tenant, self.key.id, self.key.scopes)

    def caller(self) -> Caller:
        return Caller(self.principal(), self.key.id, self.key, self.month_usage)


@dataclass(slots=True)
class _Entry:
    known: KnownKey | None
    looked_up_at: float


class KeyRing:
    """The cache in front of the doorkeeper. A revoked key is refused within `FRESH_SECONDS`."""

    def __init__(self, database: Database, master_key: bytes) -> None:
        self._database = database
        self._master_key = master_key
        self._entries: OrderedDict[bytes | str, _Entry] = OrderedDict()

    async def by_bearer(self, text: str) -> KnownKey:
        """The key of a bearer secret.

        Raises:
            Unauthenticated: unknown, revoked and expired are told apart nowhere.
            DatabaseUnavailable: it was never seen and cannot be looked up now.
        """
        if not is_bearer(text):
            raise Unauthenticated("The API key is missing, unknown, expired or revoked.")
        return await self._find(hash_secret(text), secret=text)

    async def by_id(self, key_id: str) -> KnownKey:
        """The signing key with that id; same errors."""
        if not is_key_id(key_id):
            raise Unauthenticated("The API key is missing, unknown, expired or revoked.")
        return await self._find(key_id, key_id=key_id)

    async def _find(self, cache_key: bytes | str, *, secret: str | None = None, key_id: str | None = None) -> KnownKey:
        entry = self._entries.get(cache_key)
        if entry is None or time.monotonic() - entry.looked_up_at > FRESH_SECONDS:
            entry = await self._look_up(cache_key, entry, secret=secret, key_id=key_id)
        known = entry.known
        if known is None or (known.key.expires_at is not None and known.key.expires_at <= datetime.now(UTC)):
            raise Unauthenticated("The API key is missing, unknown, expired or revoked.")
        known.principal().refuse_when_ending()
        return known

    async def _look_up(
        self, cache_key: bytes | str, stale: _Entry | None, *, secret: str | None, key_id: str | None
    ) -> _Entry:
        try:
            known = await answered_within(LOOK_UP_SECONDS, self._ask(secret=secret, key_id=key_id))
        except DatabaseUnavailable:
            if stale is None:
                raise
            # Ingest goes on while the database is away, with the keys that were good when it left.
            known = stale.known
        entry = self._entries[cache_key] = _Entry(known, time.monotonic())
        self._entries.move_to_end(cache_key)
        while len(self._entries) > MAX_ENTRIES:
            self._entries.popitem(last=False)
        return entry

    async def _ask(self, *, secret: str | None, key_id: str | None) -> KnownKey | None:
        key = await find_key(self._database, secret=secret, key_id=key_id)
        return await self._known(key) if key else None

    async def _known(self, key: ApiKey) -> KnownKey:
        secrets = tuple(unseal(sealed, key_id=key.id, master_key=self._master_key) for sealed in key.sealed)
        async with self._database.as_doorkeeper(is_write=True) as session:
            await session.execute(TOUCH_KEY, key.tenant.id, key.id)
            row = await session.fetchrow(MONTH_USAGE, key.tenant.id, datetime.now(UTC).date().replace(day=1))
        return KnownKey(key, secrets if key.kind is KeyKind.SECRET else (), row["accepted"] if row else 0)
