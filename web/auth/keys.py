"""Keys as the doors know them: looked up once, kept five seconds, and kept on for a while when the database is
away: half a minute, and for events until it is back."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from core.accounts import find_key
from core.database import Database, answered_within
from core.errors import DatabaseUnavailable, Unauthenticated
from core.keys import ApiKey, hash_secret, is_bearer, is_key_id, unseal
from core.queries import named
from core.ratelimit import RateLimiter
from core.tenancy import KeyKind, Principal
from web.auth.callers import Caller
from web.auth.look_ups import Entry, LookUps
from web.auth.strangers import admit_look_up

FRESH_SECONDS = 5.0
# Of the five that an ingest request may take in all.
LOOK_UP_SECONDS = 2.0
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


class KeyRing:
    """The cache in front of the doorkeeper. A revoked key is refused within `FRESH_SECONDS`; while the database is
    away, or late, within `UNCONFIRMED_SECONDS`, but for events."""

    def __init__(self, database: Database, master_key: bytes, limiter: RateLimiter) -> None:
        self._database = database
        self._master_key = master_key
        self._limiter = limiter
        self._look_ups: LookUps[bytes | str, KnownKey] = LookUps()

    async def by_bearer(self, text: str, address: str, *, is_for_events: bool = False) -> KnownKey:
        """The key of a bearer secret that comes from an address.

        Raises:
            Unauthenticated: unknown, revoked and expired are told apart nowhere.
            TooMany: it is not known to be good, and the address has had too many looked up.
            DatabaseUnavailable: it cannot be looked up now, and was never seen or, unless it is for events, was not
                confirmed for a while.
        """
        if not is_bearer(text):
            raise Unauthenticated("The API key is missing, unknown, expired or revoked.")
        entry = await self._find(hash_secret(text), address, secret=text)
        known = _good(entry)
        if not is_for_events:
            entry.require_confirmed()
        return known

    async def by_id(self, key_id: str, address: str) -> KnownKey:
        """The signing key with that id, which sends events; same errors."""
        if not is_key_id(key_id):
            raise Unauthenticated("The API key is missing, unknown, expired or revoked.")
        return _good(await self._find(key_id, address, key_id=key_id))

    async def _find(
        self, cache_key: bytes | str, address: str, *, secret: str | None = None, key_id: str | None = None
    ) -> Entry[KnownKey]:
        entry = self._look_ups.get(cache_key)
        if entry is not None and not entry.is_older_than(FRESH_SECONDS):
            return entry
        if entry is None or entry.found is None:
            await admit_look_up(self._limiter, address)
        try:
            known = await answered_within(LOOK_UP_SECONDS, self._ask(secret=secret, key_id=key_id))
        except DatabaseUnavailable:
            if entry is None:
                raise
            # Ingest goes on while the database is away, with the keys that were good when it left.
            return entry.asked_in_vain()
        return self._look_ups.keep(cache_key, known)

    async def _ask(self, *, secret: str | None, key_id: str | None) -> KnownKey | None:
        key = await find_key(self._database, secret=secret, key_id=key_id)
        return await self._known(key) if key else None

    async def _known(self, key: ApiKey) -> KnownKey:
        secrets = tuple(unseal(sealed, key_id=key.id, master_key=self._master_key) for sealed in key.sealed)
        async with self._database.as_doorkeeper(is_write=True) as session:
            await session.execute(TOUCH_KEY, key.tenant.id, key.id)
            row = await session.fetchrow(MONTH_USAGE, key.tenant.id, datetime.now(UTC).date().replace(day=1))
        return KnownKey(key, secrets if key.kind is KeyKind.SECRET else (), row["accepted"] if row else 0)


def _good(entry: Entry[KnownKey]) -> KnownKey:
    known = entry.found
    if known is None or (known.key.expires_at is not None and known.key.expires_at <= datetime.now(UTC)):
        raise Unauthenticated("The API key is missing, unknown, expired or revoked.")
    known.principal().refuse_when_ending()
    return known
