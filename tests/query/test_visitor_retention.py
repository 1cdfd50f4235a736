"""Retention equals what a naive count over the same visitors' events finds, in every mode."""

from __future__ import annotations

import random
from collections import defaultdict
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from uuid import uuid4
from zoneinfo import ZoneInfo

import pytest

from core.database import Database
from core.errors import BadInput
from core.events import EnrichedEvent
from core.filters import DimensionFilter, EventFilter, FilterOp
from core.settings import Settings
from core.tenancy import Tenant
from query.funnel import CohortFilter, FunnelQuestion, FunnelStep
from query.narrowing import Range
from query.visitor_retention import (
    RetentionCohorts,
    RetentionPeriod,
    RetentionQuestion,
    RetentionReturn,
    check_retention,
    find_retention,
)
from tests.pipeline.builders import enriched
from tests.query.journeys import START, moment_of, passes, raw_of, stored

FRESH = START + timedelta(days=2)  # as `raw_of` says
ZONES = ("UTC", "Europe/Berlin", "Asia/Kolkata", "America/Havana", "Australia/Lord_Howe")


def make_visits(seed: int, visitors: int = 200) -> list[EnrichedEvent]:
    """Visits over two months in which clocks of several zones change, denser in some days."""
    chance, events = random.Random(seed), []
    for visitor in range(visitors):
        spread = chance.choice([2, 20, 60])
        is_bot = chance.random() < 0.05
        for _ in range(chance.randrange(1, 25)):
            at = START + timedelta(days=chance.random() * spread - 20 * (spread > 2))
            events.append(
                enriched(
                    id=uuid4().bytes,
                    type=chance.choice(["open", "open", "buy", "other"]),
                    timestamp_ms=round(at.timestamp() * 1000),
                    visitor=visitor - 40,
                    country=chance.choice(["", "DE"]),
                    is_bot=is_bot,
                )  # fmt: skip
            )
    return events


EVENTS = make_visits(3)
OPEN, BUY = EventFilter(("open",)), EventFilter(("buy",))


@pytest.fixture(scope="module")
async def tenant(settings: Settings) -> Tenant:
    return await stored(settings, "retention", EVENTS)


def period_of(moment: datetime, period: RetentionPeriod, zone: ZoneInfo) -> datetime:
    """The local start of a moment's period, by calendar arithmetic that shares nothing with the engine."""
    local = moment.astimezone(zone)
    if period is RetentionPeriod.HOUR:
        return local.replace(minute=0, second=0, microsecond=0).astimezone(UTC)
    day = local.date()
    if period is RetentionPeriod.WEEK:
        day -= timedelta(days=day.weekday())
    elif period is RetentionPeriod.MONTH:
        day = day.replace(day=1)
    return datetime(day.year, day.month, day.day, tzinfo=zone).astimezone(UTC)


def naive(question: RetentionQuestion, starts: list[datetime], end: datetime) -> list[tuple[int, list[int]]]:
    """Each period's cohort, and how many of it came back so many periods later."""
    zone, returning = ZoneInfo(question.timezone), question.returning or question.start
    began: defaultdict[int, set[datetime]] = defaultdict(set)
    came: defaultdict[int, set[int]] = defaultdict(set)
    for event in EVENTS:
        at = moment_of(event)
        if at >= end or (event.is_bot and not question.include_bots):
            continue
        if any(event.country not in condition.values for condition in question.filters):
            continue
        start = period_of(at, question.period, zone)
        if passes(event, question.start):
            began[event.visitor].add(start)
        if passes(event, returning) and start in starts:
            came[event.visitor].add(starts.index(start))
    table = []
    for number, start in enumerate(starts):
        if question.cohorts is RetentionCohorts.FIRST_TIME:
            cohort = {visitor for visitor, periods in began.items() if min(periods) == start}
        else:
            cohort = {visitor for visitor, periods in began.items() if start in periods}
        counts = []
        for later in range(len(starts) - number):
            if question.returns is RetentionReturn.ON:
                counts.append(sum(number + later in came[visitor] for visitor in cohort))
            else:
                counts.append(sum(any(n >= number + later for n in came[visitor]) for visitor in cohort))
        table.append((len(cohort), counts))
    return table


