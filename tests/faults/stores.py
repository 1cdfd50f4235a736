"""What the stores hold of one tenant, read past every proxy and past row security."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import httpx2

from cloudmetrics.data_folder import DataFolder
from core.database import as_owner
from core.hot import HotSets
from core.rollups import HOT_SECONDS
from core.sketches import union_of
from tests.faults.expected import LENGTHS, Cell, Slot

RAW = """
SELECT id, (extract(epoch FROM ts) * 1000)::bigint AS ms, type, is_bot, user_id, session_id, status, method, bytes,
    duration_ms, details->'properties'->>'n' AS n
FROM events WHERE tenant_id = $1
"""
CELLS = """
SELECT dimension, extract(epoch FROM bucket)::bigint AS bucket, type, value, is_bot, sum(count)::bigint AS count,
    sum(errors)::bigint AS errors, sum(bytes)::bigint AS bytes, sum(duration_count)::bigint AS duration_count,
    sum(duration_sum)::float8 AS duration_sum, array_agg(visitors) AS visitors, array_agg(sessions) AS sessions
FROM {table} WHERE tenant_id = $1 GROUP BY dimension, bucket, type, value, is_bot
"""
USAGE = "SELECT coalesce(sum(accepted), 0)::bigint FROM daily_usage WHERE tenant_id = $1"
COUNTS = {
    table: f"SELECT coalesce(sum(count), 0)::bigint FROM {table} WHERE tenant_id = $1 AND outcome = 'accepted'"
    for table in ("ingest_1m", "ingest_1h")
}
SERIES = "query($q: MetricQuery!) { series(query: $q) { columns source } }"
# A minute at the very edge of the day may be dropped while it is looked at.
EDGE_SECONDS = 180


@dataclass(slots=True)
class StoredCell:
    """One cell over all of its writers; uniques are estimates."""

    count: int
    sums: dict[str, float]
    users: float
    sessions: float


@dataclass(slots=True)
class Held:
    """Everything found. `hot` is (count, errors, bytes) by slot from `hot_since` on; `answers` are GraphQL's."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    rollups: dict[str, dict[Cell, StoredCell]] = field(default_factory=dict)
    usage: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    hot: dict[Slot, tuple[int, int, int]] = field(default_factory=dict)
    hot_since: int = 0
    answers: dict[str, list[dict[str, Any]]] = field(default_factory=dict)


async def read_database(folder: DataFolder, tenant_id: UUID, held: Held) -> None:
    async with as_owner(folder.database_url("superuser")) as connection:
        held.rows = [dict(row) for row in await connection.fetch(RAW, tenant_id)]
        for table in LENGTHS:
            rows = await connection.fetch(CELLS.format(table=table), tenant_id)
            held.rollups[table] = {cell_of(row): stored_cell(row) for row in rows}
        held.usage = await connection.fetchval(USAGE, tenant_id)
        held.counts = {table: await connection.fetchval(text, tenant_id) for table, text in COUNTS.items()}


def cell_of(row: Any) -> Cell:
    return Cell(Slot(row["bucket"], row["type"], row["is_bot"]), row["dimension"], row["value"])


def stored_cell(row: Any) -> StoredCell:
    names = ("errors", "bytes", "duration_count", "duration_sum")
    users, sessions = (union_of(row[name]).estimate() for name in ("visitors", "sessions"))
    return StoredCell(row["count"], {name: row[name] for name in names}, users, sessions)


async def read_hot(redis_url: str, tenant_id: UUID, types: set[str], held: Held) -> None:
    held.hot_since = int(time.time()) - HOT_SECONDS + EDGE_SECONDS
    hot = HotSets(redis_url)
    try:
        for event_type in sorted(types):
            for value in await hot.read(tenant_id, event_type, since=held.hot_since):
                slot, summary = Slot(value.bucket, event_type, value.is_bot), value.summary
                known = held.hot.get(slot, (0, 0, 0))
                added = (summary.count, summary.errors, summary.bytes)
                held.hot[slot] = (known[0] + added[0], known[1] + added[1], known[2] + added[2])
    finally:
        await hot.close()


def ask(url: str, key: str, question: dict[str, Any]) -> list[dict[str, Any]]:
    """The series of one answer, as an integrator asks for them."""
    answer = httpx2.post(
        f"{url}/graphql", json={"query": SERIES, "variables": {"q": question}},
        headers={"Authorization": f"Bearer {key}"}, timeout=30,
    ).json()  # fmt: skip
    if "errors" in answer:
        raise RuntimeError(f"{question['metric']}: {answer['errors']}")
    series: list[dict[str, Any]] = answer["data"]["series"]["columns"]["series"]
    return series
