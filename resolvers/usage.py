"""What a tenant used of its month, by day and by key, and what is left."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from core.errors import BadInput
from core.queries import named
from core.tenancy import Tenant
from resolvers.context import Context

USAGE_OF_MONTH = named("usage", "usage_of_month")
USAGE_BY_DAY = named("usage", "usage_by_day")
USAGE_BY_KEY = named("usage", "usage_by_key")
_MONTH = re.compile(r"(20[0-9]{2})-(0[1-9]|1[0-2])")
MAX_DAYS = 366
MAX_KEYS = 100
SOFT_SHARE = 0.8


@dataclass(frozen=True, slots=True)
class UsageWarning:
    """A threshold that was reached."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class MonthUsage:
    """Events of one month, by receipt in UTC. `used` counts against the limit: counted, or in the doors' hands."""

    month: str
    starts_on: date
    ends_before: date
    accepted: float
    duplicates: float
    used: float
    limit: float | None

    @property
    def remaining(self) -> float | None:
        return None if self.limit is None else max(0.0, self.limit - self.used)

    @property
    def resets_at(self) -> datetime:
        """When the next month begins."""
        return datetime(self.ends_before.year, self.ends_before.month, 1, tzinfo=UTC)

    @property
    def warnings(self) -> list[UsageWarning]:
        if self.limit is None or self.used < SOFT_SHARE * self.limit:
            return []
        share, until = self.used / self.limit, f"{self.resets_at:%Y-%m-%d} (UTC)"
        if self.used >= self.limit:
            message = f"The month's {self.limit:.0f} events are used up: more are refused until {until}."
            return [UsageWarning("quota_used_up", f"{message} A higher tier takes more.")]
        message = f"{share:.0%} of the month's {self.limit:.0f} events are used; it starts anew at {until}."
        return [UsageWarning("quota_80_percent", message)]


@dataclass(frozen=True, slots=True)
class DayUsage:
    """Events of one day."""

    day: date
    accepted: float
    duplicates: float


@dataclass(frozen=True, slots=True)
class KeyUsage:
    """Events by one key."""

    key_id: str
    accepted: float
    duplicates: float


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
        row = await session.fetchrow(USAGE_OF_MONTH, starts_on, ends_before)
    assert row is not None
    accepted, limit = float(row["accepted"]), tenant.limits.events_per_month
    used = max(accepted, float(row["taken"]))
    limit_ = None if limit is None else float(limit)
    return MonthUsage(text, starts_on, ends_before, accepted, float(row["duplicates"]), used, limit_)


async def usage_by_key(context: Context, usage: MonthUsage) -> list[KeyUsage]:
    """A month by key, the busiest first."""
    async with context.backends.database.as_tenant(context.principal.tenant.id) as session:
        rows = await session.fetch(USAGE_BY_KEY, usage.starts_on, usage.ends_before, MAX_KEYS)
    return [KeyUsage(row["key_id"], float(row["accepted"]), float(row["duplicates"])) for row in rows]


async def usage_by_day(context: Context, from_: date, to: date, key_id: str | None) -> list[DayUsage]:
    """Each day from one to another, which is exclusive; of one key, or of all.

    Raises:
        BadInput: not 1 to 366 days.
    """
    days = (to - from_).days
    if not 1 <= days <= MAX_DAYS:
        raise BadInput(
            f"`from` to `to`, which is exclusive, must be 1 to {MAX_DAYS} days, not {days}.",
            code="bad_range",
            field="to",
        )
    async with context.backends.database.as_tenant(context.principal.tenant.id) as session:
        rows = {row["day"]: row for row in await session.fetch(USAGE_BY_DAY, from_, to, key_id)}
    found = []
    for day in (from_ + timedelta(days=n) for n in range(days)):
        row = rows.get(day)
        found.append(
            DayUsage(day, float(row["accepted"]), float(row["duplicates"])) if row else DayUsage(day, 0.0, 0.0)
        )
    return found
