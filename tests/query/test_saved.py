"""What is saved of a question is what the API takes, and means the same when it is asked again."""

from __future__ import annotations

import dataclasses
import json
from datetime import UTC, datetime
from typing import Any

import pytest

from core.errors import BadInput
from core.filters import DimensionFilter, EventFilter, FilterOp
from core.metric_definitions import EventAggregate
from core.metrics import BUILT_IN, MetricKind
from query.question import AdHocAggregate, Alignment, Comparison, Interval, MetricQuestion
from query.saved import as_json, check_saved, read_filters, read_query, write_filters, write_query
from schema.build import schema

NOW = datetime(2026, 1, 15, 12, 0, tzinfo=UTC)
FULL = MetricQuestion(
    metric="request_duration",
    from_=datetime(2026, 1, 1, tzinfo=UTC),
    to=datetime(2026, 1, 2, 0, 0, 0, 500_000, tzinfo=UTC),
    interval=Interval.HOUR,
    timezone="Europe/Berlin",
    filters=(
        DimensionFilter("status", FilterOp.GTE, ("400",)),
        DimensionFilter("country", FilterOp.NOT_IN, ("DE", 'a"\\b')),
    ),
    group_by=("method", "country"),
    limit=7,
    include_bots=True,
    percentiles=(50.0, 99.9),
    compare_to=Comparison.PREVIOUS_YEAR,
    alignment=Alignment.WEEKDAY,
    min_last_bucket=0.25,
)
SEVERAL = MetricQuestion(metrics=("events", "visitors"), last="24h")
AD_HOC = MetricQuestion(
    aggregate=AdHocAggregate(
        MetricKind.RATIO,
        EventAggregate(
            filter=EventFilter(("order",), (DimensionFilter("properties.plan", FilterOp.EQ, ("pro",)),)),
            matching=EventFilter(None, (DimensionFilter("properties.paid", FilterOp.EQ, ("true",)),)),
        ),
    ),
    last="24h",
)
RATE = MetricQuestion(
    aggregate=AdHocAggregate(MetricKind.RATE, EventAggregate(property="properties.amount", rate_seconds=1)), last="24h"
)
SHORT = MetricQuestion(metric="events", last="24h")


@pytest.mark.parametrize("question", [FULL, SHORT, SEVERAL, AD_HOC, RATE])
def test_a_question_comes_back_as_it_was_saved(question: MetricQuestion) -> None:
    assert read_query(write_query(question)) == question
    assert read_filters(write_filters(question.filters)) == question.filters


def test_every_part_of_a_question_is_saved() -> None:
    """A field that is added to a question and not to its saved form fails here."""
    for field in dataclasses.fields(MetricQuestion):
        # How a saved question is ranked or compared is asked anew each time.
        if field.name not in ("last", "is_whole", "groups"):
            told = [getattr(question, field.name) for question in (FULL, SEVERAL, AD_HOC)]
            assert any(value != field.default for value in told), f"this test says nothing of {field.name}"


@pytest.mark.parametrize("question", [FULL, SHORT, SEVERAL, AD_HOC, RATE])
def test_what_is_saved_is_what_the_api_takes(question: MetricQuestion) -> None:
    """Sent as the variable of a `MetricQuery`, it is the same question."""
    found: list[MetricQuestion] = []
    given = as_json(question)
    assert json.loads(write_query(question)) == json.loads(json.dumps(given, default=str))
    text = "query($q: MetricQuery!) { series(query: $q) { columns } }"
    from graphql import GraphQLInputObjectType, coerce_input_value  # noqa: PLC0415

    kind = schema._schema.type_map["MetricQuery"]
    assert isinstance(kind, GraphQLInputObjectType) and text
    found.append(converted(coerce_input_value(json.loads(json.dumps(given, default=str)), kind)))
    assert found == [question]


def converted(value: Any) -> MetricQuestion:
    """What the resolver of `series` is given for a coerced input."""
    from strawberry.types.arguments import convert_argument  # noqa: PLC0415

    from schema.metrics import MetricQuery  # noqa: PLC0415

    query: MetricQuery = convert_argument(value, MetricQuery, schema.schema_converter.scalar_registry, schema.config)
    return query.to_domain()


@pytest.mark.parametrize(
    "text",
    ["{}", "[]", "1", "null", "", '{"metric": 1, "range": {}}', '{"metric": "events", "range": {}, "new": 1}',
     '{"metric": "events", "range": {"last": "1h"}, "interval": "CENTURY"}'],
)  # fmt: skip
def test_what_no_version_saved_is_told_and_raises_nothing_else(text: str) -> None:
    with pytest.raises(BadInput) as refusal:
        read_query(text)
    assert refusal.value.code == "query_no_longer_fits"


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"metric": "nonsense"}, "unknown_metric"),
        ({"last": "24x"}, "bad_range"),
        ({"last": None}, "bad_range"),
        ({"group_by": ("nonsense",)}, "unknown_dimension"),
        ({"timezone": "Mars/Olympus"}, "unknown_timezone"),
        ({"last": "5000w", "interval": Interval.MINUTE}, "range_too_large"),
    ],
)
def test_a_question_that_could_not_be_asked_is_not_saved(changes: dict[str, Any], code: str) -> None:
    check_saved(SHORT, BUILT_IN, NOW)
    with pytest.raises(BadInput) as refusal:
        check_saved(dataclasses.replace(SHORT, **changes), BUILT_IN, NOW)
    assert refusal.value.code == code
