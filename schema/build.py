"""The schema: roots put together, and its text."""

from __future__ import annotations

import sys

import strawberry
from strawberry.extensions import ParserCache, ValidationCache
from strawberry.schema.config import StrawberryConfig

from resolvers.nodes import resolve_node, resolve_nodes
from schema.dead_letters import (
    DeadLetter,
    DropDeadLetterResult,
    ReplayDeadLetterResult,
    resolve_drop_dead_letter,
    resolve_replay_dead_letter,
)
from schema.events import Event
from schema.metrics import Breakdown, Metric, MetricSeries, resolve_breakdown, resolve_series
from schema.mutation import IngestEventsResult, resolve_ingest_events
from schema.node import Node
from schema.prepare import CACHE_ENTRIES
from schema.scalars import SCALARS
from schema.subscription import Subscription
from schema.tenants import Tenant, Viewer, resolve_tenant, resolve_viewer


@strawberry.type(description="What may be read.")
class Query:
    viewer: Viewer = strawberry.field(resolver=resolve_viewer, description="Who asks.")
    tenant: Tenant = strawberry.field(resolver=resolve_tenant, description="The caller's tenant.")
    node: Node | None = strawberry.field(resolver=resolve_node, description="An object by its global id.")
    nodes: list[Node | None] = strawberry.field(resolver=resolve_nodes, description="Objects by their global ids.")
    series: MetricSeries = strawberry.field(resolver=resolve_series, description="A metric over time.")
    breakdown: Breakdown = strawberry.field(
        resolver=resolve_breakdown, description="A metric by dimension, ranked, over the whole range."
    )


@strawberry.type(description="What may be changed.")
class Mutation:
    ingest_events: IngestEventsResult = strawberry.field(
        resolver=resolve_ingest_events, description="Takes events, as `POST /v1/events` does."
    )
    replay_dead_letter: ReplayDeadLetterResult = strawberry.field(
        resolver=resolve_replay_dead_letter, description="Sends a record that was put aside on its way again."
    )
    drop_dead_letter: DropDeadLetterResult = strawberry.field(
        resolver=resolve_drop_dead_letter, description="Ends a record that was put aside; its events never count."
    )


class QuietSchema(strawberry.Schema):
    """The doors log what is worth a line, masked; the stock logger writes every refusal with its source text."""

    def process_errors(self, errors: object, execution_context: object = None) -> None:
        return None


schema = QuietSchema(
    query=Query,
    mutation=Mutation,
    subscription=Subscription,
    types=[Tenant, Metric, Event, DeadLetter],
    config=StrawberryConfig(scalar_map=SCALARS, disable_field_suggestions=True),
    extensions=[lambda: ParserCache(maxsize=CACHE_ENTRIES), lambda: ValidationCache(maxsize=CACHE_ENTRIES)],
)


if __name__ == "__main__":
    sys.stdout.write(schema.as_str() + "\n")
