"""What is past its time goes: events by dropping their partitions, rollups row by row, in bites that hurt nobody.

`daily_usage` stays for ever. Several workers may do this at once; each thing goes once.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from uuid import UUID

from core.database import Database
from core.outcomes import Outcome
from core.queries import Query, named
from core.retention import Retention
from core.rollups import DIMENSIONS, TOTAL, Resolution
from core.tenancy import Tier
from pipeline.metric_writer import TABLES as METRIC_TABLES
from pipeline.rollup_writer import TABLES

log = logging.getLogger(__name__)

DROP_PARTITIONS = named("retention", "drop_partitions")
LIST_TENANTS = named("retention", "list_tenants")
FORGET_ROLLUPS = {r: named("retention", "forget_rollups").filled(table=TABLES[r]) for r in Resolution}
COUNT_TABLES = {Resolution.MINUTE: "ingest_1m", Resolution.HOUR: "ingest_1h"}
FORGET_COUNTS = {
    r: named("ingest_counts", "forget_ingest_counts").filled(table=named("series", table).text)
    for r, table in COUNT_TABLES.items()
}
FORGET_METRICS = {r: named("backfills", "forget_metric_cells").filled(table=METRIC_TABLES[r]) for r in Resolution}
FORGET_ENDED = {r: named("backfills", "forget_ended_versions").filled(table=METRIC_TABLES[r]) for r in Resolution}
# A question that began before a version ended has had its answer.
ENDED = timedelta(hours=1)
BITE = 5_000


class RetentionKeeper:
    """Drops what no tier keeps any more."""

    def __init__(self, database: Database, retention: Retention) -> None:
        self._database = database
        self._retention = retention

    async def drop_old(self, now: datetime | None = None) -> list[str]:
        """The partitions that went.

        Raises:
            DatabaseUnavailable: it is away, or a reader held a partition; what went before that is gone.
        """
        now = now or datetime.now(UTC)
        dropped = []
        for tier in Tier:
            before = self._retention[tier].dropped_before(None, now)
            if before is None:
                continue
            async with self._database.as_writer() as session:
                rows = await session.fetch(DROP_PARTITIONS, tier.value, before)
            dropped += [row["name"] for row in rows]
        if dropped:
            log.info("old events dropped", extra={"action": "drop_events", "partitions": dropped})
        return dropped

    async def forget_rollups(self, now: datetime | None = None) -> int:
        """How many rollup rows went."""
        now = now or datetime.now(UTC)
        gone = 0
        for tier, tenants in (await self._tenants()).items():
            for resolution in Resolution:
                before = self._retention[tier].dropped_before(resolution, now)
                if before is not None:
                    gone += await self._forget(resolution, tenants, before)
        if gone:
            log.info("old rollups dropped", extra={"action": "drop_rollups", "rows": gone})
        return gone

    async def forget_metrics(self, now: datetime | None = None) -> int:
        """How many cells of tenants' own metrics went: past their time, or of versions that ended."""
        now = now or datetime.now(UTC)
        gone, by_tier = 0, await self._tenants()
        for resolution in Resolution:
            for tier, tenants in by_tier.items():
                before = self._retention[tier].dropped_before(resolution, now)
                if before is not None:
                    gone += await self._bite_off(FORGET_METRICS[resolution], before, BITE, tenants)
            gone += await self._bite_off(FORGET_ENDED[resolution], now - ENDED, BITE)
        if gone:
            log.info("old cells of metrics dropped", extra={"action": "drop_rollups", "rows": gone})
        return gone

    async def _tenants(self) -> dict[Tier, list[UUID]]:
        async with self._database.as_writer() as session:
            rows = await session.fetch(LIST_TENANTS)
        by_tier: defaultdict[Tier, list[UUID]] = defaultdict(list)
        for row in rows:
            by_tier[Tier(row["tier"])].append(row["id"])
        return by_tier

    async def _forget(self, resolution: Resolution, tenants: list[UUID], before: datetime) -> int:
        gone = await self._bite_off(FORGET_ROLLUPS[resolution], tenants, [TOTAL, *DIMENSIONS], before, BITE)
        if resolution in FORGET_COUNTS:
            gone += await self._bite_off(FORGET_COUNTS[resolution], tenants, list(Outcome), before, BITE)
        return gone

    async def _bite_off(self, query: Query, *arguments: object) -> int:
        gone = 0
        while True:
            async with self._database.as_writer() as session:
                status = await session.execute(query, *arguments)
            gone += (count := int(status.split()[-1]))
            if count < BITE:
                return gone
