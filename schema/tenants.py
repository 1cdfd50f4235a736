"""The tenant, its limits and usage, and who asks."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, cast

import strawberry
from strawberry import Info

from core.metrics import BUILT_IN
from core.permissions import Permission
from core.tenancy import PrincipalKind, Tier
from core.tenancy import Tenant as TenantRow
from resolvers.context import Context
from resolvers.dead_letters import list_dead_letters
from resolvers.events import list_events
from resolvers.global_ids import global_id
from resolvers.people import list_own_tenants, viewer_person
from resolvers.sessions import list_own_sessions
from resolvers.tenants import list_metrics, month_usage
from schema.dead_letters import DeadLetter
from schema.described import enum_of
from schema.events import Event, EventFilter
from schema.guarded import guarded, shown_to
from schema.metrics import Metric
from schema.node import Connection, Node
from schema.people import Person, RoleType, TenantMembership
from schema.sessions import Session

TierType = enum_of(
    Tier,
    "What a tenant pays for; decides its limits.",
    FREE="To try it: 100,000 events a month, kept 30 days.",
    PRO="For a product: 10 million events a month, kept 90 days.",
    ENTERPRISE="Unlimited events, kept a year.",
    SELF_HOSTED="On one's own machine: no limits but the operator's.",
)
PrincipalKindType = enum_of(
    PrincipalKind,
    "What kind of caller it is.",
    KEY="An API key.",
    PERSON="A member of the tenant who signed in.",
    SHARE_LINK="Whoever has a link to one shared object.",
    OPERATOR="The operator's command line.",
)


@shown_to(Permission.TENANT_READ)
@strawberry.type(description="The limits of a tier; null is unlimited.")
class TierLimits:
    events_per_month: int | None = strawberry.field(description="Events counted a month.")
    retention_days: int | None = strawberry.field(description="Days that raw events are kept.")
    requests_per_minute: int | None = strawberry.field(description="Requests a minute and key.")
    members: int | None = strawberry.field(description="Members.")
    dashboards: int | None = strawberry.field(description="Dashboards.")
    alert_rules: int | None = strawberry.field(description="Alert rules.")


@shown_to(Permission.TENANT_READ)
@strawberry.type(description="Events of one month, by receipt in UTC.")
class Usage:
    month: str = strawberry.field(description='Such as "2026-01".')
    accepted: float = strawberry.field(description="Events counted.")
    duplicates: float = strawberry.field(description="Events sent again, not counted.")
    limit: float | None = strawberry.field(description="The tier's; null is unlimited.")


@shown_to(Permission.TENANT_READ)
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

    @guarded(Permission.TENANT_READ, "What was counted in a month; this one when none is named.")
    async def usage(self, info: Info[Context, None], month: str | None = None) -> Usage:
        return cast(Usage, await month_usage(info.context, cast(TenantRow, self), month))

    @guarded(Permission.METRICS_READ, "One metric by its key.")
    def metric(
        self, key: Annotated[str, strawberry.argument(description='Such as "requests"; `metrics` lists them.')]
    ) -> Metric | None:
        return cast("Metric | None", BUILT_IN.get(key))

    @guarded(Permission.METRICS_READ, "Its metrics, by key.")
    def metrics(
        self,
        info: Info[Context, None],
        first: Annotated[int | None, strawberry.argument(description="How many, 1 to 100; all when absent.")] = None,
        after: str | None = None,
        search: str | None = None,
    ) -> Connection[Metric]:
        return cast(Connection[Metric], list_metrics(info.context, first, after, search))

    @guarded(Permission.EVENTS_READ, "Its raw events, newest first.")
    async def events(
        self,
        info: Info[Context, None],
        filter: EventFilter | None = None,
        first: int | None = None,
        after: str | None = None,
    ) -> Connection[Event]:
        page = await list_events(info.context, (filter or EventFilter()).to_domain(), first, after)
        return cast(Connection[Event], page)

    @guarded(Permission.DEAD_LETTERS_READ, "Its records that no worker could process, newest first.")
    async def dead_letters(
        self, info: Info[Context, None], first: int | None = None, after: str | None = None
    ) -> Connection[DeadLetter]:
        return cast(Connection[DeadLetter], await list_dead_letters(info.context, first, after))

    @classmethod
    def is_type_of(cls, obj: object, info: object) -> bool:
        return isinstance(obj, TenantRow)


@shown_to(Permission.IDENTITY_READ)
@strawberry.type(description="The state of the caller's rate limit.")
class RateLimit:
    limit: int = strawberry.field(description="Requests a minute.")
    remaining: int = strawberry.field(description="Left now.")
    reset_seconds: int = strawberry.field(description="Until it is full again.")


@shown_to(Permission.IDENTITY_READ)
@strawberry.type(description="Who asks.")
class Viewer:
    actor: str = strawberry.field(description="Its name in the audit trail: a key's id, or a person's.")
    kind: PrincipalKindType = strawberry.field(description="What kind of caller it is.")  # type: ignore[valid-type]
    role: RoleType | None = strawberry.field(description="A member's role; null for others.")  # type: ignore[valid-type]
    permissions: list[str] = strawberry.field(description="What it may do, such as metrics:read.")
    scopes: list[str] = strawberry.field(description="A key's scopes; empty for others.")
    rate_limit: RateLimit | None = strawberry.field(description="As the answer's `RateLimit-*` headers say.")

    @guarded(Permission.TENANT_READ, "The tenant that its requests are of.")
    def tenant(self, info: Info[Context, None]) -> Tenant:
        return cast(Tenant, info.context.principal.tenant)

    @guarded(Permission.IDENTITY_READ, "The person that asks; null for a key.")
    async def person(self, info: Info[Context, None]) -> Person | None:
        return cast("Person | None", await viewer_person(info.context))

    @guarded(Permission.IDENTITY_READ, "Where the person has signed in, the last used first; empty for a key.")
    async def sessions(
        self, info: Info[Context, None], first: int | None = None, after: str | None = None
    ) -> Connection[Session]:
        return cast(Connection[Session], await list_own_sessions(info.context, first, after))

    @guarded(Permission.IDENTITY_READ, "The tenants that the person may switch to, by slug; empty for a key.")
    async def tenants(
        self, info: Info[Context, None], first: int | None = None, after: str | None = None
    ) -> Connection[TenantMembership]:
        return cast(Connection[TenantMembership], await list_own_tenants(info.context, first, after))


def resolve_viewer(info: Info[Context, None]) -> Any:
    """Who asks."""
    context = info.context
    principal, allowance = context.principal, context.allowance
    limit = (
        RateLimit(limit=allowance.limit, remaining=allowance.remaining, reset_seconds=allowance.reset_seconds)
        if allowance
        else None
    )
    return Viewer(
        actor=principal.actor,
        kind=principal.kind,
        role=principal.role,
        permissions=sorted(principal.permissions),
        scopes=sorted(principal.scopes),
        rate_limit=limit,
    )


def resolve_tenant(info: Info[Context, None]) -> Any:
    """The caller's tenant."""
    return info.context.principal.tenant
