"""What is stored, read past row security, which is forced on its owner too."""

from __future__ import annotations

from dataclasses import dataclass

from core.database import as_owner
from core.queries import parse_blocks
from core.tenancy import Tenant

COUNTS = parse_blocks(
    """-- counts(tenant_id)
-- What is stored of a tenant.
SELECT (SELECT count(*) FROM events WHERE tenant_id = $1) AS events,
    (SELECT coalesce(sum(count), 0) FROM rollup_1m WHERE tenant_id = $1 AND dimension = '')::int AS minutes,
    (SELECT coalesce(sum(count), 0) FROM rollup_5m WHERE tenant_id = $1 AND dimension = '')::int AS fives,
    (SELECT coalesce(sum(count), 0) FROM rollup_1h WHERE tenant_id = $1 AND dimension = 'status')::int AS hours,
    (SELECT coalesce(sum(accepted), 0) FROM daily_usage WHERE tenant_id = $1)::int AS accepted,
    (SELECT coalesce(sum(duplicates), 0) FROM daily_usage WHERE tenant_id = $1)::int AS duplicates,
    (SELECT count(*) FROM event_ids WHERE tenant_id = $1) AS ids;

-- dead(tenant_id)
-- A tenant's dead letters.
SELECT * FROM dead_letters WHERE tenant_id = $1;
""",
    "test",
)


@dataclass(frozen=True)
class Stored:
    """Looks at the tables as a superuser."""

    url: str

    async def counts(self, tenant: Tenant) -> dict[str, int]:
        async with as_owner(self.url) as connection:
            return dict(await connection.fetchrow(COUNTS["counts"].text, tenant.id))

    async def dead(self, tenant: Tenant) -> int:
        async with as_owner(self.url) as connection:
            return len(await connection.fetch(COUNTS["dead"].text, tenant.id))
