"""A plan's statements: one for each store, its text put together from `sql/` alone, its values parameters."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from core.filters import NUMERIC_OPS, PROPERTY_PREFIX, DimensionFilter, FilterOp
from core.metric_cells import MAX_DIMENSION_LENGTH
from core.metric_definitions import EventAggregate
from core.metrics import MetricKind, Part
from core.queries import Query, named
from core.rollups import Resolution
from query.conditions import Values, matches, number_of, text_of
from query.pieces import Piece
from query.planner import SOURCES, Plan, Source

# What one statement may give: more is refused, not cut.
MAX_ROWS = 200_000
# Of uniques and percentiles over raw events the values themselves are taken out.
MAX_VALUES = 2_000_000
TEXTS = 5
SKETCH_COLUMNS = {Part.VISITORS: "visitors", Part.SESSIONS: "sessions", Part.DURATIONS: "durations"}
KINDS_OF_VALUES = (MetricKind.UNIQUE, MetricKind.PERCENTILE)
KINDS_OF_NUMBERS = (MetricKind.SUM, MetricKind.AVG, MetricKind.MIN, MetricKind.MAX, MetricKind.PERCENTILE)


@dataclass(frozen=True, slots=True)
class Statement:
    """What is asked of one store; `is_bounded`: its `rows` may be cut off at MAX_VALUES."""

    source: Source
    pieces: tuple[Piece, ...]
    query: Query
    arguments: tuple[object, ...]
    is_bounded: bool


def statements_of(plan: Plan) -> list[Statement]:
    """The statements of a plan, the coarsest store first."""
    by_store: dict[Resolution | None, list[Piece]] = {}
    for piece in plan.pieces:
        by_store.setdefault(piece.resolution, []).append(piece)
    return [_statement(plan, resolution, tuple(pieces)) for resolution, pieces in by_store.items()]


def _statement(plan: Plan, resolution: Resolution | None, pieces: tuple[Piece, ...]) -> Statement:
    values = Values(TEXTS)
    query, more = (
        _from_raw(plan, pieces, values) if resolution is None else _from_stored(plan, resolution, pieces, values)
    )
    spans = [_moments([piece.start for piece in pieces]), _moments([piece.end for piece in pieces])]
    arguments = (_moments(plan.buckets.edges), *spans, plan.bots, values.texts, *more, MAX_ROWS + 1)
    is_bounded = resolution is None and plan.definition.kind in KINDS_OF_VALUES
    return Statement(SOURCES[resolution], pieces, query, arguments, is_bounded)


def _moments(seconds: object) -> list[datetime]:
    return [datetime.fromtimestamp(second, UTC) for second in seconds]  # type: ignore[attr-defined]


def _from_stored(
    plan: Plan, resolution: Resolution, pieces: tuple[Piece, ...], values: Values
) -> tuple[Query, list[object]]:
    """Of a rollup, and the parameters it has beside those of all."""
    definition = plan.definition
    conditions = [_stored_condition(plan, condition, values) for condition in plan.question.filters]
    parts = {
        "labels": _text("labels_of", columns=", ".join(_stored_column(plan, name) for name in plan.question.group_by)),
        "overflow": _text("overflow_of") if plan.dimension else _text("never"),
        "conditions": " AND ".join([*conditions, _condition("everything")]),
        "collected": _sketches(plan),
    }
    if definition.outcome is not None:
        query = _text_query("from_ingest", f"ingest_{resolution.value}", "bucket", pieces, parts)
        return query, [definition.outcome.value]
    if definition.defined is not None:
        query = _text_query("from_metric", f"metric_{resolution.value}", "bucket", pieces, parts)
        return query, [definition.defined.id, plan.dimension]
    query = _text_query("from_rollup", f"rollup_{resolution.value}", "bucket", pieces, parts)
    return query, [plan.dimension, _types(plan)]


def _from_raw(plan: Plan, pieces: tuple[Piece, ...], values: Values) -> tuple[Query, list[object]]:
    """Of raw events, and the parameters it has beside those of all."""
    kind, aggregate = plan.definition.kind, _aggregate(plan)
    columns = ", ".join(_raw_column(name, values) for name in plan.question.group_by)
    conditions = [_held(f, _raw_column(f.dimension, values), number_of(f.dimension, values), values)
                  for f in plan.question.filters]  # fmt: skip
    if aggregate is not None:
        conditions.append(matches(aggregate.filter, values))
    has_numbers = kind in KINDS_OF_NUMBERS or (kind is MetricKind.RATE and aggregate is not None
                                               and aggregate.property is not None)  # fmt: skip
    adds = kind in (MetricKind.SUM, MetricKind.AVG, MetricKind.RATE) and has_numbers
    query = _text_query("from_raw", "events", "ts", pieces, {
        "labels": _text("labels_of", columns=columns),
        "number": _number(plan, aggregate, values) if has_numbers else _text("no_number"),
        "is_matched": _matched(plan, aggregate, values),
        "single": _single(plan, aggregate, values) if kind is MetricKind.UNIQUE else _text("no_single"),
        "conditions": " AND ".join([*conditions, _condition("everything")]),
        "bound": _text("bound_values", most=str(MAX_VALUES + 1)) if kind in KINDS_OF_VALUES else "",
        "matched": _text("count_matched" if kind is MetricKind.RATIO else "count_numbers" if has_numbers
                         else "zero_count"),
        "sum": _text("sum_of_numbers" if adds else "zero_sum"),
        "least": _text("least_number" if kind is MetricKind.MIN else "no_extreme"),
        "most": _text("greatest_number" if kind is MetricKind.MAX else "no_extreme"),
        "collected": _text({MetricKind.UNIQUE: "singles", MetricKind.PERCENTILE: "numbers"}.get(kind, "no_sketches")),
    })  # fmt: skip
    return query, [_types(plan)]


def _text_query(name: str, table: str, at: str, pieces: tuple[Piece, ...], parts: dict[str, str]) -> Query:
    """A statement with its parts put in."""
    one = len(pieces) == 1
    stored = _text("one_piece" if one else "many_pieces", table=_text(table))
    within = _text("within_one" if one else "within_many", at=_text(f"at_{at}"))
    return named("series", name).filled(stored=stored, within=within, **parts)


def _aggregate(plan: Plan) -> EventAggregate | None:
    return plan.definition.defined.aggregate if plan.definition.defined is not None else None


def _types(plan: Plan) -> list[str] | None:
    types = plan.definition.event_types
    return list(types) if types is not None else None


def _sketches(plan: Plan) -> str:
    kind = plan.definition.kind
    if kind not in KINDS_OF_VALUES:
        return _text("no_sketches")
    if plan.definition.part is Part.DEFINED:
        return _text("sketches_of", column="uniques" if kind is MetricKind.UNIQUE else "quantiles")
    return _text("sketches_of", column=SKETCH_COLUMNS[plan.definition.part])


def _number(plan: Plan, aggregate: EventAggregate | None, values: Values) -> str:
    """What sums, means, extremes and percentiles take of an event."""
    if aggregate is None:
        return _text("column_bytes" if plan.definition.part is Part.BYTES else "column_duration")
    return _text("counted_number", number=number_of(aggregate.property or "", values))


def _matched(plan: Plan, aggregate: EventAggregate | None, values: Values) -> str:
    if aggregate is not None and aggregate.matching is not None:
        return matches(aggregate.matching, values)
    return _text("is_error" if plan.definition.part is Part.ERRORS else "never")


def _single(plan: Plan, aggregate: EventAggregate | None, values: Values) -> str:
    """What uniques tell apart."""
    if aggregate is None:
        return _text(f"column_{'visitor' if plan.definition.part is Part.VISITORS else 'session'}")
    if aggregate.property in ("visitor", "session"):
        return _text(f"column_{aggregate.property}")
    return _text("not_empty", text=text_of(aggregate.property or "", values))


def _raw_column(name: str, values: Values) -> str:
    text = text_of(name, values)
    # As the values of rollups are cut.
    return _text("shortened", text=text, length=str(MAX_DIMENSION_LENGTH)) if name.startswith(PROPERTY_PREFIX) else text


def _stored_column(plan: Plan, name: str) -> str:
    if plan.definition.outcome is not None:
        return _text("column_reason" if name == "reason" else "column_key")
    if name == "type" and plan.definition.defined is None:
        return _text("column_type")
    parts = plan.parts_of_dimension
    return _text("column_value") if len(parts) == 1 else _text("column_of_value", index=str(parts.index(name)))


def _stored_condition(plan: Plan, condition: DimensionFilter, values: Values) -> str:
    column = _stored_column(plan, condition.dimension)
    held = _held(condition, column, _text("status_number", text=column), values)
    # What had no room in its hour is read too, to tell of it.
    return _text("or_overflow", conditions=held) if condition.dimension in plan.parts_of_dimension else held


def _held(condition: DimensionFilter, text: str, number: str, values: Values) -> str:
    """A condition on an expression."""
    template = named("conditions", f"condition_{condition.op.value.lower()}").text
    if condition.op in NUMERIC_OPS:
        return template.format(number=number, value=values.one(condition.values[0]))
    if condition.op in (FilterOp.IN, FilterOp.NOT_IN):
        return template.format(text=text, values=values.many(condition.values))
    return template.format(text=text, value=values.one(condition.values[0]))


def _condition(name: str) -> str:
    return named("conditions", name).text


def _text(name: str, **parts: str) -> str:
    """A fragment with its parts put in."""
    text = named("series", name).text
    return text.format(**parts) if parts else text
