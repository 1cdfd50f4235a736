"""The schema: roots put together, and its text."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import strawberry
from strawberry.extensions import SchemaExtension
from strawberry.schema.config import StrawberryConfig

from core.permissions import Permission
from resolvers.nodes import resolve_node, resolve_nodes
from schema.api_keys import ApiKey, ApiKeyMutations
from schema.audit import AuditEntry, AuditMutations
from schema.costs import Costs, costs_of
from schema.dead_letters import DeadLetter, DeadLetterMutations
from schema.described import describe_arguments
from schema.events import Event
from schema.explain import QueryPlan, resolve_explain
from schema.funnel import Funnel, resolve_funnel
from schema.guarded import guarded
from schema.ingest import IngestMutations
from schema.invitations import Invitation, InvitationMutations
from schema.jobs import Job, JobMutations
from schema.members import Member, MemberMutations
from schema.metric_definitions import Metric, MetricMutations
from schema.metrics import Breakdown, MetricSeries, resolve_breakdown, resolve_series
from schema.node import Node
from schema.paths import Paths, resolve_paths
from schema.people import PersonMutations
from schema.prepare import PREPARED
from schema.questions import QuestionMutations, SavedQuestion
from schema.scalars import SCALARS
from schema.sessions import Session, SessionMutations
from schema.shared import SharedObject, SharedQuestion, resolve_shared_object, resolve_shared_question
from schema.shares import ShareLink, ShareMutations
from schema.sign_in import SignInConnection, SignInIdentity, SignInMutations
from schema.subscription import Subscription
from schema.tenants import Tenant, TenantMutations, Viewer, resolve_tenant, resolve_viewer
from schema.visitor_retention import Retention, resolve_retention
from schema.visitor_sessions import Sessions, resolve_sessions


@strawberry.type(description="What may be read.")
class Query:
    viewer: Viewer = guarded(Permission.IDENTITY_READ, "Who asks.", resolver=resolve_viewer)
    tenant: Tenant = guarded(Permission.TENANT_READ, "The caller's tenant.", resolver=resolve_tenant)
    node: Node | None = guarded(
        Permission.IDENTITY_READ,
        "An object by its global id; null where there is none that the caller may read.",
        resolver=resolve_node,
    )
    nodes: list[Node | None] = guarded(
        Permission.IDENTITY_READ, "Objects by their global ids, as `node` gives one.", resolver=resolve_nodes
    )
    series: MetricSeries = guarded(Permission.METRICS_READ, "A metric over time.", cost=10, resolver=resolve_series)
    breakdown: Breakdown = guarded(
        Permission.METRICS_READ,
        "A metric by dimension, ranked, over the whole range.",
        cost=10,
        resolver=resolve_breakdown,
    )
    explain: QueryPlan = guarded(
        Permission.METRICS_READ,
        "What a question would read, and what that is expected to cost; it is not asked.",
        cost=10,
        resolver=resolve_explain,
    )
    funnel: Funnel = guarded(
        Permission.METRICS_READ,
        "How many visitors go through some steps, and how long it takes them.",
        cost=10,
        resolver=resolve_funnel,
    )
    retention: Retention = guarded(
        Permission.METRICS_READ,
        "Which part of the visitors of a period came back in later ones.",
        cost=10,
        resolver=resolve_retention,
    )
    paths: Paths = guarded(
        Permission.METRICS_READ,
        "Which steps follow or lead to another, level by level.",
        cost=10,
        resolver=resolve_paths,
    )
    sessions: Sessions = guarded(
        Permission.METRICS_READ,
        "What sessions of visitors amount to.",
        cost=10,
        resolver=resolve_sessions,
    )
    shared_object: SharedObject = guarded(
        Permission.SHARED_READ, "What the caller's share link shows.", resolver=resolve_shared_object
    )
    shared_question: SharedQuestion | None = guarded(
        Permission.SHARED_READ,
        "The same where it is a saved question; else null.",
        resolver=resolve_shared_question,
    )


# One class of mutations a topic, each in its topic's module.
@strawberry.type(description="What may be changed.")
class Mutation(
    IngestMutations,
    DeadLetterMutations,
    PersonMutations,
    SessionMutations,
    ApiKeyMutations,
    TenantMutations,
    MetricMutations,
    QuestionMutations,
    ShareMutations,
    MemberMutations,
    InvitationMutations,
    AuditMutations,
    JobMutations,
    SignInMutations,
):
    pass


class QuietSchema(strawberry.Schema):
    """The doors log what is worth a line, masked; the stock logger writes every refusal with its source text."""

    def process_errors(self, errors: object, execution_context: object = None) -> None:
        return None


class AsPrepared(SchemaExtension):
    """Executes a document as the doors have prepared it: parsed and validated once, with bounds, in a cache of their
    own. What is executed without (in tests) goes the schema's own way."""

    def on_parse(self) -> Iterator[None]:
        context = self.execution_context
        prepared = (context.operation_extensions or {}).get(PREPARED)
        if prepared is not None:
            context.graphql_document = prepared.document
            # Found valid: the executor's own validation is passed over.
            context.pre_execution_errors = []
        yield


schema = QuietSchema(
    query=Query,
    mutation=Mutation,
    subscription=Subscription,
    types=[
        Tenant,
        Metric,
        Event,
        DeadLetter,
        Session,
        ApiKey,
        SavedQuestion,
        ShareLink,
        SharedQuestion,
        Member,
        Invitation,
        AuditEntry,
        Job,
        SignInConnection,
        SignInIdentity,
    ],
    config=StrawberryConfig(scalar_map=SCALARS, disable_field_suggestions=True),
    extensions=[AsPrepared],
)

describe_arguments(schema._schema)

COSTS: Costs = costs_of(schema)


if __name__ == "__main__":
    sys.stdout.write(schema.as_str() + "\n")