@pytest.mark.parametrize("cohorts", RetentionCohorts)
@pytest.mark.parametrize("returns", RetentionReturn)
@pytest.mark.parametrize("period", RetentionPeriod)
async def test_any_retention_is_what_a_naive_count_finds(
    settings: Settings, database: Database, tenant: Tenant, cohorts: RetentionCohorts, returns: RetentionReturn,
    period: RetentionPeriod,
) -> None:  # fmt: skip
    chance, seen = random.Random(f"{cohorts} {returns} {period}"), 0
    for _ in range(12):
        days = {"HOUR": 1.5, "DAY": 12, "WEEK": 50, "MONTH": 80}[period.value]
        begin = START + timedelta(days=chance.uniform(-20, 30) if period is not RetentionPeriod.HOUR else 0.3)
        question = RetentionQuestion(
            range=Range(from_=begin, to=begin + timedelta(days=chance.uniform(0.5, 1) * days)),
            period=period,
            # Where a clock goes back, one local hour is two: the naive calendar does not tell them apart.
            timezone=chance.choice(ZONES if period is not RetentionPeriod.HOUR else ZONES[:3]),
            start=chance.choice([OPEN, BUY, EventFilter()]),
            returning=chance.choice([None, OPEN, BUY]),
            cohorts=cohorts,
            returns=returns,
            filters=(DimensionFilter("country", FilterOp.IN, ("DE",)),) if chance.random() < 0.2 else (),
            include_bots=chance.random() < 0.3,
        )
        answer = await find_retention(raw_of(settings, database), tenant, question)
        starts = [cohort.from_ for cohort in answer.cohorts]
        zone = ZoneInfo(question.timezone)
        assert starts[0] == period_of(begin, period, zone)
        assert all(period_of(start, period, zone) == start for start in starts)
        assert all(earlier.to == later.from_ for earlier, later in pairwise(answer.cohorts))
        table = naive(question, starts, answer.cohorts[-1].to)
        assert [(cohort.size, list(cohort.visitors)) for cohort in answer.cohorts] == table
        for cohort in answer.cohorts:
            assert cohort.shares == tuple(n / cohort.size if cohort.size else None for n in cohort.visitors)
        seen += sum(sum(counts[1:]) > 0 for _, counts in table)
    assert seen > 10


async def test_periods_that_can_grow_are_open_and_of_those_to_come_nothing_is_said(
    settings: Settings, database: Database, tenant: Tenant
) -> None:
    question = RetentionQuestion(
        range=Range(from_=START, to=START + timedelta(days=6)), period=RetentionPeriod.DAY, start=OPEN
    )
    now = FRESH + timedelta(hours=30)  # on the fourth day, and the workers are at the end of the second
    answer = await find_retention(raw_of(settings, database), tenant, question, now)
    assert [cohort.is_open for cohort in answer.cohorts] == [False, False, True, True]
    first = answer.cohorts[0]
    assert first.open == (False, False, True, True, True, True)
    assert first.visitors[4:] == (None, None) == first.shares[4:] and None not in first.visitors[:4]
    assert len(answer.overall) == 6 and answer.overall[0] == 1 and answer.overall[2:] == (None,) * 4
    two = answer.cohorts[:2]
    assert answer.overall[1] == (two[0].visitors[1] or 0) / two[0].size
    later = await find_retention(
        raw_of(settings, database), tenant, replace(question, returns=RetentionReturn.ON_OR_AFTER), now
    )
    assert all(later.cohorts[0].open)


async def test_a_cohort_of_a_funnel_narrows_whom_retention_counts(
    settings: Settings, database: Database, tenant: Tenant
) -> None:
    span = Range(from_=START, to=START + timedelta(days=14))
    funnel = FunnelQuestion(range=span, window="3d", steps=(FunnelStep(OPEN), FunnelStep(BUY)))
    question = RetentionQuestion(range=span, start=OPEN, cohorts=RetentionCohorts.RECURRING)
    raw = raw_of(settings, database)
    everybody = await find_retention(raw, tenant, question)
    buyers = await find_retention(raw, tenant, replace(question, cohort=CohortFilter(funnel, 2)))
    entered = await find_retention(raw, tenant, replace(question, cohort=CohortFilter(funnel, 1)))
    assert 0 < buyers.cohorts[0].size < everybody.cohorts[0].size == entered.cohorts[0].size


GOOD = RetentionQuestion(range=Range(from_=START, to=START + timedelta(days=14)))


@pytest.mark.parametrize(
    ("question", "code", "place"),
    [
        (replace(GOOD, timezone="Mars"), "unknown_timezone", "timezone"),
        (replace(GOOD, start=EventFilter(())), "bad_filter", "start.types"),
        (replace(GOOD, returning=EventFilter(("\0",))), "bad_filter", "returning.types"),
        (replace(GOOD, filters=(DimensionFilter("no", FilterOp.EQ, ("a",)),)), "unknown_dimension",
         "filters.dimension"),
        (replace(GOOD, filters=(DimensionFilter("type", FilterOp.EQ, ("a",)),) * 21), "too_many_filters", "filters"),
        (replace(GOOD, cohort=CohortFilter(FunnelQuestion(range=GOOD.range, steps=()), 1)), "bad_steps",
         "cohort.funnel.steps"),
    ],
)  # fmt: skip
def test_what_is_no_retention_is_refused_with_its_place(question: RetentionQuestion, code: str, place: str) -> None:
    with pytest.raises(BadInput) as refusal:
        check_retention(question)
    assert (refusal.value.code, refusal.value.field) == (code, place)


def test_the_periods_of_a_range_are_bounded() -> None:
    with pytest.raises(BadInput) as refusal:
        replace(GOOD, range=Range(last="61d"), period=RetentionPeriod.DAY).edges(START)
    assert (refusal.value.code, refusal.value.field) == ("range_too_large", "range")
