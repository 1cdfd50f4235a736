"""The tenant, its limits and usage, and who asks."""

from __future__ import annotations

from datetime import datetime
from typing import Any, cast

import strawberry
from strawberry import Info

from core.metrics import BUILT_IN
from core.tenancy import Tenant as TenantRow
from core.tenancy import Tier
from resolvers.context import Context
from resolvers.dead_letters import list_dead_letters
from resolvers.events import EventPage, list_events
from resolvers.nodes import global_id
from resolvers.tenants import list_metrics, month_usage
from schema.dead_letters import DeadLetterConnection
from schema.events import EventConnection, EventFilter
from schema.metrics import Metric, MetricConnection
from schema.node import Node

TierType = strawberry.enum(Tier, description="What a tenant pays for; decides its limits.")


@strawberry.type(description="The limits of a tier; null is unlimited.")
class TierLimits:
    events_per_month: int | None = strawberry.field(description="Events counted a month.")
    retention_days: int | None = strawberry.field(description="Days that raw events are kept.")
    requests_per_minute: int | None = strawberry.field(description="Requests a minute and key.")


@strawberry.type(description="Events of one month, by receipt in UTC.")
class Usage:
    month: str = strawberry.field(description='Such as "2026-01".')
    accepted: float = strawberry.field(description="Events counted.")
    duplicates: float = strawberry.field(description="Events sent again, not counted.")
    limit: float | None = strawberry.field(description="The tier's; null is unlimited.")


@strawberry.type(description="One customer; everything else belongs to exactly one.")
class Tenant(Node):
    @strawberry.field(description="Global id.")
    def id(self) -> strawberry.ID:
        return strawberry.ID(global_id("Tenant", str(cast(TenantRow, self).id)))

    slug: str = strawberry.field(description="Its name in addresses.")
    name: str = strawberry.field(description="Its name for people.")
    tier: TierType = strawberry.field(description="Its tier.")  # type: ignore[valid-type]
    limits: TierLimits = strawberry.field(description="Its tier's limits.")
    created_at: datetime = strawberry.field(description="When it was made.")

    @strawberry.field(description="What was counted in a month; this one when none is named.")
    async def usage(self, info: Info[Context, None], month: str | None = None) -> Usage:
        return cast(Usage, await month_usage(info.context, cast(TenantRow, self), month))

    @strawberry.field(description="One metric by its key.")
    def metric(self, key: str) -> Metric | None:
        return cast("Metric | None", BUILT_IN.get(key))

    @strawberry.field(description="Its metrics, by key.")
    def metrics(
        self, first: int | None = None, after: str | None = None, search: str | None = None
    ) -> MetricConnection:
        return cast(MetricConnection, list_metrics(first, after, search))

    @strawberry.field(description="Its raw events, newest first.")
    async def events(
        self,
        info: Info[Context, None],
        filter: EventFilter | None = None,
        first: int | None = None,
        after: str | None = None,
    ) -> EventConnection:
        page: EventPage = await list_events(info.context, (filter or EventFilter()).to_domain(), first, after)
        return cast(EventConnection, page)

    @strawberry.field(description="Its records that no worker could process, newest first. Needs the scope admin.")
    async def dead_letters(
        self, info: Info[Context, None], first: int | None = None, after: str | None = None
    ) -> DeadLetterConnection:
        return cast(DeadLetterConnection, await list_dead_letters(info.context, first, after))

    @classmethod
    def is_type_of(cls, obj: object, info: object) -> bool:
        return isinstance(obj, TenantRow)


@strawberry.type(description="The state of the caller's rate limit.")
class RateLimit:
    limit: int = strawberry.field(description="Requests a minute.")
    remaining: int = strawberry.field(description="Left now.")
    reset_seconds: int = strawberry.field(description="Until it is full again.")


@strawberry.type(description="Who asks.")
class Viewer:
    actor: str = strawberry.field(description="The key's id.")
    permissions: list[str] = strawberry.field(description="Its scopes.")
    tenant: Tenant = strawberry.field(description="Whose key it is.")
    rate_limit: RateLimit | None = strawberry.field(description="Null on a socket.")


def resolve_viewer(info: Info[Context, None]) -> Any:
    """Who asks."""
    context = info.context
    allowance = context.allowance
    limit = (
        RateLimit(limit=allowance.limit, remaining=allowance.remaining, reset_seconds=allowance.reset_seconds)
        if allowance
        else None
    )
    return Viewer(
        actor=context.principal.actor,
        permissions=sorted(context.principal.scopes),
        tenant=cast(Tenant, context.principal.tenant),
        rate_limit=limit,
    )


def resolve_tenant(info: Info[Context, None]) -> Any:
    """The caller's tenant."""
    return info.context.principal.tenant
