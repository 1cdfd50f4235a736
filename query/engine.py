"""The query engine: a question in, an answer out. One way for charts, tables and live streams."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

from core.database import Database
from core.metric_catalog import MetricCatalog
from core.metrics import MetricDefinition
from core.outcomes import LAG_SECONDS
from core.retention import Retention
from core.tenancy import Tenant
from query.answer import Answer, columns_of, moment, warnings_of
from query.definitions import definition_of, metrics_for
from query.planner import plan_question
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
        definition = definition_of(question, await metrics_for(self._metrics, tenant.id, [question]))
        plan = plan_question(question, definition, now or datetime.now(UTC), self._retention[tenant.tier])
        if plan.definition.outcome is not None:
            # What a door refused is on its way for so long.
            fresh_until -= timedelta(seconds=LAG_SECONDS)
        rows = await read_parts(self._database, tenant.id, plan)
        edges = plan.buckets.edges
        warnings = warnings_of(plan)
        return Answer(
            definition=definition,
            columns=columns_of(plan, rows),
            interval=plan.buckets.interval,
            from_=moment(edges[0]),
            to=moment(edges[-1]),
            source=plan.source,
            fresh_until=fresh_until,
            is_complete=moment(edges[-1]) <= fresh_until and not warnings,
            rows_read=sum(row.rows for row in rows),
            took_ms=(time.perf_counter() - started) * 1000,
            warnings=warnings,
        )
