"""A tenant's raw events follow it to the storage class of its tier: bite by bite, oldest first.

While they do, some stand in one class and some in another, and each in exactly one: a bite leaves and arrives in one
statement, what is new goes to the new class alone (the tier is held by whoever counts), and who counts looks for known
events in every class. So a tier may change at any time, even while the last change is still under way.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from uuid import UUID

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
        """How many events went to where they belong, or were dropped since their tier keeps none so old."""
        async with self._database.as_writer() as session:
            waiting = await session.fetch(LIST_MOVING)
        moved = 0
        for row in waiting:
            tenant_id, count = row["id"], 0
            while (bite := await self._bite(tenant_id, row["moving_since"], now or datetime.now(UTC))) is not None:
                count += bite
            moved += count
            if count:
                log.info("events moved", extra={"action": "move_events", "tenant": str(tenant_id), "events": count})
        return moved

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
            if span is None or span["first"] is None:
                await session.execute(HAS_MOVED, tenant_id, since)
                return None
            is_kept = kept_since is None or span["last"] >= kept_since
            if is_kept:
                await session.execute(ENSURE_PARTITION, tier.value, span["first"].date())
            query = MOVE if is_kept else DROP
            status = await session.execute(query, tenant_id, tier.value, span["first"], span["last"])
        return int(status.split()[-1])
