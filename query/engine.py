"""The query engine: a question in, an answer out. One way for charts, tables and live streams."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

from core.database import Database
from core.outcomes import LAG_SECONDS
from core.retention import Retention
from core.tenancy import Tenant
from query.answer import Answer, columns_of, moment, warnings_of
from query.planner import plan_question
from query.question import MetricQuestion
from query.raw import FreshUntil, RawEvents
from query.source import read_parts


class QueryEngine:
    """Answers questions for one tenant at a time."""

    def __init__(self, database: Database, retention: Retention, fresh_until: FreshUntil) -> None:
        self._database = database
        self._retention = retention
        self._fresh_until = fresh_until
        self.raw = RawEvents(database, retention, fresh_until)

    async def answer(self, tenant: Tenant, question: MetricQuestion, now: datetime | None = None) -> Answer:
        """The answer to a question.

        Raises:
            BadInput: the question is not one, or costs too much; names field, limit and remedy.
            DatabaseUnavailable: the store does not answer.
        """
        started = time.perf_counter()
        fresh_until = await self._fresh_until()
        plan = plan_question(question, now or datetime.now(UTC), self._retention[tenant.tier])
        if plan.definition.outcome is not None:
            # What a door refused is on its way for so long.
            fresh_until -= timedelta(seconds=LAG_SECONDS)
        rows = await read_parts(self._database, tenant.id, plan)
        edges = plan.buckets.edges
        warnings = warnings_of(plan)
        return Answer(
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
