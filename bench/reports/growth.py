"""How costs grow: with tenants, and with events that are stored already. One worker process, as in P1, but unpinned."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import asyncpg

from bench.case import Size
from bench.cases.pipeline import Line, open_ours
from bench.reports.report import Length, Report, Say
from bench.servers import Servers, open_servers

STEPS = (1, 10, 100, 1_000)
STORED = (10_000, 100_000, 1_000_000, 10_000_000)
DAYS = 20
AT_ONCE = 500_000

# Rows as the workers write them, spread evenly over twenty days, with their ids in the ledger for those of a week.
ADD_ROWS = """
WITH added AS (
    INSERT INTO events (tenant_id, retention_class, ts, id, received_at, type, key_id, visitor, session, session_id,
        user_id, anonymous_id, page_path, referrer_host, country, device, browser, os, method, status, duration_ms,
        bytes, is_bot, details)
    SELECT $1, 'self_hosted', $2::timestamptz - $3 * interval '1 day' * (n::float8 / $5), gen_random_uuid(),
        $2, 'page_view', 'bench', n % 400000, n % 800000, 's' || n % 800000, 'u' || n % 400000, '', '/p/' || n % 200,
        'r' || n % 24 || '.example', 'DE', 'desktop', 'Firefox', 'Linux', '', NULL, NULL, NULL, false,
        '{"properties": {"title": "One of the pages of our summer sale", "cart": 3}, "context": {"locale": "en-GB"}}'
    FROM generate_series($4::bigint, $4::bigint + $6 - 1) AS n
    RETURNING tenant_id, id, ts
)
INSERT INTO event_ids SELECT tenant_id, id, ts::date FROM added WHERE ts > $2::timestamptz - interval '7 days'
"""


async def run(length: Length, say: Say) -> dict[str, Any]:
    return {
        "tenants": await _by_tenants(length, say),
        "stored": await _alone(length, say),
    }


async def _by_tenants(length: Length, say: Say) -> list[dict[str, Any]]:
    lines = []
    for tenants in (step for step in STEPS if step <= length.tenants):
        async with (
            open_servers() as servers,
            open_ours(servers, Size(events=length.counted_events), tenants=tenants) as line,
        ):
            lines.append(await _measured(servers, line, say, tenants=tenants))
    return lines


async def _alone(length: Length, say: Say) -> list[dict[str, Any]]:
    async with open_servers() as servers:
        return await by_stored(servers, length, say)


async def by_stored(servers: Servers, length: Length, say: Say) -> list[dict[str, Any]]:
    """Counting beside more and more stored events of another tenant."""
    lines, stored = [], 0
    async with open_ours(servers, Size(events=length.counted_events)) as line:
        looking = await asyncpg.connect(servers.database_url)
        tenant, _ = await servers.tenant()
        now = datetime.now(UTC)
        await looking.execute(
            "SELECT maintenance.ensure_event_partition('self_hosted', d::date) "
            "FROM generate_series(now() - interval '21 days', now() + interval '1 day', interval '1 day') d"
        )
        for wanted in (step for step in STORED if step <= length.stored_events):
            while stored < wanted:
                count = min(AT_ONCE, wanted - stored)
                await looking.execute(ADD_ROWS, tenant.id, now, DAYS, stored, max(length.stored_events, 1), count)
                stored += count
            await looking.execute("ANALYZE events, event_ids")
            size = await looking.fetchval("SELECT pg_database_size(current_database())")
            lines.append(await _measured(servers, line, say, stored=wanted, database_bytes=size))
        await looking.close()
    return lines


async def _measured(servers: Servers, line: Line, say: Say, **about: int) -> dict[str, Any]:
    """The better of two rounds: a first one may make partitions and plans."""
    samples = [await line.measure() for _ in range(2)]
    best = max(samples, key=lambda sample: sample.rate)
    memory = {running.name: running.memory_bytes() for running in (line.worker, *servers.beside)}
    told = ", ".join(f"{name} {value:,}" for name, value in about.items())
    costs = ", ".join(f"{name} {us:.0f}" for name, us in best.cpu_us.items())
    sizes = ", ".join(f"{name} {size / 2**20:,.0f}" for name, size in memory.items())
    say(f"  {told}: {best.rate:,.0f} events/s; CPU us an event: {costs}; memory MiB: {sizes}")
    return {**about, "rate": best.rate, "cpu_us_per_event": best.cpu_us, "memory_bytes": memory}


GROWTH = Report("growth", "events a second with more tenants, and with more events stored", run)
