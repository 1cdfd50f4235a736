"""Share links as the doors know them: looked up once, kept five seconds; uses are counted some seconds at once."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from datetime import UTC, datetime
from uuid import UUID

from core.database import Database, answered_within
from core.errors import CloudMetricsError, Unauthenticated
from core.keys import hash_secret
from core.queries import named
from core.ratelimit import RateLimiter
from core.shares import ShareGrant, find_grant, is_well_formed
from web.auth.callers import Caller
from web.auth.look_ups import LookUps
from web.auth.strangers import admit_look_up

log = logging.getLogger(__name__)

FRESH_SECONDS = 5.0
LOOK_UP_SECONDS = 2.0
# Uses that a process has not written yet are lost when it is killed.
NOTE_SECONDS = 5.0
NOTE_USES = named("shares", "note_uses")


class LinkRing:
    """The cache in front of the doorkeeper. What ended is refused within `FRESH_SECONDS`, and everything while the
    database is away: unlike ingest, what a link shows needs it."""

    def __init__(self, database: Database, limiter: RateLimiter) -> None:
        self._database = database
        self._limiter = limiter
        self._look_ups: LookUps[bytes, ShareGrant] = LookUps()
        self._uses: Counter[tuple[UUID, UUID]] = Counter()
        self._noting: asyncio.Task[None] | None = None

    async def caller(self, token: str, address: str) -> Caller:
        """Who bears a token that comes from an address.

        Raises:
            Unauthenticated: unknown, revoked, expired, its object or its maker's right gone: told apart nowhere.
            TooMany: it is not known to be good, and the address has had too many looked up.
            DatabaseUnavailable: it cannot be looked up now.
        """
        grant = await self._find(token, address) if is_well_formed(token) else None
        if grant is None or grant.expires_at <= datetime.now(UTC):
            raise Unauthenticated("The share link is unknown, or has ended.", code="invalid_share_link")
        return Caller(grant.principal(), f"share_link:{grant.link_id}", share=grant)

    def count(self, grant: ShareGrant) -> None:
        """One use; written within `NOTE_SECONDS`."""
        self._uses[grant.tenant.id, grant.link_id] += 1
        if self._noting is None or self._noting.done():
            self._noting = asyncio.create_task(self._note_soon())

    async def close(self) -> None:
        """Writes the uses that are not written yet, if the database is there."""
        if self._noting is not None:
            self._noting.cancel()
            await asyncio.gather(self._noting, return_exceptions=True)
        await self._note()

    async def _find(self, token: str, address: str) -> ShareGrant | None:
        entry = self._look_ups.get(key := hash_secret(token))
        if entry is None or entry.is_older_than(FRESH_SECONDS):
            if entry is None or entry.found is None:
                await admit_look_up(self._limiter, address)
            grant = await answered_within(LOOK_UP_SECONDS, find_grant(self._database, token))
            entry = self._look_ups.keep(key, grant)
        return entry.found

    async def _note_soon(self) -> None:
        while self._uses:
            await asyncio.sleep(NOTE_SECONDS)
            await self._note()

    async def _note(self) -> None:
        noted, self._uses = self._uses, Counter()
        try:
            if noted:
                async with self._database.as_doorkeeper(is_write=True) as session:
                    # In one order, so that two processes never wait for each other.
                    for (tenant_id, link_id), uses in sorted(noted.items()):
                        await session.execute(NOTE_USES, tenant_id, link_id, uses)
        except CloudMetricsError as error:
            self._uses.update(noted)
            log.warning("uses of share links wait", extra={"action": "worker_retry", "code": error.code})
