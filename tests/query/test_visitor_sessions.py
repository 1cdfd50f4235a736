"""Sessions equal what a naive grouping of the same events finds."""

from __future__ import annotations

import dataclasses
from collections import Counter, defaultdict
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from core.database import Database
from core.errors import BadInput
from core.events import EnrichedEvent
from core.filters import DimensionFilter, EventFilter, FilterOp
from core.settings import Settings
from core.tenancy import Tenant
from query.answer import OTHER
from query.narrowing import Range
from query.question import Interval
from query.visitor_sessions import (
    LONGEST,
    SessionPage,
    SessionsQuestion,
    SessionTotals,
    VisitorSession,
    check_sessions,
    list_sessions,
    sum_sessions,
)
from tests.query.journeys import START, in_order, make_journeys, moment_of, passes, raw_of, stored

ON_BOTH_STORES = True
EVENTS = make_journeys(21, sessions=400)
FROM, TO = START + timedelta(hours=30), START + timedelta(hours=77)
RANGE = Range(from_=FROM, to=TO)
GERMAN = EventFilter(None, (DimensionFilter("country", FilterOp.EQ, ("DE",)),))

Group = list[EnrichedEvent]


@pytest.fixture(scope="module")
async def tenant(settings: Settings) -> Tenant:
    return await stored(settings, "sessions", EVENTS)


def naive(question: SessionsQuestion, from_: datetime = FROM, to: datetime = TO) -> tuple[list[Group], int]:
    """The sessions that count, each as its events in order, the oldest first; and how many events have none."""
    groups: defaultdict[int | None, Group] = defaultdict(list)
    for event in in_order(EVENTS):
        near = from_ - LONGEST <= moment_of(event) < to + LONGEST
        if near and passes(event, question.filter) and (question.include_bots or not event.is_bot):
            groups[event.session].append(event)
    stray = sum(from_ <= moment_of(event) < to for event in groups.pop(None, []))
    having = question.having or EventFilter()
    return [
        group
        for group in groups.values()
        if from_ <= moment_of(group[0]) < to and any(passes(event, having) for event in group)
    ], stray


def seconds_of(group: Group) -> float:
    return (group[-1].timestamp_ms - group[0].timestamp_ms) / 1000


def page_of(group: Group, place: int) -> str:
    pages = [event.page_path for event in group if event.page_path]
    return pages[place] if pages else ""


def is_totals_of(totals: SessionTotals, groups: list[Group]) -> None:
    seconds = [seconds_of(group) for group in groups]
    events = sum(map(len, groups))
    assert (totals.count, totals.events) == (len(groups), events)
    assert totals.bounces == sum(len(group) == 1 for group in groups)
    if not groups:
        assert (totals.mean_duration, totals.median_duration, totals.p90_duration) == (None, None, None)
        assert (totals.bounce_rate, totals.events_per_session) == (None, None)
        return
    assert totals.mean_duration == pytest.approx(np.mean(seconds))
    assert totals.median_duration == pytest.approx(np.percentile(seconds, 50))
    assert totals.p90_duration == pytest.approx(np.percentile(seconds, 90))
    assert totals.events_per_session == pytest.approx(events / len(groups))
    assert totals.bounce_rate == pytest.approx(totals.bounces / len(groups))


def are_pages_of(pages: tuple[SessionPage, ...], groups: list[Group], place: int, limit: int) -> None:
    counts, bounces = Counter[str](), Counter[str]()
    for group in groups:
        counts[page_of(group, place)] += 1
        bounces[page_of(group, place)] += len(group) == 1
    ranked = sorted(counts, key=lambda page: (-counts[page], page))
    wanted = [(page, False, counts[page], bounces[page]) for page in ranked[:limit]]
    if rest := ranked[limit:]:
        wanted.append((OTHER, True, sum(counts[p] for p in rest), sum(bounces[p] for p in rest)))
    assert [(page.page, page.is_other, page.count, page.bounces) for page in pages] == wanted
    assert sum(page.share for page in pages) == pytest.approx(1 if groups else 0)


VARIANTS: list[dict[str, Any]] = [
    {},
    {"limit": 2},
    {"include_bots": True},
    {"filter": EventFilter(("page_view",)), "limit": 3},
    {"filter": GERMAN},
    {"having": EventFilter(("signup",))},
    {"having": GERMAN, "filter": EventFilter(("click", "page_view")), "include_bots": True},
    {"filter": EventFilter(("no_such",))},
]


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
async def test_sessions_are_those_of_a_naive_grouping(
    settings: Settings, database: Database, tenant: Tenant, variant: dict[str, Any]
) -> None:
    question = SessionsQuestion(range=RANGE, **variant)
    answer = await sum_sessions(raw_of(settings, database), tenant, question)
    groups, stray = naive(question)
    is_totals_of(answer.totals, groups)
    are_pages_of(answer.entry_pages, groups, 0, question.limit)
    are_pages_of(answer.exit_pages, groups, -1, question.limit)
    assert (answer.stray_events, answer.buckets) == (stray, ())
    assert (answer.origin.from_, answer.origin.to) == (FROM, TO)


