"""A shared question can be narrowed, and not widened by anything that may be asked."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import BadInput
from core.filters import DimensionFilter, FilterOp
from core.metrics import BUILT_IN, EVENT_DIMENSIONS
from query.calendar import buckets_of, covered
from query.narrowing import Range, narrowed
from query.question import Interval, MetricQuestion

NOW = datetime(2026, 1, 15, 12, 34, 56, tzinfo=UTC)
LOCKED = (DimensionFilter("country", FilterOp.EQ, ("DE",)),)
SAVED = MetricQuestion(
    metric="events",
    last="7d",
    interval=Interval.HOUR,
    filters=(DimensionFilter("device", FilterOp.NE, ("bot",)),),
    group_by=("browser",),
)


def ask(saved: MetricQuestion = SAVED, range: Range = Range(), filters: Any = (), **terms: Any) -> MetricQuestion:
    given: dict[str, Any] = {"locked": LOCKED, "ranges": (), "dimensions": None, **terms}
    return narrowed(saved, BUILT_IN, range=range, filters=filters, now=NOW, **given)


def code_of(**asked: Any) -> str:
    with pytest.raises(BadInput) as refusal:
        ask(**asked)
    return refusal.value.code


def at(**ago: float) -> datetime:
    return NOW - timedelta(**ago)


def test_the_links_conditions_always_hold_beside_the_questions_own_and_the_bearers() -> None:
    mine = DimensionFilter("browser", FilterOp.EQ, ("Firefox",))
    assert ask(filters=(mine,)).filters == (*SAVED.filters, *LOCKED, mine)
    assert ask().filters == (*SAVED.filters, *LOCKED)


def test_a_condition_that_contradicts_a_locked_one_takes_nothing_away() -> None:
    mine = DimensionFilter("country", FilterOp.EQ, ("FR",))
    found = ask(filters=(mine,), dimensions=("country",))
    assert found.filters == (*SAVED.filters, *LOCKED, mine)


@pytest.mark.parametrize("dimension", sorted(set(EVENT_DIMENSIONS) - {"browser"}))
def test_only_dimensions_that_it_is_grouped_by_can_be_narrowed_by_unless_the_link_says_more(dimension: str) -> None:
    mine = DimensionFilter(dimension, FilterOp.EQ, ("1",))
    assert code_of(filters=(mine,)) == "not_shared"
    assert ask(filters=(mine,), dimensions=(dimension,)).filters[-1] == mine
    assert code_of(filters=(DimensionFilter("browser", FilterOp.EQ, ("1",)),), dimensions=()) == "not_shared"


@pytest.mark.parametrize(
    "range",
    [
        Range(), Range(last="7d"), Range(last="24h"), Range(last="1m"), Range(from_=at(days=6), to=at(days=5)),
        Range(from_=at(hours=1), to=NOW),
    ],
)  # fmt: skip
def test_a_range_within_the_questions_own_is_given(range: Range) -> None:
    assert range.of(SAVED).span(NOW) == ask(range=range).span(NOW)


@pytest.mark.parametrize(
    "range",
    [
        Range(last="8d"), Range(last="169h"), Range(from_=at(days=8), to=at(days=6)), Range(from_=at(days=7.1), to=NOW),
        Range(from_=at(days=1), to=NOW + timedelta(hours=2)), Range(from_=at(days=40), to=at(days=39)),
    ],
)  # fmt: skip
def test_a_range_beyond_it_is_not(range: Range) -> None:
    assert code_of(range=range) == "not_shared"


@pytest.mark.parametrize("range", [Range(last="24x"), Range(last=""), Range(from_=at(days=1)), Range(to=NOW)])
def test_a_range_that_is_none_is_said_so(range: Range) -> None:
    assert code_of(range=range) == "bad_range"


def test_ranges_of_the_link_are_given_beside_the_questions_own_and_no_more() -> None:
    terms: dict[str, Any] = {"ranges": ("30d",)}
    assert ask(range=Range(last="30d"), **terms).last == "30d"
    assert ask(range=Range(from_=at(days=29), to=at(days=20)), **terms)
    assert code_of(range=Range(last="31d"), **terms) == "not_shared"
    assert code_of(range=Range(from_=at(days=31), to=at(days=20)), **terms) == "not_shared"


def test_whole_buckets_are_what_counts_so_that_a_long_interval_opens_nothing() -> None:
    """An hour of a question by months would be read as the whole month around it."""
    monthly = replace(
        SAVED, last=None, from_=datetime(2026, 1, 10, tzinfo=UTC), to=datetime(2026, 1, 12, tzinfo=UTC),
        interval=Interval.DAY,
    )  # fmt: skip
    edge = Range(from_=datetime(2026, 1, 11, 23, tzinfo=UTC), to=datetime(2026, 1, 12, tzinfo=UTC))
    assert ask(monthly, edge)
    with pytest.raises(BadInput):
        ask(monthly, Range(from_=datetime(2026, 1, 11, 23, tzinfo=UTC), to=datetime(2026, 1, 12, 0, 1, tzinfo=UTC)))
    # A day of a link's own is read as the month that it lies in, and only then is the rest of the month shared.
    by_month = replace(monthly, interval=Interval.MONTH)
    assert ask(by_month, Range(last="1d"))


@given(
    start=st.integers(-90 * 24 * 60, 60),
    length=st.integers(1, 100 * 24 * 60),
    interval=st.sampled_from(list(Interval)),
    own=st.sampled_from(["1h", "24h", "7d", "4w"]),
    also=st.lists(st.sampled_from(["2h", "3d", "10d"]), max_size=2),
    zone=st.sampled_from(["UTC", "Asia/Kathmandu", "America/New_York"]),
)
def test_nothing_is_read_before_the_first_or_after_the_last_bucket_that_is_shared(
    start: int, length: int, interval: Interval, own: str, also: list[str], zone: str
) -> None:
    saved = replace(SAVED, last=own, interval=interval, timezone=zone)
    begin = NOW + timedelta(minutes=start)
    range = Range(from_=begin, to=begin + timedelta(minutes=length))
    try:
        found = narrowed(saved, BUILT_IN, locked=LOCKED, ranges=also, dimensions=None, range=range, filters=(), now=NOW)
    except BadInput:
        return
    windows = [ends(replace(saved, last=last)) for last in [own, *also]]
    read = ends(found)
    assert any(first <= read[0] and read[1] <= last for first, last in windows)
    assert (found.metric, found.group_by, found.interval, found.timezone, found.include_bots) == (
        saved.metric, saved.group_by, saved.interval, saved.timezone, saved.include_bots,
    )  # fmt: skip
    assert found.filters == (*saved.filters, *LOCKED)


def ends(question: MetricQuestion) -> tuple[int, int]:
    """Of more buckets than can be asked for, too; the test below says that these are the ends of the buckets."""
    return covered(question.interval, *question.span(NOW), question.zone())


def test_a_range_that_is_too_long_for_its_buckets_can_be_narrowed() -> None:
    saved = replace(SAVED, last="1h", interval=Interval.MINUTE)
    wide = ["10d"]
    found = narrowed(
        saved, BUILT_IN, locked=(), ranges=wide, dimensions=None, range=Range(last="3h"), filters=(), now=NOW
    )
    assert found.last == "3h"


@given(
    start=st.datetimes(datetime(2010, 1, 1), datetime(2026, 1, 1)),
    minutes=st.integers(1, 60 * 24 * 34),
    interval=st.sampled_from([Interval.AUTO, Interval.FIVE_MINUTES, Interval.HOUR, Interval.DAY, Interval.WEEK,
                              Interval.MONTH]),
    # Half an hour at once, a day left out, three quarters of an hour.
    zone=st.sampled_from(["UTC", "Australia/Lord_Howe", "Pacific/Apia", "Asia/Kathmandu", "America/New_York"]),
)  # fmt: skip
def test_what_a_range_covers_is_where_its_buckets_begin_and_end(
    start: datetime, minutes: int, interval: Interval, zone: str
) -> None:
    begin = start.replace(tzinfo=UTC)
    end = begin + timedelta(minutes=minutes)
    edges_ = buckets_of(interval, begin, end, ZoneInfo(zone)).edges
    assert covered(interval, begin, end, ZoneInfo(zone)) == (edges_[0], edges_[-1])
