"""The query engine: a question about one metric in, an answer out. One way for charts, tables and live streams."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from core.database import Database
from core.metric_catalog import MetricCatalog
from core.metrics import MetricDefinition, MetricKind
from core.outcomes import LAG_SECONDS
from core.retention import Retention
from core.tenancy import Tenant
from query.answer import Answer, Columns, QueryWarning, columns_of, moment
from query.definitions import Metrics, definition_of, each_of, metrics_for
from query.formulas import expression_of, questions_of, zero_warnings
from query.measures import FormulaMeasure, PartsMeasure
from query.planner import Plan, Source, plan_question
from query.question import MetricQuestion, check_question
from query.readings import Reading, groups_of, groups_of_many
from query.source import SourceCost, expected_costs, read_parts, too_slow

# The moment up to which everything accepted is counted.
FreshUntil = Callable[[], Awaitable[datetime]]
# Before the operation's own end, so that the answer says what to narrow. Statements are cancelled with it.
ANSWER_SECONDS = 9.5


@dataclass(frozen=True, slots=True)
class Explained:
    """What a question would read, and what that is expected to cost."""

    plan: Plan
    costs: tuple[SourceCost, ...]


class QueryEngine:
    """Answers questions about one metric, for one tenant at a time."""

    def __init__(
        self, database: Database, metrics: MetricCatalog, retention: Retention, fresh_until: FreshUntil
    ) -> None:
        self._database = database
        self._metrics = metrics
        self._retention = retention
        self._fresh_until = fresh_until

    async def definition(self, tenant: Tenant, question: MetricQuestion) -> MetricDefinition:
        """The metric of a question that can be asked; of several metrics, the first.

        Raises:
            BadInput: it cannot; names field, limit and remedy.
            DatabaseUnavailable: the tenant's own metrics are not known here, and the store does not answer.
        """
        return (await self.definitions(tenant, question))[0]

    async def definitions(self, tenant: Tenant, question: MetricQuestion) -> list[MetricDefinition]:
        """The metrics of a question that can be asked; of a formula, it and then those that it is over. Raises as
        `definition`."""
        metrics = await metrics_for(self._metrics, tenant.id, [question])
        found = []
        for one in each_of(question):
            definition = definition_of(one, metrics)
            check_question(one, definition)
            found.append(definition)
            if definition.kind is MetricKind.FORMULA:
                found += [metrics[key] for key in questions_of(one, expression_of(definition, metrics))]
        return found

    async def answer(self, tenant: Tenant, question: MetricQuestion, now: datetime | None = None) -> Answer:
        """The answer to a question.

        Raises:
            BadInput: the question is not one, or costs too much; names field, limit and remedy.
            DatabaseUnavailable: the store does not answer.
        """
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                return await self._answer(tenant, question, now or datetime.now(UTC))
        except TimeoutError:
            raise too_slow() from None

    async def explain(self, tenant: Tenant, question: MetricQuestion, now: datetime | None = None) -> list[Explained]:
        """What would be read for a question, of each of its metrics; nothing is. Raises as `answer`."""
        now = now or datetime.now(UTC)
        metrics = await metrics_for(self._metrics, tenant.id, [question])
        plans = [
            plan for one in each_of(question) for plan in self._plans(tenant, one, metrics, now)[1].values()
        ]  # fmt: skip
        return [Explained(plan, tuple(await expected_costs(self._database, tenant.id, plan))) for plan in plans]

    async def _answer(self, tenant: Tenant, question: MetricQuestion, now: datetime) -> Answer:
        started = time.perf_counter()
        fresh_until = await self._fresh_until()
        metrics = await metrics_for(self._metrics, tenant.id, [question])
        definition, plans = self._plans(tenant, question, metrics, now)
        if any(plan.definition.outcome is not None for plan in plans.values()):
            # What a door refused is on its way for so long.
            fresh_until -= timedelta(seconds=LAG_SECONDS)
        # One after another: a formula of ten metrics is to hold no more connections than any other question.
        readings = {
            key: Reading(plan, *await read_parts(self._database, tenant.id, plan)) for key, plan in plans.items()
        }
        columns, warnings = _columns(question, definition, readings, metrics)
        first = next(iter(plans.values()))
        to = moment(first.buckets.edges[-1])
        reads = tuple(read for reading in readings.values() for read in reading.reads)
        is_whole = not any(warning.code in LOSSES for warning in warnings)
        return Answer(
            definition=definition,
            columns=columns,
            interval=first.buckets.interval,
            from_=moment(first.buckets.edges[0]),
            to=to,
            # Of several metrics, where the dearest was read.
            source=max((plan.source for plan in plans.values()), key=list(Source).index),
            fresh_until=fresh_until,
            is_complete=to <= fresh_until and is_whole,
            rows_read=sum(read.rows for read in reads),
            took_ms=(time.perf_counter() - started) * 1000,
            warnings=warnings,
            reads=reads,
        )

    def _plans(
        self, tenant: Tenant, question: MetricQuestion, metrics: Metrics, now: datetime
    ) -> tuple[MetricDefinition, dict[str, Plan]]:
        """The metric that is asked, and the plans of what is read for it, by key."""
        definition = definition_of(question, metrics)
        kept = self._retention[tenant.tier]
        if definition.kind is not MetricKind.FORMULA:
            return definition, {definition.key: plan_question(question, definition, now, kept)}
        check_question(question, definition)
        asked = questions_of(question, expression_of(definition, metrics))
        return definition, {key: plan_question(one, metrics[key], now, kept) for key, one in asked.items()}


# Warnings of an answer that lacks something.
LOSSES = frozenset({"beyond_retention", "cardinality_capped"})


def _columns(
    question: MetricQuestion, definition: MetricDefinition, readings: dict[str, Reading], metrics: Metrics
) -> tuple[Columns, tuple[QueryWarning, ...]]:
    warnings = list(dict.fromkeys(warning for reading in readings.values() for warning in reading.warnings))
    buckets = next(iter(readings.values())).plan.buckets
    if definition.kind is not MetricKind.FORMULA:
        measure = PartsMeasure(definition, question)
        columns = columns_of(question, buckets, measure, groups_of(readings[definition.key]))
        return columns, tuple(warnings)
    formula = FormulaMeasure(
        expression_of(definition, metrics), {key: reading.plan.definition for key, reading in readings.items()}
    )
    columns = columns_of(question, buckets, formula, groups_of_many(readings))
    values = len(columns.series) * (len(columns.timestamps) + 1)
    return columns, (*warnings, *zero_warnings(formula.zeros, values))
