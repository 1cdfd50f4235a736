"""Reads a plan's parts: one statement a store, all in one transaction; and asks what that would cost."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import asyncpg

from core.database import Database
from core.errors import BadInput
from core.queries import named
from core.tenancy import TenantId
from query.parts import Parts, PartsRow
from query.planner import Plan, Source
from query.question import bad
from query.statements import MAX_ROWS, MAX_VALUES, Statement, statements_of

EXPLAINED = named("series", "explained")
MAX_GROUPS = 10_000


@dataclass(frozen=True, slots=True)
class SourceRead:
    """What was read of one store."""

    source: Source
    rows: int


@dataclass(frozen=True, slots=True)
class SourceCost:
    """What is expected of one store: stored rows that are read, the database's own cost units, and in how many separate
    spans of [start, end), in epoch seconds."""

    source: Source
    rows: int
    cost: float
    spans: int
    start: int
    end: int


async def read_parts(database: Database, tenant_id: TenantId, plan: Plan) -> tuple[list[PartsRow], list[SourceRead]]:
    """Rows of (slot, labels, parts), and how many stored rows they were made of, by store.

    Raises:
        BadInput: there is too much of it, or it took too long; says what to narrow.
        DatabaseUnavailable: it is away.
    """
    rows: list[PartsRow] = []
    reads: list[SourceRead] = []
    try:
        async with database.as_tenant(tenant_id) as session:
            for statement in statements_of(plan):
                found = await session.fetch(statement.query, *statement.arguments)
                some = [_parts_row(row, is_raw=statement.source is Source.RAW) for row in found]
                reads.append(SourceRead(statement.source, sum(row.rows for row in some)))
                _check_size(statement, len(some), reads[-1].rows)
                rows += some
    except asyncpg.QueryCanceledError:
        raise too_slow() from None
    _check_groups(plan, rows)
    return rows, reads


async def expected_costs(database: Database, tenant_id: TenantId, plan: Plan) -> list[SourceCost]:
    """What the database expects of a plan's statements, none of which is run. Raises as `read_parts`."""
    costs = []
    async with database.as_tenant(tenant_id) as session:
        for statement in statements_of(plan):
            explained = EXPLAINED.filled(statement=statement.query.text)
            row = await session.fetchrow(explained, *statement.arguments)
            node: dict[str, Any] = json.loads(row[0])[0]["Plan"] if row is not None else {}
            rows, cost = round(_rows_of(node)), float(node.get("Total Cost", 0))
            start, end = statement.pieces[0].start, max(piece.end for piece in statement.pieces)
            costs.append(SourceCost(statement.source, rows, cost, len(statement.pieces), start, end))
    return costs


def too_slow() -> BadInput:
    return bad(
        "query_too_slow",
        "range",
        "The question took more than 10 s. Take a shorter range or a longer interval; group and filter by one "
        "dimension, or by those of a metric's `combinations`, which rollups answer. `explain` tells what it reads.",
    )


def _check_size(statement: Statement, rows: int, stored: int) -> None:
    if rows > MAX_ROWS:
        raise bad(
            "too_many_series",
            "groupBy",
            f"The question gives more than {MAX_ROWS} values before they are ranked. Group by fewer dimensions, filter "
            "them, or take a longer interval or a shorter range.",
        )
    if statement.is_bounded and stored > MAX_VALUES:
        raise bad(
            "too_many_values",
            "range",
            f"The question would count the values of more than {MAX_VALUES} events one by one. Take a shorter range, "
            "or group and filter by one dimension, or by those of a metric's `combinations`, which rollups answer.",
        )


def _check_groups(plan: Plan, rows: Sequence[PartsRow]) -> None:
    groups = len({row.labels for row in rows})
    if groups > MAX_GROUPS:
        raise bad(
            "too_many_series",
            "groupBy",
            f"{', '.join(plan.question.group_by)} have {groups} groups in this range; at most {MAX_GROUPS} are ranked. "
            "Group by fewer dimensions, filter them, or take a shorter range.",
        )


def _parts_row(row: Any, *, is_raw: bool) -> PartsRow:
    collected = row["collected"]
    parts = Parts(
        count=row["count"],
        matched=row["matched"],
        sum=row["sum"],
        least=row["least"],
        most=row["most"],
        sketches=list(collected) if collected and not is_raw else [],
        exact=[collected] if collected and is_raw else [],
    )
    return PartsRow(row["slot"], tuple(row["labels"]), parts, row["rows"], row["is_overflow"])


def _rows_of(node: dict[str, Any]) -> float:
    """The rows that a plan's scans are expected to give, as often as each is made."""
    inner = node.get("Plans", [])
    if not inner:
        return float(node.get("Plan Rows", 0)) if "Relation Name" in node else 0.0
    if node.get("Node Type") == "Nested Loop" and len(inner) == 2:
        outer, looped = inner
        return _rows_of(outer) + max(1.0, float(outer.get("Plan Rows", 1))) * _rows_of(looped)
    return sum(_rows_of(child) for child in inner)
