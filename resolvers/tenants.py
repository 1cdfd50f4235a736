"""Where a tenant's fields come from."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from core.errors import BadInput
from core.metrics import BUILT_IN, MetricDefinition
from core.queries import named
from core.tenancy import Tenant
from resolvers.context import Context
from resolvers.pages import MAX_PAGE, Page, asked

USAGE_OF_DAYS = named("events", "usage_of_days")
_MONTH = re.compile(r"(20[0-9]{2})-(0[1-9]|1[0-2])")


@dataclass(frozen=True, slots=True)
class MonthUsage:
    """Events of one month, by receipt in UTC."""

    month: str
    accepted: float
    duplicates: float
    limit: float | None


async def month_usage(context: Context, tenant: Tenant, month: str | None) -> MonthUsage:
    """What was counted in a month ("2026-01"; None is this one).

    Raises:
        BadInput: not a month.
    """
    text = month if month is not None else datetime.now(UTC).strftime("%Y-%m")
    found = _MONTH.fullmatch(text)
    if not found:
        raise BadInput('month must be of the form "2026-01".', code="bad_month", field="month")
    starts_on = date(int(found[1]), int(found[2]), 1)
    ends_before = (starts_on + timedelta(days=32)).replace(day=1)
    async with context.backends.database.as_tenant(tenant.id) as session:
        row = await session.fetchrow(USAGE_OF_DAYS, starts_on, ends_before)
    accepted, duplicates = (row["accepted"], row["duplicates"]) if row else (0, 0)
    limit = tenant.limits.events_per_month
    return MonthUsage(text, float(accepted), float(duplicates), None if limit is None else float(limit))


def list_metrics(context: Context, first: int | None, after: str | None, search: str | None) -> Page[MetricDefinition]:
    """A tenant's metrics by key, all of them unless `first` says less.

    Raises:
        BadInput: `first` or `after` cannot be used.
    """
    page = asked(context, "Metric", MAX_PAGE if first is None else first, after)
    wanted = (search or "").lower()
    found = [m for key, m in sorted(BUILT_IN.items()) if wanted in key or wanted in m.description.lower()]
    rest = [m for m in found if page.place is None or m.key > page.place]

    async def count() -> int:
        return len(found)

    return page.page(rest[: page.rows], lambda metric: metric.key, count)
