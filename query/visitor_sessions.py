"""Sessions of visitors: how many, how long, how many of them bounce, and where they enter and leave.

A session is all events of one `session_id` that pass the filter and lie between 24 h before the range and 24 h after
it. It counts where its first event lies: in the range, and in that bucket of it. So a session that goes on after the
end of the range counts whole, and one that began before it does not. Events without a session_id belong to no session;
those of the range are told as `stray_events`. A session of one event is a bounce and lasted 0 s. Where it entered and
left is the page of its first and its last event that has one, in the order of (timestamp, id); '' where none has.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import asyncpg

from core.filters import EventFilter
from core.queries import Query, named
from core.tenancy import Tenant
from query.answer import OTHER, moment
from query.calendar import Buckets, buckets_of
from query.conditions import Values, check_event_filter, matches
from query.narrowing import Range
from query.question import Interval, MetricQuestion, bad
from query.raw import Origin, RawEvents, span_of

LONGEST = timedelta(hours=24)
MAX_BUCKETS = 1_000
MAX_LIMIT = 100
DEFAULT_LIMIT = 10
SUM_SESSIONS = named("visitor_sessions", "sum_sessions")
LIST_SESSIONS = named("visitor_sessions", "list_visitor_sessions")


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionsQuestion:
    """What is asked. Sessions are made of the events that pass `filter`; `having` keeps those with such an event among
    them. With an `interval`, the range is widened to whole buckets."""

    range: Range
    interval: Interval | None = None
    timezone: str = "UTC"
    limit: int = DEFAULT_LIMIT
    filter: EventFilter = field(default_factory=EventFilter)
    having: EventFilter | None = None
    include_bots: bool = False

    @property
    def bots(self) -> list[bool]:
        """Which values of `is_bot` count."""
        return [False, True] if self.include_bots else [False]

    def zone(self) -> ZoneInfo:
        """The time zone.

        Raises:
            BadInput: not an IANA name.
        """
        return MetricQuestion(metric="events", timezone=self.timezone).zone()


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionTotals:
    """What some sessions amount to; durations in seconds, None where there is no session."""

    count: int
    events: int
    bounces: int
    seconds: float
    median_duration: float | None
    p90_duration: float | None

    @property
    def mean_duration(self) -> float | None:
        return self.seconds / self.count if self.count else None

    @property
    def events_per_session(self) -> float | None:
        return self.events / self.count if self.count else None

    @property
    def bounce_rate(self) -> float | None:
        return self.bounces / self.count if self.count else None


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionBucket:
    """The sessions that began within one bucket."""

    start: datetime
    totals: SessionTotals


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionPage:
    """The sessions that entered, or left, by one page; `bounces` are those of them."""

    page: str
    is_other: bool
    count: int
    share: float
    bounces: int

    @property
    def bounce_rate(self) -> float:
        return self.bounces / self.count


@dataclass(frozen=True, slots=True, kw_only=True)
class Sessions:
    """All of it; pages the commonest first, the last of them what is beyond the limit."""

    totals: SessionTotals
    buckets: tuple[SessionBucket, ...]
    entry_pages: tuple[SessionPage, ...]
    exit_pages: tuple[SessionPage, ...]
    stray_events: int
    origin: Origin


@dataclass(frozen=True, slots=True)
class VisitorSession:
    """One session; what it says of the visitor is what its first event says."""

    session: int
    session_id: str
    visitor: str
    user_id: str
    anonymous_id: str
    started_at: datetime
    ended_at: datetime
    events: int
    entry_page: str
    exit_page: str
    referrer_host: str
    country: str
    device: str
    browser: str
    os: str

    @property
    def duration(self) -> float:
        return (self.ended_at - self.started_at).total_seconds()

    @property
    def is_bounce(self) -> bool:
        return self.events == 1


async def sum_sessions(raw: RawEvents, tenant: Tenant, question: SessionsQuestion) -> Sessions:
    """What the sessions of a range amount to.

    Raises:
        BadInput: the question is not one, or takes too long.
        DatabaseUnavailable: the store does not answer.
    """
    check_sessions(question)
    from_, to = span_of(question.range, datetime.now(UTC))
    buckets = _buckets(question, from_, to)
    if buckets is not None:
        from_, to = moment(buckets.edges[0]), moment(buckets.edges[-1])
    edges = [moment(edge) for edge in buckets.edges] if buckets is not None else [from_, to]
    origin = await raw.origin(tenant, from_, to)
    query, values = _filled(SUM_SESSIONS, question)
    rows = await raw.fetch(
        tenant, query, from_, to, from_ - LONGEST, to + LONGEST, question.bots, values.texts, edges, question.limit
    )
    return sessions_of(rows, buckets, origin)


async def list_sessions(
    raw: RawEvents, tenant: Tenant, question: SessionsQuestion, rows: int, before: tuple[datetime, int] | None
) -> list[VisitorSession]:
    """Up to so many sessions of the range, the last to begin first; those behind the place (start, session).

    Raises:
        BadInput: the question is not one, or takes too long.
        DatabaseUnavailable: the store does not answer.
    """
    check_sessions(question)
    from_, to = span_of(question.range, datetime.now(UTC))
    query, values = _filled(LIST_SESSIONS, question)
    # The whole range each time: a shorter one would see other first events of sessions that pause for a day.
    found = await raw.fetch(
        tenant, query, from_, to, from_ - LONGEST, to + LONGEST, question.bots, values.texts, rows,
        *(before or (None, None)),
    )  # fmt: skip
    return [session_of(row) for row in found]


def check_sessions(question: SessionsQuestion) -> None:
    """Everything about a question that needs no data.

    Raises:
        BadInput: names the field, the limit and the remedy.
    """
    if not 1 <= question.limit <= MAX_LIMIT:
        raise bad("bad_limit", "limit", f"limit must be 1 to {MAX_LIMIT} pages, not {question.limit}.")
    question.zone()
    check_event_filter(question.filter, "query")
    if question.having is not None:
        check_event_filter(question.having, "query.having")


def sessions_of(rows: list[asyncpg.Record], buckets: Buckets | None, origin: Origin) -> Sessions:
    """The answer that these rows make."""
    (total,) = (_totals(row) for row in rows if row["part"] == "total")
    by_slot = {row["slot"]: _totals(row) for row in rows if row["part"] == "bucket"}
    starts = buckets.starts if buckets is not None else ()
    return Sessions(
        totals=total,
        buckets=tuple(
            SessionBucket(start=moment(start), totals=by_slot.get(slot, NO_SESSIONS))
            for slot, start in enumerate(starts)
        ),
        entry_pages=_pages(rows, "entry", total),
        exit_pages=_pages(rows, "exit", total),
        stray_events=sum(row["events"] for row in rows if row["part"] == "stray"),
        origin=origin,
    )


NO_SESSIONS = SessionTotals(count=0, events=0, bounces=0, seconds=0.0, median_duration=None, p90_duration=None)


def session_of(row: asyncpg.Record) -> VisitorSession:
    return VisitorSession(
        row["session"], row["session_id"], str(row["visitor"]), row["user_id"], row["anonymous_id"], row["began"],
        row["ended"], row["events"], row["entry"], row["exit"], row["referrer_host"], row["country"], row["device"],
        row["browser"], row["os"],
    )  # fmt: skip


def _filled(query: Query, question: SessionsQuestion) -> tuple[Query, Values]:
    values = Values(6)
    conditions = matches(question.filter, values)
    chosen = named("visitor_sessions", "any_session").text
    if question.having is not None:
        template = named("visitor_sessions", "having_event").text
        chosen = template.format(conditions=matches(question.having, values))
    return query.filled(conditions=conditions, chosen=chosen), values


def _buckets(question: SessionsQuestion, from_: datetime, to: datetime) -> Buckets | None:
    if question.interval is None:
        return None
    buckets = buckets_of(question.interval, from_, to, question.zone())
    if len(buckets.starts) > MAX_BUCKETS:
        raise bad(
            "too_many_buckets", "interval", f"The range has {len(buckets.starts)} buckets; at most {MAX_BUCKETS}. Take "
            "a longer interval or a shorter range.",
        )  # fmt: skip
    return buckets


def _totals(row: asyncpg.Record) -> SessionTotals:
    median, p90 = row["percentiles"] or (None, None)
    return SessionTotals(
        count=row["sessions"], events=row["events"], bounces=row["bounces"], seconds=row["seconds"],
        median_duration=median, p90_duration=p90,
    )  # fmt: skip


def _pages(rows: list[asyncpg.Record], part: str, total: SessionTotals) -> tuple[SessionPage, ...]:
    found = [(row["page"], False, row["sessions"], row["bounces"]) for row in rows if row["part"] == part]
    count, bounces = (sum(page[n] for page in found) for n in (2, 3))
    if count < total.count:
        found.append((OTHER, True, total.count - count, total.bounces - bounces))
    return tuple(
        SessionPage(page=page, is_other=is_other, count=count, share=count / total.count, bounces=bounces)
        for page, is_other, count, bounces in found
    )
