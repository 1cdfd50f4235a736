"""The tenant, its limits and usage, and who asks."""

from __future__ import annotations

from datetime import date, datetime
from typing import Annotated, Any, cast

import strawberry
from strawberry import Info

from core.permissions import Permission
from core.tenancy import PrincipalKind, Tier
from core.tenancy import Tenant as TenantRow
from resolvers.api_keys import list_api_keys
from resolvers.audit import list_audit
from resolvers.context import Context
from resolvers.dead_letters import list_dead_letters
from resolvers.discovery import discovery_of, list_properties, list_top_values
from resolvers.events import list_events
from resolvers.global_ids import global_id
from resolvers.invitations import list_invitations
from resolvers.jobs import page_of_jobs
from resolvers.members import list_members
from resolvers.metrics import find_metric_by_key, list_metrics
from resolvers.people import list_own_tenants, viewer_person
from resolvers.questions import find_question, list_questions
from resolvers.sessions import list_own_sessions
from resolvers.sign_in import list_sign_in_connections
from resolvers.tenants import update_tenant
from resolvers.usage import month_usage, usage_by_day
from resolvers.visitor_sessions import list_visitor_sessions
from schema.api_keys import ApiKey
from schema.audit import AuditEntry, AuditFilter
from schema.dead_letters import DeadLetter
from schema.described import enum_of
from schema.discovery import EventTypes, FieldName, PropertySample, SampleRange, TopValues
from schema.events import Event, EventFilter
from schema.guarded import guarded, mutation, shown_to
from schema.invitations import Invitation
from schema.jobs import Job
from schema.members import Member
from schema.metric_definitions import Metric
from schema.node import Connection, Node
from schema.people import Person, TenantMembership
from schema.questions import SavedQuestion, wanted_of
from schema.roles import RoleType
from schema.sessions import Session
from schema.sign_in import SignInConnection
from schema.usage import DayUsage, Usage
from schema.visitor_sessions import SessionsQuery, VisitorSession

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
    ends_at: datetime | None = strawberry.field(
        description="When its rows go, if it is to be deleted; until then `restoreTenant` takes that back."
    )

    @guarded(Permission.TENANT_READ, "What was counted in a month; this one when none is named.")
    async def usage(self, info: Info[Context, None], month: str | None = None) -> Usage:
        return cast(Usage, await month_usage(info.context, cast(TenantRow, self), month))

    @guarded(Permission.TENANT_READ, "What was counted each day, up to 366 of them; `to` is exclusive.")
    async def usage_by_day(
        self,
        info: Info[Context, None],
        from_: Annotated[date, strawberry.argument(name="from", description="The first day, in UTC.")],
        to: Annotated[date, strawberry.argument(description="The day after the last.")],
        key_id: Annotated[str | None, strawberry.argument(description="Of one key alone, such as key_4mz….")] = None,
    ) -> list[DayUsage]:
        return cast("list[DayUsage]", await usage_by_day(info.context, from_, to, key_id))

    @guarded(Permission.KEYS_READ, "Its API keys, newest first; those that ended too.")
    async def api_keys(
        self, info: Info[Context, None], first: int | None = None, after: str | None = None
    ) -> Connection[ApiKey]:
        return cast(Connection[ApiKey], await list_api_keys(info.context, first, after))

    @guarded(Permission.METRICS_READ, "One metric by its key, archived or not.")
    async def metric(
        self,
        info: Info[Context, None],
        key: Annotated[str, strawberry.argument(description='Such as "requests"; `metrics` lists them.')],
    ) -> Metric | None:
        return cast("Metric | None", await find_metric_by_key(info.context, key))

    @guarded(Permission.METRICS_READ, "Its metrics, built in and its own, by key.")
    async def metrics(
        self,
        info: Info[Context, None],
        first: Annotated[int | None, strawberry.argument(description="How many, 1 to 100; 100 when absent.")] = None,
        after: str | None = None,
        search: str | None = None,
        archived: Annotated[
            bool, strawberry.argument(description="Those that are archived, instead of those that are not.")
        ] = False,
    ) -> Connection[Metric]:
        page = await list_metrics(info.context, first, after, search, is_archived=archived)
        return cast(Connection[Metric], page)

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

    @guarded(
        Permission.EVENTS_READ,
        "Sessions of its visitors, the last to begin first. Each page reads the whole range.",
        cost=10,
    )
    async def visitor_sessions(
        self, info: Info[Context, None], query: SessionsQuery, first: int | None = None, after: str | None = None
    ) -> Connection[VisitorSession]:
        page = await list_visitor_sessions(info.context, query.to_domain(), first, after)
        return cast(Connection[VisitorSession], page)

    @guarded(Permission.EVENTS_READ, "Which properties its recent events have, read from a sample of them.", cost=10)
    async def event_properties(
        self,
        info: Info[Context, None],
        search: str | None = None,
        types: EventTypes = None,
        range: SampleRange = None,
        first: int | None = None,
    ) -> PropertySample:
        question = discovery_of(range.to_domain() if range else None, types, search, first)
        return cast(PropertySample, await list_properties(info.context, question))

    @guarded(
        Permission.EVENTS_READ,
        "The commonest values of a dimension, of all events, or of a property, of a sample of recent ones.",
        cost=10,
    )
    async def top_values(
        self,
        info: Info[Context, None],
        field: FieldName,
        search: str | None = None,
        types: EventTypes = None,
        range: SampleRange = None,
        first: int | None = None,
    ) -> TopValues:
        question = discovery_of(range.to_domain() if range else None, types, search, first)
        return cast(TopValues, await list_top_values(info.context, field, question))

    @guarded(Permission.QUESTIONS_READ, "One saved question that the caller may see, by its global id; else an error.")
    async def question(self, info: Info[Context, None], id: strawberry.ID) -> SavedQuestion:
        return cast(SavedQuestion, await find_question(info.context, id))

    @guarded(
        Permission.QUESTIONS_READ,
        "Its saved questions that the caller may see, newest first. `search` stands in the name or description, "
        "whatever its case; `tag` is one of the tags. With `deleted`, those of the last 30 days that the caller may "
        "restore.",
    )
    async def questions(
        self,
        info: Info[Context, None],
        search: str | None = None,
        tag: str | None = None,
        deleted: bool = False,
        first: int | None = None,
        after: str | None = None,
    ) -> Connection[SavedQuestion]:
        page = await list_questions(info.context, wanted_of(search, tag, deleted), first, after)
        return cast(Connection[SavedQuestion], page)

    @guarded(Permission.DEAD_LETTERS_READ, "Its records that no worker could process, newest first.")
    async def dead_letters(
        self, info: Info[Context, None], first: int | None = None, after: str | None = None
    ) -> Connection[DeadLetter]:
        return cast(Connection[DeadLetter], await list_dead_letters(info.context, first, after))

    @guarded(Permission.AUDIT_READ, "Its audit trail, newest first.")
    async def audit_log(
        self,
        info: Info[Context, None],
        filter: AuditFilter | None = None,
        first: int | None = None,
        after: str | None = None,
    ) -> Connection[AuditEntry]:
        page = await list_audit(info.context, (filter or AuditFilter()).to_domain(), first, after)
        return cast(Connection[AuditEntry], page)

    @guarded(Permission.EXPORTS_WRITE, "Its jobs, newest first.")
    async def jobs(
        self, info: Info[Context, None], first: int | None = None, after: str | None = None
    ) -> Connection[Job]:
        return cast(Connection[Job], await page_of_jobs(info.context, first, after))

    @guarded(Permission.SIGN_IN_WRITE, "Its own identity providers, oldest first.")
    async def sign_in_connections(
        self, info: Info[Context, None], first: int | None = None, after: str | None = None
    ) -> Connection[SignInConnection]:
        return cast(Connection[SignInConnection], await list_sign_in_connections(info.context, first, after))

    @guarded(Permission.MEMBERS_READ, "Its members, who is there longest first; `search` is a part of the name.")
    async def members(
        self,
        info: Info[Context, None],
        first: int | None = None,
        after: str | None = None,
        search: str | None = None,
    ) -> Connection[Member]:
        return cast(Connection[Member], await list_members(info.context, first, after, search))

    @guarded(
        Permission.MEMBERS_WRITE,
        "Its invitations, newest first: those that wait for an answer; with `hasEnded` also the others.",
    )
    async def invitations(
        self,
        info: Info[Context, None],
        first: int | None = None,
        after: str | None = None,
        has_ended: bool = False,
    ) -> Connection[Invitation]:
        return cast(Connection[Invitation], await list_invitations(info.context, first, after, has_ended))

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


@strawberry.input(description="What of the tenant changes.")
class UpdateTenantInput:
    name: str = strawberry.field(description="Its name for people, 1 to 200 characters.")


@shown_to(Permission.TENANT_WRITE)
@strawberry.type(description="The tenant as it is now; other requests see it within 5 seconds.")
class UpdateTenantPayload:
    tenant: Tenant = strawberry.field(description="The tenant.")


async def resolve_update_tenant(info: Info[Context, None], input: UpdateTenantInput) -> UpdateTenantPayload:
    """Changes the tenant."""
    return UpdateTenantPayload(tenant=cast(Tenant, await update_tenant(info.context, input.name)))


@strawberry.type
class TenantMutations:
    update_tenant = mutation(
        Permission.TENANT_WRITE, resolve_update_tenant, UpdateTenantPayload, "Changes the tenant's name."
    )
