"""The query engine: a question in, an answer out. One way for charts, tables and live streams."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

from core.database import Database
from core.metric_catalog import MetricCatalog
from core.metrics import MetricDefinition, MetricKind
from core.outcomes import LAG_SECONDS
from core.retention import Retention
from core.tenancy import Tenant
from query.answer import Answer, columns_of, moment, warnings_of
from query.definitions import definition_of, metrics_for
from query.formulas import Reading, expression_of, formula_columns, questions_of
from query.parts import PartsRow
from query.planner import Plan, Source, plan_question
from query.question import MetricQuestion, check_question
from query.source import read_parts

# The moment up to which everything accepted is counted.
FreshUntil = Callable[[], Awaitable[datetime]]


class QueryEngine:
    """Answers questions for one tenant at a time."""

    def __init__(
        self, database: Database, metrics: MetricCatalog, retention: Retention, fresh_until: FreshUntil
    ) -> None:
        self._database = database
        self._metrics = metrics
        self._retention = retention
        self._fresh_until = fresh_until

    async def definition(self, tenant: Tenant, question: MetricQuestion) -> MetricDefinition:
        """The metric of a question that can be asked.

        Raises:
            BadInput: it cannot; names field, limit and remedy.
            DatabaseUnavailable: the tenant's own metrics are not known here, and the store does not answer.
        """
        definition = definition_of(question, await metrics_for(self._metrics, tenant.id, [question]))
        check_question(question, definition)
        return definition

    async def answer(self, tenant: Tenant, question: MetricQuestion, now: datetime | None = None) -> Answer:
        """The answer to a question.

        Raises:
            BadInput: the question is not one, or costs too much; names field, limit and remedy.
            DatabaseUnavailable: the store does not answer.
        """
        started = time.perf_counter()
        fresh_until = await self._fresh_until()
        now = now or datetime.now(UTC)
        metrics = await metrics_for(self._metrics, tenant.id, [question])
        definition = definition_of(question, metrics)
        check_question(question, definition)
        if definition.kind is MetricKind.FORMULA:
            expression = expression_of(definition, metrics)
            asked = questions_of(question, expression)
            # One after another: a formula of ten metrics is to hold no more connections than any other question.
            read = {key: await self._read(tenant, one, metrics[key], now) for key, one in asked.items()}
            readings = {key: Reading(plan.definition, rows) for key, (plan, rows) in read.items()}
            columns, notes = formula_columns(
                question, expression, readings, next(iter(read.values()))[0].buckets.starts
            )
        else:
            read = {definition.key: await self._read(tenant, question, definition, now)}
            ((plan, rows),) = read.values()
            columns, notes = columns_of(plan, rows), ()
        plans = [plan for plan, _ in read.values()]
        if any(plan.definition.outcome is not None for plan in plans):
            # What a door refused is on its way for so long.
            fresh_until -= timedelta(seconds=LAG_SECONDS)
        edges = plans[0].buckets.edges
        missing = tuple(dict.fromkeys(warning for plan in plans for warning in warnings_of(plan)))
        return Answer(
            definition=definition,
            columns=columns,
            interval=plans[0].buckets.interval,
            from_=moment(edges[0]),
            to=moment(edges[-1]),
            # Of several, the one that took most.
            source=max((plan.source for plan in plans), key=list(Source).index),
            fresh_until=fresh_until,
            is_complete=moment(edges[-1]) <= fresh_until and not missing,
            rows_read=sum(row.rows for _, rows in read.values() for row in rows),
            took_ms=(time.perf_counter() - started) * 1000,
            warnings=(*missing, *notes),
        )

    async def _read(
        self, tenant: Tenant, question: MetricQuestion, definition: MetricDefinition, now: datetime
    ) -> tuple[Plan, list[PartsRow]]:
        plan = plan_question(question, definition, now, self._retention[tenant.tier])
        return plan, await read_parts(self._database, tenant.id, plan)
