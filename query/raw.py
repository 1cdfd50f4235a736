"""Questions that raw events alone can answer: read within the deadline, with what an answer says of its origin."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

import asyncpg

from core.database import Database
from core.errors import BadInput
from core.queries import Query
from core.retention import Retention
from core.tenancy import Tenant
from query.answer import QueryWarning
from query.engine import FreshUntil
from query.narrowing import Range
from query.question import MetricQuestion


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Which events an answer is of: from `from_` to before `to`, all that was accepted before `fresh_until`."""

    from_: datetime
    to: datetime
    fresh_until: datetime
    is_complete: bool
    warnings: tuple[QueryWarning, ...] = ()


def span_of(range: Range, now: datetime) -> tuple[datetime, datetime]:
    """From when to when a range is.

    Raises:
        BadInput: it is none.
    """
    return MetricQuestion(metric="events", last=range.last, from_=range.from_, to=range.to).span(now)


class RawEvents:
    """Raw events of one tenant at a time."""

    def __init__(self, database: Database, retention: Retention, fresh_until: FreshUntil) -> None:
        self._database = database
        self._retention = retention
        self._fresh_until = fresh_until

    async def origin(self, tenant: Tenant, from_: datetime, to: datetime) -> Origin:
        """The origin of what is read after this was asked."""
        fresh_until = await self._fresh_until()
        since = self._retention[tenant.tier].since(None, datetime.now(UTC))
        warnings: tuple[QueryWarning, ...] = ()
        if since is not None and from_ < since:
            text = (
                f"What is before {since:%Y-%m-%dT%H:%M:%SZ} is past its time and dropped. A higher tier keeps longer."
            )
            warnings = (QueryWarning("beyond_retention", text),)
        return Origin(
            from_=from_, to=to, fresh_until=fresh_until, is_complete=to <= fresh_until and not warnings,
            warnings=warnings,
        )  # fmt: skip

    async def fetch(
        self, tenant: Tenant, query: Query, *args: object, before: Query | None = None
    ) -> list[asyncpg.Record]:
        """The rows of a statement; `before` is one without parameters that goes before it in its transaction.

        Raises:
            BadInput: the database gave up after 10 s; says what to narrow.
            DatabaseUnavailable: it is away.
        """
        try:
            async with self._database.as_tenant(tenant.id) as session:
                if before is not None:
                    await session.execute(before)
                return await session.fetch(query, *args)
        except asyncpg.QueryCanceledError:
            raise BadInput(
                "The question took more than 10 s over raw events. Take a shorter range, or fewer events by type or by "
                "conditions.",
                code="query_too_slow",
                field="range",
            ) from None
