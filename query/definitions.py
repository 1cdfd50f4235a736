"""Which metric a question asks: built in, which everybody has, or one of the tenant's own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from uuid import UUID

from core.errors import BadInput
from core.metric_catalog import MetricCatalog
from core.metric_checks import Definition, checked_definition, default_unit
from core.metric_definitions import DefinedMetric
from core.metrics import BUILT_IN, EVENT_DIMENSIONS, MetricDefinition, MetricKind, Part
from core.tenancy import TenantId
from query.question import (
    MAX_METRICS,
    AdHocAggregate,
    MetricQuestion,
    bad,
    check_composed,
    check_question,
    one_of,
)

# What a tenant may ask, by key.
Metrics = Mapping[str, MetricDefinition]


AD_HOC = "aggregate"
# It has no rollups, so no version of it is ever stored.
NO_VERSION = UUID(int=0)


async def metrics_for(catalog: MetricCatalog, tenant_id: TenantId, questions: Iterable[MetricQuestion]) -> Metrics:
    """The metrics among which those of the questions are. Of built-in ones nothing is looked up: no tenant's own has
    the key of one.

    Raises:
        DatabaseUnavailable: the tenant's are not known here, and the database is away.
    """
    if all(key in BUILT_IN for question in questions for key in keys_of(question)):
        return BUILT_IN
    return (await catalog.of(tenant_id)).by_key


def keys_of(question: MetricQuestion) -> tuple[str, ...]:
    """The keys of the metrics that a question names."""
    return question.metrics or (() if question.aggregate is not None else (question.metric,))


def each_of(question: MetricQuestion) -> list[MetricQuestion]:
    """A question for each of its metrics.

    Raises:
        BadInput: it names them in two ways, one of them twice, or too many.
    """
    ways = bool(question.metric) + bool(question.metrics) + (question.aggregate is not None)
    if ways > 1:
        raise bad("bad_metric", "metric", "A question names one of metric, metrics and aggregate, not several of them.")
    if len(set(question.metrics)) != len(question.metrics) or len(question.metrics) > MAX_METRICS:
        raise bad("bad_metric", "metrics", f"metrics takes up to {MAX_METRICS} keys, each once.")
    if not question.metrics:
        return [question]
    return [replace(question, metric=key, metrics=()) for key in question.metrics]


def definition_of(question: MetricQuestion, metrics: Metrics) -> MetricDefinition:
    """The metric that is asked for; of several, the first.

    Raises:
        BadInput: there is none of that key, or the aggregate is none.
    """
    question = each_of(question)[0]
    if question.aggregate is not None:
        return ad_hoc(question.aggregate)
    if not question.metric:
        raise bad("unknown_metric", "metric", f"metric is missing; {one_of(metrics)}.")
    if question.metric not in metrics:
        raise bad("unknown_metric", "metric", f"There is no metric {question.metric[:80]!r}; {one_of(metrics)}.")
    return metrics[question.metric]


def check_asked(question: MetricQuestion, metrics: Metrics) -> None:
    """Everything about a question that needs no clock and no data, of each of its metrics.

    Raises:
        BadInput: names the field, the limit and the remedy.
    """
    check_composed(question)
    for one in each_of(question):
        check_question(one, definition_of(one, metrics))


def ad_hoc(asked: AdHocAggregate) -> MetricDefinition:
    """The metric that an aggregate is: by the dimensions of events, and without rollups.

    Raises:
        BadInput: its parts do not fit its kind.
    """
    if asked.kind is MetricKind.FORMULA:
        raise bad("bad_metric", "aggregate.kind", "A formula is over metrics: define one, and ask for it by its key.")
    try:
        definition = checked_definition(Definition(asked.kind, replace(asked.of, dimensions=(), combinations=())))
    except BadInput as refusal:
        raise bad(refusal.code, f"aggregate.{refusal.field or ''}".rstrip("."), refusal.message) from None
    of = replace(asked.of, dimensions=EVENT_DIMENSIONS, combinations=())
    return MetricDefinition(
        AD_HOC, asked.kind, Part.DEFINED, default_unit(definition), "Asked ad hoc.",
        defined=DefinedMetric(id=NO_VERSION, metric_id=NO_VERSION, aggregate=of),
    )  # fmt: skip
