"""Which metric a question asks: built in, which everybody has, or one of the tenant's own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from core.metric_catalog import MetricCatalog
from core.metrics import BUILT_IN, MetricDefinition
from core.tenancy import TenantId
from query.question import MetricQuestion, bad, one_of

# What a tenant may ask, by key.
Metrics = Mapping[str, MetricDefinition]


async def metrics_for(catalog: MetricCatalog, tenant_id: TenantId, questions: Iterable[MetricQuestion]) -> Metrics:
    """The metrics among which those of the questions are. Of built-in ones nothing is looked up: no tenant's own has
    the key of one.

    Raises:
        DatabaseUnavailable: the tenant's are not known here, and the database is away.
    """
    if all(question.metric in BUILT_IN for question in questions):
        return BUILT_IN
    return (await catalog.of(tenant_id)).by_key


def definition_of(question: MetricQuestion, metrics: Metrics) -> MetricDefinition:
    """The metric that is asked for.

    Raises:
        BadInput: there is none of that key.
    """
    if not question.metric:
        raise bad("unknown_metric", "metric", f"metric is missing; {one_of(metrics)}.")
    if question.metric not in metrics:
        raise bad("unknown_metric", "metric", f"There is no metric {question.metric[:80]!r}; {one_of(metrics)}.")
    return metrics[question.metric]
