"""A screen of 12 charts, each of the last 1,440 minutes, and the rows that it is read from."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg

POINTS = 1440
# Days that are there: a cold screen asks for another day's range each time.
DAYS = 4
COUNTRIES = ("DE", "FR", "GB", "US")
# A name for each chart, its metric, and one condition.
WIDGETS: tuple[tuple[str, str, tuple[str, str] | None], ...] = (
    ("events", "events", None),
    ("views", "pageviews", None),
    ("requests", "requests", None),
    ("bytes", "bytes_sent", None),
    ("failing", "error_rate", None),
    ("bots", "bot_events", None),
    ("german", "events", ("country", "DE")),
    ("french", "events", ("country", "FR")),
    ("british_views", "pageviews", ("country", "GB")),
    ("american_views", "pageviews", ("country", "US")),
    ("german_requests", "requests", ("country", "DE")),
    ("french_bytes", "bytes_sent", ("country", "FR")),
)
FIELDS = "columns interval from to source freshUntil isComplete"
DOCUMENT = (
    "query Screen("
    + ", ".join(f"${name}: MetricQuery!" for name, _, _ in WIDGETS)
    + ") { "
    + " ".join(f"{name}: series(query: ${name}) {{ {FIELDS} }}" for name, _, _ in WIDGETS)
    + " }"
)
# Totals of two types of events, people and bots, and each of four countries alone, as the workers keep them.
FILL = """
INSERT INTO rollup_1m
SELECT $1, cell.dimension, minute, type, cell.value, is_bot, 0,
    cell.share * (100 + extract(minute FROM minute)::bigint), cell.share * (extract(minute FROM minute)::bigint % 5),
    CASE WHEN type = 'http_request' THEN cell.share * 50000 + extract(minute FROM minute)::bigint ELSE 0 END,
    0, 0, NULL, NULL, '', '', ''
FROM generate_series($2::timestamptz, $3::timestamptz, interval '1 minute') minute,
    (VALUES ('page_view'), ('http_request')) AS types(type), (VALUES (false), (true)) AS bots(is_bot),
    (VALUES ('', '', 4), ('country', 'DE', 1), ('country', 'FR', 1), ('country', 'GB', 1), ('country', 'US', 1))
        AS cell(dimension, value, share)
"""


async def fill(database_url: str, tenant_id: UUID) -> None:
    """Some days of minutes up to now, past row security."""
    now = datetime.now(UTC).replace(second=0, microsecond=0)
    connection = await asyncpg.connect(database_url)
    try:
        await connection.execute(FILL, tenant_id, now - timedelta(days=DAYS), now)
        await connection.execute("VACUUM ANALYZE rollup_1m")
    finally:
        await connection.close()


def variables(range: dict[str, str]) -> dict[str, Any]:
    """The questions of the screen over a range."""
    return {
        name: {
            "metric": metric,
            "range": range,
            "interval": "MINUTE",
            "filters": [{"dimension": where[0], "op": "EQ", "values": [where[1]]}] if where else [],
        }
        for name, metric, where in WIDGETS
    }


def last_day() -> dict[str, str]:
    """1,440 buckets up to the open one."""
    return {"last": f"{POINTS - 1}m"}


def closed_day(number: int) -> dict[str, str]:
    """1,440 closed buckets, others for each number (below 1,440 times 2)."""
    end = datetime.now(UTC).replace(second=0, microsecond=0) - timedelta(minutes=5 + number)
    return {"from": (end - timedelta(minutes=POINTS)).isoformat(), "to": end.isoformat()}


def post(path: str, body: dict[str, Any], token: str = "") -> bytes:
    """A whole HTTP request."""
    text = json.dumps(body, separators=(",", ":")).encode()
    bearer = f"Authorization: Bearer {token}\r\n" if token else ""
    head = f"POST {path} HTTP/1.1\r\nHost: bench\r\n{bearer}Content-Type: application/json\r\n"
    return f"{head}Content-Length: {len(text)}\r\n\r\n".encode() + text


def request(range: dict[str, str], token: str) -> bytes:
    """The screen asked of ours."""
    return post("/graphql", {"query": DOCUMENT, "variables": variables(range)}, token)
