"""Events of a month that are there already: made by PostgreSQL itself, some at a time, as the workers would store them.

Ten events a visitor, hours to days apart, of four types that follow each other as often as chance has it. The same
number gives the same events but for their ids.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

import asyncpg

DAYS = 30
EACH = 10
AT_ONCE = 500_000
STEPS = ("page_view", "add_to_cart", "checkout", "purchase")

PARTITIONS = """
SELECT maintenance.ensure_event_partition('self_hosted', d::date)
FROM generate_series($1::timestamptz - interval '1 day', $2::timestamptz + interval '1 day', interval '1 day') d
"""
# Chance is a hash of the number. A visitor's n-th event is up to four days after the one before; what would be after
# the month is at its beginning.
ADD = """
INSERT INTO events (tenant_id, retention_class, ts, id, received_at, type, key_id, visitor, session, session_id,
    user_id, anonymous_id, page_path, referrer_host, country, device, browser, os, method, status, duration_ms,
    bytes, is_bot, details)
SELECT $1, 'self_hosted', $2::timestamptz + ((start + gap) % $3) * interval '1 microsecond', gen_random_uuid(), $2,
    (ARRAY['page_view', 'page_view', 'page_view', 'add_to_cart', 'add_to_cart', 'checkout', 'purchase'])[1 + pick % 7],
    'bench', visitor, visitor * 4 + nth / 3, '', 'u' || visitor, '', '/p/' || pick % 200, 'r' || pick % 24,
    (ARRAY['DE', 'FR', 'GB', 'US'])[1 + visitor % 4], 'desktop', 'Firefox', 'Linux', '', NULL, NULL, NULL, false, '{}'
FROM (
    SELECT n / $4 AS visitor, n % $4 AS nth, abs(hashint8(n)::bigint) AS pick,
        abs(hashint8extended(n / $4, 1)) % $3 AS start,
        (n % $4) * (abs(hashint8extended(n, 2)) % 345600000000) AS gap
    FROM generate_series($5::bigint, $6::bigint - 1) AS n
) AS made
"""
ROLL_UP = """
INSERT INTO rollup_1h
SELECT tenant_id, '', date_trunc('hour', ts), type, '', is_bot, 0, count(*), 0, 0, 0, 0, NULL, NULL, '', '', ''
FROM events WHERE tenant_id = $1 GROUP BY 1, 3, 4, 6
"""


@dataclass(frozen=True, slots=True)
class Month:
    """What is stored: whose, from when to when, how many events of how many visitors."""

    tenant_id: UUID
    start: datetime
    end: datetime
    events: int
    visitors: int


async def store(database_url: str, tenant_id: UUID, events: int) -> Month:
    """Stores them and their hourly totals, past row security."""
    end = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    start = end - timedelta(days=DAYS)
    length = DAYS * 86_400 * 1_000_000
    connection = await asyncpg.connect(database_url)
    try:
        await connection.execute(PARTITIONS, start, end)
        for at in range(0, events, AT_ONCE):
            upto = min(events, at + AT_ONCE)
            await connection.execute(ADD, tenant_id, start, length, EACH, at, upto, timeout=600)
        await connection.execute(ROLL_UP, tenant_id, timeout=600)
        await connection.execute("VACUUM ANALYZE events")
        await connection.execute("VACUUM ANALYZE rollup_1h")
    finally:
        await connection.close()
    return Month(tenant_id, start, end, events, events // EACH)
