"""Q5: a funnel of four steps and weekly retention over a month of stored events: the best single SQL, and DuckDB on
the same rows. Both have the whole machine; loading DuckDB is not counted."""

from __future__ import annotations

import asyncio
import statistics
import time
from pathlib import Path
from typing import Any

import asyncpg
import duckdb

from bench.reports.report import Length, Report, Say
from bench.servers import open_servers
from bench.stored import STEPS, Month, store

TIMES = 5
WINDOW = "interval '7 days'"
ROWS = "SELECT visitor, ts, type FROM events WHERE tenant_id = $1"
IN_POSTGRES = "tenant_id = '{tenant}' AND ts >= '{start}' AND ts < '{end}'"
IN_DUCKDB = "ts >= '{start}' AND ts < '{end}'"


def funnel_sql(where: str) -> str:
    """How many visitors reach each step within the window of the first: the latest start is the best one to have, so
    a running maximum of starts carries it from step to step. One sort, one pass, no join."""
    over = "OVER (PARTITION BY visitor ORDER BY ts ROWS UNBOUNDED PRECEDING)"
    names = ", ".join(f"'{step}'" for step in STEPS)
    parts = [
        f"e AS (SELECT visitor, ts, type FROM events WHERE {where} AND type IN ({names}))",
        f"s1 AS (SELECT visitor, ts, type, max(ts) FILTER (WHERE type = '{STEPS[0]}') {over} AS s1 FROM e)",
    ]
    for n in range(2, len(STEPS) + 1):
        kept = ", ".join(f"s{k}" for k in range(1, n))
        reached = f"type = '{STEPS[n - 1]}' AND ts - s{n - 1} <= {WINDOW}"
        parts.append(
            f"s{n} AS (SELECT visitor, ts, type, {kept}, max(s{n - 1}) FILTER (WHERE {reached}) {over} AS s{n} "
            f"FROM s{n - 1})"
        )
    last = len(STEPS)
    reach = ", ".join(f"max(s{k}) AS s{k}" for k in range(1, last + 1))
    counts = ", ".join(f"count(s{k})" for k in range(1, last + 1))
    return f"WITH {', '.join(parts)} SELECT {counts} FROM (SELECT visitor, {reach} FROM s{last} GROUP BY visitor) AS v"


def retention_sql(where: str) -> str:
    """How many visitors of each first week come in each week from then on."""
    return f"""
        WITH active AS (SELECT visitor, date_trunc('week', ts) AS week FROM events WHERE {where} GROUP BY 1, 2),
        since AS (SELECT week, min(week) OVER (PARTITION BY visitor) AS first FROM active)
        SELECT first, week, count(*) FROM since GROUP BY 1, 2 ORDER BY 1, 2
    """


async def run(length: Length, say: Say) -> dict[str, Any]:
    found: dict[str, Any] = {}
    async with open_servers(with_kafka=False) as servers:
        tenant, _ = await servers.tenant()
        month = await store(servers.database_url, tenant.id, length.stored_events)
        looking = await asyncpg.connect(servers.database_url)
        try:
            rows = servers.folder / "events.tsv"
            await _write(looking, month, rows)
            duck = await asyncio.to_thread(_loaded, rows, servers.folder / "events.duckdb")
            for name, sql in (("funnel", funnel_sql), ("retention", retention_sql)):
                asked = sql(_where(IN_POSTGRES, month)), sql(_where(IN_DUCKDB, month))
                found[name] = await _compared(looking, duck, *asked)
                told = ", ".join(f"{side} {ms:,.0f} ms" for side, ms in found[name].items())
                say(f"  {name} over {month.events:,} events of {month.visitors:,} visitors: {told}")
            duck.close()
        finally:
            await looking.close()
    return {"events": month.events, "visitors": month.visitors, **found}


def _where(text: str, month: Month) -> str:
    return text.format(tenant=month.tenant_id, start=month.start.isoformat(), end=month.end.isoformat())


async def _write(looking: asyncpg.Connection, month: Month, path: Path) -> None:
    await looking.copy_from_query(ROWS, month.tenant_id, output=path, timeout=600)


def _loaded(rows: Path, path: Path) -> Any:
    duck = duckdb.connect(str(path))
    duck.execute("SET TimeZone = 'UTC'")
    duck.execute("CREATE TABLE events (visitor BIGINT, ts TIMESTAMPTZ, type VARCHAR)")
    duck.execute(f"COPY events FROM '{rows}' (DELIMITER '\t', HEADER false)")
    return duck


async def _compared(looking: asyncpg.Connection, duck: Any, in_postgres: str, in_duckdb: str) -> dict[str, float]:
    """Median milliseconds of each, in turn; they say the same."""
    times: dict[str, list[float]] = {"postgres": [], "duckdb": []}
    for _ in range(TIMES):
        started = time.perf_counter()
        said = [tuple(row) for row in await looking.fetch(in_postgres, timeout=600)]
        times["postgres"].append((time.perf_counter() - started) * 1000)
        started = time.perf_counter()
        also = await asyncio.to_thread(lambda: duck.execute(in_duckdb).fetchall())
        times["duckdb"].append((time.perf_counter() - started) * 1000)
        if _counts(said) != _counts(also):
            raise RuntimeError(f"they differ: {said[:3]} and {also[:3]}")
    return {side: statistics.median(taken) for side, taken in times.items()}


def _counts(rows: list[tuple[Any, ...]]) -> list[list[int]]:
    return [[value for value in row if isinstance(value, int)] for row in rows]


Q5 = Report("Q5", "funnel of four steps and weekly retention: the best single SQL, and DuckDB", run)
