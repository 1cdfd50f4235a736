"""Retention: which part of the visitors of a period came back in later ones."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import strawberry
from strawberry import Info

from core.permissions import Permission
from query.visitor_retention import RetentionCohorts, RetentionPeriod, RetentionQuestion, RetentionReturn
from resolvers.context import Context
from resolvers.visitor_retention import answer_retention
from schema.described import enum_of
from schema.funnel import CohortInput
from schema.guarded import shown_to
from schema.metrics import EventSelection, Filter, TimeRange
from schema.raw import RawAnswer

RetentionPeriodType = enum_of(
    RetentionPeriod,
    "Length of a period. Days, weeks and months begin at midnight of the question's time zone.",
    HOUR="One hour.",
    DAY="A local day.",
    WEEK="A local week, from Monday.",
    MONTH="A local month.",
)
RetentionCohortsType = enum_of(
    RetentionCohorts,
    "In which cohorts a visitor is.",
    FIRST_TIME="In that of the first `start` that is kept of it; in none if that was before the range.",
    RECURRING="In that of every period in which it did `start`.",
)
RetentionReturnType = enum_of(
    RetentionReturn,
    "When a visitor has come back after some periods.",
    ON="Within that very period.",
    ON_OR_AFTER="Within that or any later period of the range.",
)


@strawberry.input(description="A question about retention.")
class RetentionQuery:
    range: TimeRange = strawberry.field(description="Widened to whole periods, at most 60.")
    period: RetentionPeriodType | None = strawberry.field(  # type: ignore[valid-type]
        default=RetentionPeriod.WEEK, description="Length of a period."
    )
    timezone: str | None = strawberry.field(
        default="UTC", description='IANA name, such as "Europe/Berlin"; days begin at its midnight.'
    )
    start: EventSelection | None = strawberry.field(
        default=None, description="What makes a visitor one of a cohort; any event when absent."
    )
    returning: EventSelection | None = strawberry.field(
        default=None, description="What it comes back with; the same as `start` when absent."
    )
    cohorts: RetentionCohortsType | None = strawberry.field(  # type: ignore[valid-type]
        default=RetentionCohorts.FIRST_TIME, description="In which cohorts a visitor is."
    )
    returns: RetentionReturnType | None = strawberry.field(  # type: ignore[valid-type]
        default=RetentionReturn.ON, description="When a visitor has come back."
    )
    filters: list[Filter] | None = strawberry.field(
        default=None, description="Conditions on every event; on properties too."
    )
    include_bots: bool | None = strawberry.field(default=False, description="Events marked as bots as well.")
    cohort: CohortInput | None = strawberry.field(default=None, description="Only visitors of a funnel's step.")

    def to_domain(self) -> RetentionQuestion:
        """The question as the engine takes it."""
        start = self.start or EventSelection()
        return RetentionQuestion(
            range=self.range.to_domain(),
            period=self.period or RetentionPeriod.WEEK,
            timezone=self.timezone or "UTC",
            start=start.to_domain(),
            returning=self.returning.to_domain() if self.returning else None,
            cohorts=self.cohorts or RetentionCohorts.FIRST_TIME,
            returns=self.returns or RetentionReturn.ON,
            filters=tuple(condition.to_domain() for condition in self.filters or ()),
            include_bots=bool(self.include_bots),
            cohort=self.cohort.to_domain() if self.cohort else None,
        )


@shown_to(Permission.METRICS_READ)
@strawberry.type(description="The visitors of one period. The lists tell of it and each period after it, in order.")
class RetentionCohort:
    from_: datetime = strawberry.field(name="from", description="The period's start.")
    to: datetime = strawberry.field(description="Its end, exclusive.")
    size: int = strawberry.field(description="How many visitors.")
    is_open: bool = strawberry.field(description="Whether it can still grow but by late events.")
    visitors: list[int | None] = strawberry.field(
        description="How many came back after 0, 1, 2, ... periods; null where the period has not begun."
    )
    shares: list[float | None] = strawberry.field(description="The same as parts of `size`, 0 to 1; null of nobody.")
    open: list[bool] = strawberry.field(description="Whether each of them can still grow.")


@shown_to(Permission.METRICS_READ)
@strawberry.type(description="Retention by cohort.")
class Retention(RawAnswer):
    cohorts: list[RetentionCohort] = strawberry.field(description="The periods that have begun, the earliest first.")
    overall: list[float | None] = strawberry.field(
        description="Which part came back after 0, 1, 2, ... periods, over all cohorts of which that period is over."
    )


async def resolve_retention(info: Info[Context, None], query: RetentionQuery) -> Any:
    """The retention that was asked for."""
    return await answer_retention(info.context, query.to_domain())
