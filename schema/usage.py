"""What a tenant used, and what is left."""

from __future__ import annotations

from datetime import date, datetime
from typing import cast

import strawberry
from strawberry import Info

from core.api_keys import load_keys
from core.permissions import Permission
from resolvers.context import Context
from resolvers.usage import KeyUsage as KeyUsageRow
from resolvers.usage import MonthUsage, usage_by_day, usage_by_key
from schema.api_keys import ApiKey
from schema.guarded import guarded, shown_to


@shown_to(Permission.TENANT_READ)
@strawberry.type(description="A threshold of the month's quota that was reached.")
class UsageWarning:
    code: str = strawberry.field(description="quota_80_percent or quota_used_up.")
    message: str = strawberry.field(description="For people.")


@shown_to(Permission.TENANT_READ)
@strawberry.type(description="Events of one day, by receipt in UTC.")
class DayUsage:
    day: date = strawberry.field(description="Such as 2026-01-31.")
    accepted: float = strawberry.field(description="Events counted.")
    duplicates: float = strawberry.field(description="Events sent again, not counted.")


@shown_to(Permission.TENANT_READ)
@strawberry.type(description="Events of one month by one key.")
class KeyUsage:
    key_id: str = strawberry.field(description="The key's public name.")

    @guarded(Permission.KEYS_READ, "The key; null when it is gone.")
    async def api_key(self, info: Info[Context, None]) -> ApiKey | None:
        found = await info.context.loaders.of(load_keys).load(cast(KeyUsageRow, self).key_id)
        return cast("ApiKey | None", found)

    accepted: float = strawberry.field(description="Events counted.")
    duplicates: float = strawberry.field(description="Events sent again, not counted.")


@shown_to(Permission.TENANT_READ)
@strawberry.type(description="Events of one month, by receipt in UTC.")
class Usage:
    month: str = strawberry.field(description='Such as "2026-01".')
    accepted: float = strawberry.field(description="Events counted.")
    duplicates: float = strawberry.field(
        description="Events sent again that a worker knew; the metric ingest_duplicates has all."
    )
    limit: float | None = strawberry.field(description="The tier's; null is unlimited.")
    remaining: float | None = strawberry.field(
        description="Events that may still come, without those that a door has set aside. Null is unlimited."
    )
    resets_at: datetime = strawberry.field(description="When the month ends and the next begins.")
    warnings: list[UsageWarning] = strawberry.field(description="From 80 % of the limit on.")

    @guarded(Permission.TENANT_READ, "The same by key, the busiest hundred first.")
    async def by_key(self, info: Info[Context, None]) -> list[KeyUsage]:
        return cast("list[KeyUsage]", await usage_by_key(info.context, cast(MonthUsage, self)))

    @guarded(Permission.TENANT_READ, "The same by day, each day of the month.")
    async def by_day(self, info: Info[Context, None]) -> list[DayUsage]:
        month = cast(MonthUsage, self)
        return cast("list[DayUsage]", await usage_by_day(info.context, month.starts_on, month.ends_before, None))
