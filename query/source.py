"""Reads a plan's parts from rollups or raw events: one statement, its text put together from `sql/` alone."""

from __future__ import annotations

from datetime import UTC, datetime

import asyncpg
import msgspec

from core.database import Database
from core.errors import BadInput
from core.filters import DimensionFilter
from core.metrics import Part
from core.queries import Query, named
from core.tenancy import TenantId
from query.parts import Parts, PartsRow
from query.planner import Plan

FROM_ROLLUP = named("series", "from_rollup")
FROM_RAW = named("series", "from_raw")
FROM_INGEST = named("series", "from_ingest")
LABELS = named("series", "labels_of")
SKETCH_PARTS = (Part.VISITORS, Part.SESSIONS, Part.DURATIONS)


async def read_parts(database: Database, tenant_id: TenantId, plan: Plan) -> list[PartsRow]:
    """Rows of (slot, labels, parts).

    Raises:
        BadInput: the database gave up after 10 s; says what to narrow.
        DatabaseUnavailable: it is away.
    """
    question = plan.question
    edges = [datetime.fromtimestamp(edge, UTC) for edge in plan.buckets.edges]
    filters = msgspec.json.encode([list(f.values) for f in question.filters]).decode()
    types = plan.definition.event_types
    part = plan.definition.outcome or plan.dimension
    try:
        async with database.as_tenant(tenant_id) as session:
            rows = await session.fetch(
                statement(plan), edges, edges[0], edges[-1], part,
                list(types) if types is not None else None, plan.bots, filters,
            )  # fmt: skip
    except asyncpg.QueryCanceledError:
        raise BadInput(
            f"The question took more than 10 s from {plan.source.value}. Take a shorter range, or group and filter by "
            "one dimension, which rollups answer.",
            code="query_too_slow",
            field="range",
        ) from None
    make = Parts.of_raw if plan.resolution is None else Parts.of_rollup
    return [
        PartsRow(
            row["slot"],
            tuple(row["labels"]),
            make(row["count"], row["errors"], int(row["bytes"]), row["sketches"]),
            row["rows"],
        )
        for row in rows
    ]


def statement(plan: Plan) -> Query:
    """The statement of a plan."""
    columns = ", ".join(_column(plan, dimension) for dimension in plan.question.group_by)
    conditions = "\n".join(_condition(plan, n, f) for n, f in enumerate(plan.question.filters))
    parts = {
        "labels": LABELS.text.format(columns=columns),
        "sketches": _sketches(plan),
        "conditions": conditions,
    }
    if plan.resolution is None:
        return FROM_RAW.filled(**parts)
    if plan.definition.outcome is not None:
        return FROM_INGEST.filled(table=named("series", f"ingest_{plan.resolution.value}").text, **parts)
    return FROM_ROLLUP.filled(table=named("series", f"table_{plan.resolution.value}").text, **parts)


def _sketches(plan: Plan) -> str:
    if plan.definition.part not in SKETCH_PARTS:
        return named("series", "no_sketches").text
    place = "raw" if plan.resolution is None else "rollup"
    return named("series", f"{place}_{plan.definition.part.value}").text


def _column(plan: Plan, dimension: str) -> str:
    if dimension in ("type", "reason", "key"):
        return named("series", f"column_{dimension}").text
    if plan.resolution is not None:
        return named("series", "column_value").text
    if dimension == "status":
        return named("series", "column_status").text
    return named("series", "column_of").text.format(name=dimension)


def _condition(plan: Plan, index: int, condition: DimensionFilter) -> str:
    template = named("series", f"condition_{condition.op.value.lower()}").text
    return template.format(column=_column(plan, condition.dimension), index=index)
