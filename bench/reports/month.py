"""Q4: a month by the hour, over many stored events: the engine as it answers, and the same by SQL over raw events."""

from __future__ import annotations

import statistics
import time
from typing import Any

import asyncpg

from bench.reports.report import Length, Report, Say
from bench.servers import open_servers
from bench.stored import DAYS, Month, store
from core.database import Database
from core.metric_catalog import MetricCatalog
from core.retention import Retention
from core.tenancy import Tenant
from query.engine import QueryEngine
from query.question import Interval, MetricQuestion

TIMES = 20
RAW_TIMES = 5
RAW = """
SELECT date_trunc('hour', ts) AS hour, count(*) FROM events
WHERE tenant_id = $1 AND ts >= $2 AND ts < $3 AND NOT is_bot GROUP BY 1 ORDER BY 1
"""


async def run(length: Length, say: Say) -> dict[str, Any]:
    async with open_servers(with_kafka=False) as servers:
        tenant, _ = await servers.tenant()
        month = await store(servers.database_url, tenant.id, length.stored_events)
        database = Database(servers.settings, pool_size=2)
        looking = await asyncpg.connect(servers.database_url)
        try:
            engine = QueryEngine(database, MetricCatalog(database), Retention.of(servers.settings), _until(month))
            ours, counted = await _ours(engine, tenant, month)
            raw, known = await _raw(looking, month)
        finally:
            await looking.close()
            await database.close()
    if counted != known:
        raise RuntimeError(f"ours counts {counted} events, the raw events are {known}")
    found = {
        "events": month.events, "ours_ms": statistics.median(ours), "ours_worst_ms": max(ours),
        "raw_ms": statistics.median(raw), "raw_worst_ms": max(raw),
    }  # fmt: skip
    say(
        f"  {month.events:,} events, {DAYS} days by hour: ours {found['ours_ms']:.1f} ms (worst {max(ours):.1f}), "
        f"SQL over raw events {found['raw_ms']:,.0f} ms (worst {max(raw):,.0f}); both count {known:,}"
    )
    return found


def _until(month: Month) -> Any:
    async def fresh_until() -> Any:
        return month.end

    return fresh_until


async def _ours(engine: QueryEngine, tenant: Tenant, month: Month) -> tuple[list[float], int]:
    """Milliseconds of each answer, which nothing keeps, and what they count."""
    question = MetricQuestion(metric="events", from_=month.start, to=month.end, interval=Interval.HOUR)
    times, total = [], 0
    for _ in range(TIMES):
        started = time.perf_counter()
        answer = await engine.answer(tenant, question)
        times.append((time.perf_counter() - started) * 1000)
        total = int(answer.columns.series[0].total or 0)
    return times, total


async def _raw(looking: asyncpg.Connection, month: Month) -> tuple[list[float], int]:
    times, total = [], 0
    for _ in range(RAW_TIMES):
        started = time.perf_counter()
        rows = await looking.fetch(RAW, month.tenant_id, month.start, month.end, timeout=600)
        times.append((time.perf_counter() - started) * 1000)
        total = sum(row["count"] for row in rows)
    return times, total


Q4 = Report("Q4", "a month by the hour over stored events: the engine, and SQL over raw events", run)