@pytest.mark.parametrize(
    ("interval", "zone"), [(Interval.HOUR, "Asia/Kolkata"), (Interval.DAY, "America/New_York"), (Interval.WEEK, "UTC")]
)
async def test_a_session_belongs_to_the_bucket_of_its_first_event(
    settings: Settings, database: Database, tenant: Tenant, interval: Interval, zone: str
) -> None:
    question = SessionsQuestion(range=RANGE, interval=interval, timezone=zone)
    answer = await sum_sessions(raw_of(settings, database), tenant, question)
    groups, _ = naive(question, answer.origin.from_, answer.origin.to)
    assert answer.origin.from_ <= FROM and answer.origin.to >= TO
    is_totals_of(answer.totals, groups)
    starts = [bucket.start for bucket in answer.buckets]
    assert starts[0] == answer.origin.from_ and all(a < b for a, b in zip(starts, starts[1:], strict=False))
    if interval is Interval.DAY:
        assert all(start.astimezone(ZoneInfo(zone)).hour == 0 for start in starts)
    for start, end, bucket in zip(starts, [*starts[1:], answer.origin.to], answer.buckets, strict=True):
        is_totals_of(bucket.totals, [group for group in groups if start <= moment_of(group[0]) < end])


@pytest.mark.parametrize("variant", VARIANTS[:-1], ids=str)
async def test_pages_of_sessions_have_each_of_them_once_newest_first(
    settings: Settings, database: Database, tenant: Tenant, variant: dict[str, Any]
) -> None:
    question = SessionsQuestion(range=RANGE, **variant)
    found: list[VisitorSession] = []
    place: tuple[datetime, int] | None = None
    while page := await list_sessions(raw_of(settings, database), tenant, question, 7, place):
        found += page
        place = (page[-1].started_at, page[-1].session)
    groups, _ = naive(question)
    groups.sort(key=lambda group: (group[0].timestamp_ms, group[0].session or 0), reverse=True)
    assert [session.session for session in found] == [group[0].session for group in groups]
    for session, group in zip(found, groups, strict=True):
        first = group[0]
        assert (session.session_id, session.visitor) == (first.session_id, str(first.visitor))
        assert (session.user_id, session.country) == (first.user_id, first.country)
        assert (session.started_at, session.ended_at) == (moment_of(first), moment_of(group[-1]))
        assert (session.events, session.is_bounce) == (len(group), len(group) == 1)
        assert session.duration == pytest.approx(seconds_of(group))
        assert (session.entry_page, session.exit_page) == (page_of(group, 0), page_of(group, -1))


async def test_a_session_that_reaches_over_the_ends_counts_whole_where_it_began(
    settings: Settings, database: Database, tenant: Tenant
) -> None:
    groups, _ = naive(SessionsQuestion(range=RANGE))
    longest = max(groups, key=seconds_of)
    middle = moment_of(longest[0]) + timedelta(seconds=seconds_of(longest) / 2)
    assert seconds_of(longest) > 0
    raw = raw_of(settings, database)
    before = SessionsQuestion(range=Range(from_=moment_of(longest[0]), to=middle))
    after = dataclasses.replace(before, range=Range(from_=middle, to=TO))
    sessions = {s.session: s.events for s in await list_sessions(raw, tenant, before, 1000, None)}
    assert sessions[longest[0].session or 0] == len(longest)
    assert longest[0].session not in {s.session for s in await list_sessions(raw, tenant, after, 1000, None)}


BAD: list[tuple[dict[str, Any], str, str]] = [
    ({"limit": 0}, "bad_limit", "limit"),
    ({"limit": 101}, "bad_limit", "limit"),
    ({"timezone": "Mars"}, "unknown_timezone", "timezone"),
    ({"filter": EventFilter(())}, "bad_filter", "query.types"),
    ({"having": EventFilter(("\0",))}, "bad_filter", "query.having.types"),
]


@pytest.mark.parametrize(("fields", "code", "field"), BAD)
def test_a_question_that_is_none_is_refused_with_a_remedy(fields: dict[str, Any], code: str, field: str) -> None:
    with pytest.raises(BadInput) as refused:
        check_sessions(SessionsQuestion(range=RANGE, **fields))
    assert (refused.value.code, refused.value.field) == (code, field)


async def test_the_ends_of_a_range_are_the_first_and_no_longer_the_last_moment(
    settings: Settings, database: Database, tenant: Tenant
) -> None:
    raw = raw_of(settings, database)
    found = await list_sessions(raw, tenant, SessionsQuestion(range=RANGE), 1000, None)
    starts = [session.started_at for session in found]
    assert len(starts) > len(set(starts)), "some begin at one moment"
    later = SessionsQuestion(range=Range(from_=starts[0], to=starts[0] + timedelta(seconds=1)))
    before = SessionsQuestion(range=Range(from_=FROM, to=starts[0]))
    assert {s.started_at for s in await list_sessions(raw, tenant, later, 1000, None)} == {starts[0]}
    assert starts[0] not in {s.started_at for s in await list_sessions(raw, tenant, before, 1000, None)}
    count = (await sum_sessions(raw, tenant, before)).totals.count
    assert count + (
        await sum_sessions(raw, tenant, SessionsQuestion(range=Range(from_=starts[0], to=TO)))
    ).totals.count == len(found)


async def test_more_buckets_than_a_chart_can_show_are_refused(
    settings: Settings, database: Database, tenant: Tenant
) -> None:
    with pytest.raises(BadInput, match="longer interval"):
        await sum_sessions(raw_of(settings, database), tenant, SessionsQuestion(range=RANGE, interval=Interval.MINUTE))
