"""What tenants deleted goes for good once it can be restored no more: questions, and links that ended; and so do
sessions and invitations that ended long ago. In bites."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta

from core.database import Database
from core.queries import named

log = logging.getLogger(__name__)

# As long as `restoreQuestion` says; a link that has ended is shown as long.
KEPT = timedelta(days=30)
BITE = 1_000
# A session lasts 30 days at most (core.sessions.LIFE): what was made so long ago ended a month ago.
SESSIONS_KEPT = timedelta(days=60)
# From when it could be accepted no more.
INVITATIONS_KEPT = timedelta(days=90)
PURGES = (
    (named("questions", "purge_questions"), KEPT),
    (named("shares", "purge_links"), KEPT),
    (named("sessions", "forget_sessions"), SESSIONS_KEPT),
    (named("invitations", "forget_invitations"), INVITATIONS_KEPT),
)


async def purge_deleted(database: Database, now: datetime | None = None) -> int:
    """How many rows went. Several workers may do this at once; each row goes once.

    Raises:
        DatabaseUnavailable: it is away; what went before that is gone.
    """
    gone = 0
    for purge, kept in PURGES:
        before = (now or datetime.now(UTC)) - kept
        while True:
            async with database.as_writer() as session:
                count = int((await session.execute(purge, before, BITE)).split()[-1])
            gone += count
            if count < BITE:
                break
    if gone:
        log.info("what was deleted or ended is purged", extra={"action": "purge_deleted", "rows": gone})
    return gone
