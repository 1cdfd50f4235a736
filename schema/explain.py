"""What a question would read, told without reading it."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import strawberry
from strawberry import Info

from core.permissions import Permission
from query.answer import moment
from query.engine import Explained
from resolvers.context import Context
from resolvers.series import explain_series
from schema.guarded import shown_to
from schema.metrics import IntervalType, MetricQuery, SourceType


@shown_to(Permission.METRICS_READ)
@strawberry.type(description="What would be read of one store for one metric.")
class PlannedRead:
    metric: str = strawberry.field(description="The metric's key.")
    source: SourceType = strawberry.field(description="The store.")  # type: ignore[valid-type]
    from_: datetime = strawberry.field(name="from", description="The first moment that is read of it.")
    to: datetime = strawberry.field(description="The end of the last, exclusive.")
    spans: int = strawberry.field(
        description="In how many separate spans: whole buckets come from a coarse store, what remains at their ends "
        "from a finer one."
    )
    estimated_rows: float = strawberry.field(description="Stored rows, as the database expects.")
    estimated_cost: float = strawberry.field(
        description="In the database's own units; a page that is read one after the other is 1."
    )


@shown_to(Permission.METRICS_READ)
@strawberry.type(description="How a question would be answered.")
class QueryPlan:
    from_: datetime = strawberry.field(name="from", description="The first bucket's start.")
    to: datetime = strawberry.field(description="The last bucket's end.")
    interval: IntervalType = strawberry.field(description="The interval, AUTO resolved.")  # type: ignore[valid-type]
    buckets: int = strawberry.field(description="How many there are.")
    estimated_rows: float = strawberry.field(description="Stored rows over all reads.")
    estimated_cost: float = strawberry.field(description="The cost of all reads.")
    reads: list[PlannedRead] = strawberry.field(
        description="What would be read: of each metric, and of the time it is compared to."
    )


async def resolve_explain(info: Info[Context, None], query: MetricQuery) -> Any:
    """A question's plan."""
    return plan_of(await explain_series(info.context, query.to_domain()))


def plan_of(explained: list[Explained]) -> QueryPlan:
    """Plans of a question as one."""
    buckets = explained[0].plan.buckets
    reads = [
        PlannedRead(
            metric=part.plan.definition.key, source=cost.source, from_=moment(cost.start), to=moment(cost.end),
            spans=cost.spans, estimated_rows=cost.rows, estimated_cost=cost.cost,
        )
        for part in explained
        for cost in part.costs
    ]  # fmt: skip
    return QueryPlan(
        from_=moment(buckets.edges[0]), to=moment(buckets.edges[-1]), interval=buckets.interval,
        buckets=len(buckets.starts), estimated_rows=sum(read.estimated_rows for read in reads),
        estimated_cost=sum(read.estimated_cost for read in reads), reads=reads,
    )  # fmt: skip
