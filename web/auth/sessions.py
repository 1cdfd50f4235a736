"""People as the doors know them, by their access tokens: the signing keys and each session are looked up, kept five
seconds, and kept on for half a minute when the database is away."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from joserfc.jwk import RSAKey

from core.accounts import tenant_of
from core.database import Database, answered_within
from core.errors import DatabaseUnavailable, PermissionDenied
from core.permissions import Role
from core.queries import named
from core.sessions import revoked
from core.signing_keys import PublicKey, list_signing_keys
from core.tenancy import PersonId, Principal, SessionId, Tenant
from core.tokens import AccessToken, invalid, kid_of, verified
from web.auth.callers import Caller
from web.auth.keys import FRESH_SECONDS, LOOK_UP_SECONDS
from web.auth.look_ups import Entry, LookUps

FIND_STATE = named("sessions", "find_session_state")
TOUCH = named("sessions", "touch_session")
# Tokens with made-up keys cost so many readings a second and no more.
RELOAD_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class KnownSession:
    """A session, where it is, and what its person is there; no role: no member any more."""

    person_id: PersonId
    tenant: Tenant
    role: Role | None
    is_live: bool
    is_locked: bool
    expires_at: datetime


class SessionRing:
    """The cache in front of the doorkeeper. A revoked session, a member that was removed and another role are known
    within `FRESH_SECONDS`."""

    def __init__(self, database: Database, issuer: str) -> None:
        self._database = database
        self._issuer = issuer
        self._look_ups: LookUps[SessionId, KnownSession] = LookUps()
        self._keys: dict[str, tuple[PublicKey, RSAKey]] = {}
        self._keys_read_at = float("-inf")
        self._are_keys_away = False
        self._loading = asyncio.Lock()

    async def by_token(self, text: str) -> Caller:
        """Who sends an access token.

        Raises:
            Unauthenticated: `invalid_token`, `token_expired` or `session_revoked`.
            PermissionDenied: no member any more, or the session has moved to another tenant.
            DatabaseUnavailable: the session cannot be looked up now, and was never seen, or not for a while.
        """
        kid = kid_of(text)
        token = verified(text, await self._key(kid), issuer=self._issuer, now=int(time.time()))
        known = await self._known(token)
        if known is None or not known.is_live or known.expires_at <= datetime.now(UTC):
            raise revoked()
        if known.person_id != token.person_id:
            raise invalid()
        if known.tenant.id != token.tenant_id:
            raise PermissionDenied(
                "The session has moved to another tenant and this token is of the one before; refresh it.",
                code="tenant_switched",
            )
        if known.role is None:
            raise PermissionDenied("You are not a member of that tenant any more.", code="not_a_member")
        principal = Principal.of_person(
            known.tenant, known.person_id, known.role, token.session_id, is_locked=known.is_locked
        )
        return Caller(principal, f"{known.tenant.id}:{known.person_id}", expires_at=float(token.expires_at))

    async def published(self) -> list[dict[str, Any]]:
        """The keys that verify now or will soon, as JSON Web Keys; no private part.

        Raises:
            DatabaseUnavailable: they were never read and cannot be now.
        """
        await self._load_keys(since=time.monotonic() - FRESH_SECONDS)
        now = datetime.now(UTC)
        return [public.jwk for public, _ in self._keys.values() if public.verifies(now)]

    async def _key(self, kid: str) -> RSAKey:
        now = time.monotonic()
        # One that is not known may be new.
        await self._load_keys(since=now - FRESH_SECONDS if kid in self._keys else now)
        found = self._keys.get(kid)
        if found is None or not found[0].verifies(datetime.now(UTC)):
            raise invalid()
        return found[1]

    async def _load_keys(self, *, since: float) -> None:
        """Reads the keys, unless they were read since then: whoever waits shares one reading. Who asks for nothing
        newer than is there does not wait for it: made-up keys keep a reading under way all the time."""
        if self._keys_read_at < since:
            async with self._loading:
                if self._keys_read_at < since:
                    await self._read_keys()
        if self._are_keys_away and not self._keys:
            raise DatabaseUnavailable(retry_after=2.0)

    async def _read_keys(self) -> None:
        await asyncio.sleep(self._keys_read_at + RELOAD_SECONDS - time.monotonic())
        began_at = time.monotonic()
        try:
            self._keep(await answered_within(LOOK_UP_SECONDS, list_signing_keys(self._database)))
            self._are_keys_away = False
        except DatabaseUnavailable:
            self._are_keys_away = True
        self._keys_read_at = began_at

    def _keep(self, listed: list[PublicKey]) -> None:
        known = self._keys
        self._keys = {
            key.kid: (key, known[key.kid][1] if key.kid in known else RSAKey.import_key(key.jwk)) for key in listed
        }

    async def _known(self, token: AccessToken) -> KnownSession | None:
        entry = self._look_ups.get(token.session_id)
        if entry is None or entry.is_older_than(FRESH_SECONDS) or _is_news(token, entry):
            entry = await self._look_up(token.session_id, entry)
        entry.require_confirmed()
        return entry.found

    async def _look_up(self, session_id: SessionId, stale: Entry[KnownSession] | None) -> Entry[KnownSession]:
        try:
            known = await answered_within(LOOK_UP_SECONDS, self._ask(session_id))
        except DatabaseUnavailable:
            if stale is None:
                raise
            # Who was signed in goes on for a while with what does not ask the database, as keys do.
            return stale.asked_in_vain()
        return self._look_ups.keep(session_id, known)

    async def _ask(self, session_id: SessionId) -> KnownSession | None:
        async with self._database.as_doorkeeper(is_write=True) as session:
            await session.execute(TOUCH, session_id)
            row = await session.fetchrow(FIND_STATE, session_id)
        if row is None:
            return None
        role = Role(row["role"]) if row["role"] is not None else None
        person_id = PersonId(UUID(int=row["person_id"].int))
        return KnownSession(person_id, tenant_of(row), role, row["is_live"], row["is_locked"], row["expires_at"])


def _is_news(token: AccessToken, entry: Entry[KnownSession]) -> bool:
    """Whether a token may know better than what is kept: it is of another tenant, and was made since the look-up, as
    when the session has just moved. A second more, since a token's time has no fraction."""
    known = entry.found
    return known is not None and known.tenant.id != token.tenant_id and token.issued_at + 1 >= entry.looked_up_on
