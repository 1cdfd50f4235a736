"""Retention: of the visitors who did something in one period, how many came back in later ones.

What it means:
- Periods are hours, or days, weeks (from Monday) and months from local midnight of the question's time zone; the range
  is widened to whole ones. A cohort is a period of the range; a visitor is of a cohort by an event of `start` in it.
- FIRST_TIME: a visitor is of one cohort, that of the first event of `start` that raw events know of it, before the
  range too; who did it before the range is of none. RECURRING: of the cohort of every period in which it did it.
- ON: a visitor came back after k periods if it did `returning` within that very period. ON_OR_AFTER: within that or
  any later period of the range, so the numbers of a cohort never rise.
- After 0 periods is the cohort's own: who did `returning` in the same period, before or after `start`. Where both are
  the same event, that is the whole cohort.
- A period that can still grow is open; of one that has not begun nothing is said (None). With ON_OR_AFTER every number
  can grow while the range's last period is open, and says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any
from zoneinfo import ZoneInfo

from core.filters import DimensionFilter, EventFilter
from core.queries import Query, named
from core.tenancy import Tenant
from query.answer import moment
from query.calendar import buckets_of
from query.conditions import Values, check_condition, check_event_filter, condition_of, matches
from query.funnel import CohortFilter, check_cohort
from query.funnel_statement import cohort_condition
from query.narrowing import Range
from query.question import MAX_FILTERS, Interval, MetricQuestion, bad
from query.raw import Origin, RawEvents, span_of

ANSWER = named("visitor_retention", "answer")
SETTINGS = named("funnel", "settings")
# A visitor's periods are bits of a bigint.
MAX_PERIODS = 60


class RetentionPeriod(StrEnum):
    """How long a period is."""

    HOUR = "HOUR"
    DAY = "DAY"
    WEEK = "WEEK"
    MONTH = "MONTH"


class RetentionCohorts(StrEnum):
    """In which cohorts a visitor is."""

    FIRST_TIME = "FIRST_TIME"
    RECURRING = "RECURRING"


class RetentionReturn(StrEnum):
    """When a visitor has come back."""

    ON = "ON"
    ON_OR_AFTER = "ON_OR_AFTER"


@dataclass(frozen=True, slots=True, kw_only=True)
class RetentionQuestion:
    """What is asked; `filters` hold for every event, `returning` None is `start`."""

    range: Range
    period: RetentionPeriod = RetentionPeriod.WEEK
    timezone: str = "UTC"
    start: EventFilter = EventFilter()
    returning: EventFilter | None = None
    cohorts: RetentionCohorts = RetentionCohorts.FIRST_TIME
    returns: RetentionReturn = RetentionReturn.ON
    filters: tuple[DimensionFilter, ...] = ()
    include_bots: bool = False
    cohort: CohortFilter | None = None

    def zone(self) -> ZoneInfo:
        """The time zone. Raises BadInput: not an IANA name."""
        return MetricQuestion(metric="", timezone=self.timezone).zone()

    def edges(self, now: datetime) -> tuple[int, ...]:
        """The periods' starts and the last one's end, in seconds since 1970.

        Raises:
            BadInput: no range, or more than 60 periods.
        """
        start, end = span_of(self.range, now)
        edges = buckets_of(Interval(self.period.value), start, end, self.zone()).edges
        if len(edges) - 1 > MAX_PERIODS:
            raise bad(
                "range_too_large",
                "range",
                f"The range has {len(edges) - 1} periods of {self.period}; at most {MAX_PERIODS}. Take a longer period "
                "or a shorter range.",
            )
        return edges


@dataclass(frozen=True, slots=True)
class Cohort:
    """The visitors of one period. By how many periods later: how many came back, which part that is (None of nobody),
    and whether it can still grow; None where the period has not begun."""

    from_: datetime
    to: datetime
    size: int
    is_open: bool
    visitors: tuple[int | None, ...]
    shares: tuple[float | None, ...]
    open: tuple[bool, ...]


@dataclass(frozen=True, slots=True)
class Retention:
    """All cohorts that have begun, the earliest first; `overall` is the part that came back after so many periods, over
    the cohorts of which that period is over (None where there is none)."""

    cohorts: tuple[Cohort, ...]
    overall: tuple[float | None, ...]
    origin: Origin


def check_retention(question: RetentionQuestion) -> None:
    """Everything about a question that needs no clock and no data.

    Raises:
        BadInput: names the field, the limit and the remedy.
    """
    question.zone()
    check_event_filter(question.start, "start")
    if question.returning is not None:
        check_event_filter(question.returning, "returning")
    if len(question.filters) > MAX_FILTERS:
        raise bad("too_many_filters", "filters", f"filters takes up to {MAX_FILTERS}, not {len(question.filters)}.")
    for condition in question.filters:
        check_condition(condition, "filters")
    if question.cohort is not None:
        check_cohort(question.cohort)


async def find_retention(
    raw: RawEvents, tenant: Tenant, question: RetentionQuestion, now: datetime | None = None
) -> Retention:
    """The answer to a question.

    Raises:
        BadInput: it is none, or took more than 10 s; names field, limit and remedy.
        DatabaseUnavailable: the store does not answer.
    """
    check_retention(question)
    now = now or datetime.now(UTC)
    edges = question.edges(now)
    statement, values = retention_statement(question, edges, now)
    origin = await raw.origin(tenant, moment(edges[0]), moment(edges[-1]))
    rows = await raw.fetch(tenant, statement, values, before=SETTINGS)
    return retention_of(question, edges, rows, origin, now)


def retention_statement(question: RetentionQuestion, edges: Sequence[int], now: datetime) -> tuple[Query, list[str]]:
    """The statement that answers a question over these periods, and its one parameter."""
    values, returning = Values(1), question.returning or question.start
    start = matches(question.start, values)
    is_new = question.cohorts is RetentionCohorts.FIRST_TIME
    since = _text("since_ever" if is_new else "since_range").format(start=_instant(edges[0], values), is_start=start)
    conditions = [matches(EventFilter(_types(question.start, returning)), values)]
    conditions += [condition_of(condition, values) for condition in question.filters]
    if question.cohort is not None:
        conditions.append(cohort_condition(question.cohort, *question.cohort.funnel.span(now), values))
    visitors = _text("visitors").format(
        edges=values.many([str(edge) for edge in edges]),
        start=start,
        until=_instant(edges[-1], values),
        since=since,
        bots="" if question.include_bots else named("funnel", "without_bots").text,
        filters=" AND ".join(conditions),
        **{"return": matches(returning, values)},
    )
    count = _text("on_period" if question.returns is RetentionReturn.ON else "on_or_after_period")
    periods = len(edges) - 1
    parts = {
        "visitors": visitors,
        "cohorts": _text("first_time" if is_new else "recurring").format(periods=periods),
        "counts": ", ".join(count.format(bit=1 << later) for later in range(periods)),
    }
    return ANSWER.filled(**parts), values.texts


def retention_of(
    question: RetentionQuestion, edges: Sequence[int], rows: Sequence[Any], origin: Origin, now: datetime
) -> Retention:
    """The answer that these rows make."""
    found = {row["place"].bit_length() - 1: row for row in rows}
    begun = sum(edge < now.timestamp() for edge in edges[:-1])
    periods = len(edges) - 1
    closed = sum(moment(edge) <= origin.fresh_until for edge in edges[1:])
    # Who has not come back yet may do so in any later period.
    last_closed = closed if question.returns is RetentionReturn.ON or closed == periods else 0
    cohorts = []
    for place in range(1, begun + 1):
        row = found.get(place)
        size = row["visitors"] if row else 0
        counts = [row["returned"][later] if row else 0 for later in range(periods - place + 1)]
        known = tuple(count if place + later <= begun else None for later, count in enumerate(counts))
        cohorts.append(
            Cohort(
                from_=moment(edges[place - 1]),
                to=moment(edges[place]),
                size=size,
                is_open=place > closed,
                visitors=known,
                shares=tuple(None if count is None or not size else count / size for count in known),
                open=tuple(place + later > last_closed for later in range(len(known))),
            )
        )
    return Retention(tuple(cohorts), _overall(cohorts), origin)


def _overall(cohorts: Sequence[Cohort]) -> tuple[float | None, ...]:
    means: list[float | None] = []
    for later in range(max((len(cohort.visitors) for cohort in cohorts), default=0)):
        over = [c for c in cohorts if later < len(c.open) and not c.open[later]]
        size = sum(cohort.size for cohort in over)
        means.append(sum(cohort.visitors[later] or 0 for cohort in over) / size if size else None)
    return tuple(means)


def _types(*filters: EventFilter) -> tuple[str, ...] | None:
    """The types of which alone any of the filters can hold; None where one takes every type."""
    if any(wanted.types is None for wanted in filters):
        return None
    return tuple(dict.fromkeys(name for wanted in filters for name in wanted.types or ()))


def _instant(seconds: int, values: Values) -> str:
    return named("funnel", "instant").text.format(value=values.one(str(seconds)))


def _text(name: str) -> str:
    return named("visitor_retention", name).text
