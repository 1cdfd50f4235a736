"""What tenants deleted goes for good once it can be restored no more: questions, and links that ended. In bites."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta

from core.database import Database
from core.queries import named

log = logging.getLogger(__name__)

# As long as `restoreQuestion` says; a link that has ended is shown as long.
KEPT = timedelta(days=30)
BITE = 1_000
PURGES = (named("questions", "purge_questions"), named("shares", "purge_links"))


async def purge_deleted(database: Database, now: datetime | None = None) -> int:
    """How many rows went. Several workers may do this at once; each row goes once.

    Raises:
        DatabaseUnavailable: it is away; what went before that is gone.
    """
    before = (now or datetime.now(UTC)) - KEPT
    gone = 0
    for purge in PURGES:
        while True:
            async with database.as_writer() as session:
                count = int((await session.execute(purge, before, BITE)).split()[-1])
            gone += count
            if count < BITE:
                break
    if gone:
        log.info("deleted objects purged", extra={"action": "purge_deleted", "rows": gone})
    return gone
