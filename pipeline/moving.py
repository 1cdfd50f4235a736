"""A tenant's raw events follow it to the storage class of its tier: bite by bite, oldest first.

While they do, some stand in one class and some in another, and each in exactly one: a bite leaves and arrives in one
statement, what is new goes to the new class alone (the tier is held by whoever counts), and who counts looks for known
events in every class. So a tier may change at any time, even while the last change is still under way.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from uuid import UUID

import asyncpg

from core.database import Database
from core.queries import named
from core.retention import Retention
from core.tenancy import Tier
from pipeline.event_rows import COLUMNS

log = logging.getLogger(__name__)

HOLD_TIERS = named("aggregate", "hold_tiers")
LIST_MOVING = named("moving", "list_moving")
TRY_TO_MOVE = named("moving", "try_to_move")
NEXT_TO_MOVE = named("moving", "next_to_move")
MOVE = named("moving", "move_events").filled(columns=COLUMNS.text, moved=named("moving", "moved_columns").text)
DROP = named("moving", "drop_events")
HAS_MOVED = named("moving", "has_moved")
ENSURE_PARTITION = named("aggregate", "ensure_partition")
# A second of the database's time at most; counting goes on between two.
BITE = 10_000


class EventMover:
    """Moves what is where its tier does not keep it. Several processes may do this at once: each tenant is one's."""

    def __init__(self, database: Database, retention: Retention) -> None:
        self._database = database
        self._retention = retention

    async def move_all(self, now: datetime | None = None) -> int:
        """How many events went to where they belong, or were dropped since their tier keeps none so old.

        Raises:
            DatabaseUnavailable: it is away; what went before that has gone.
        """
        async with self._database.as_writer() as session:
            waiting = await session.fetch(LIST_MOVING)
        return sum([await self._move(row["id"], row["moving_since"], now or datetime.now(UTC)) for row in waiting])

    async def _move(self, tenant_id: UUID, since: datetime, now: datetime) -> int:
        """How many of one tenant's went; what the database refuses of them waits, and keeps no other tenant."""
        count, extra = 0, {"action": "move_events", "tenant": str(tenant_id)}
        try:
            while (bite := await self._bite(tenant_id, since, now)) is not None:
                count += bite
        except asyncpg.PostgresError:
            log.exception("events of a tenant cannot be moved, and are tried again", extra=extra)
        if count:
            log.info("events moved", extra={**extra, "events": count})
        return count

    async def _bite(self, tenant_id: UUID, since: datetime, now: datetime) -> int | None:
        """How many events of one day went; None: there are no more, or another process moves them."""
        async with self._database.as_writer() as session:
            mine = await session.fetchrow(TRY_TO_MOVE, tenant_id)
            held = await session.fetchrow(HOLD_TIERS, [tenant_id])
            if mine is None or not mine["is_mine"] or held is None:
                return None
            tier = Tier(held["tier"])
            kept_since = self._retention[tier].since(None, now)
            span = await session.fetchrow(NEXT_TO_MOVE, tenant_id, tier.value, BITE)
            if span is None:
                await session.execute(HAS_MOVED, tenant_id, since)
                return None
            is_kept = kept_since is None or span["last"] >= kept_since
            if is_kept:
                await session.execute(ENSURE_PARTITION, tier.value, span["first"].date())
            query = MOVE if is_kept else DROP
            place = (span["first"], span["last"], span["last_id"])
            status = await session.execute(query, tenant_id, tier.value, *place)
        return int(status.split()[-1])
