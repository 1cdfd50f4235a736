"""Edges of buckets: reckoned at once where a clock stands still, step by step where it is moved; the same."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from query import calendar
from query.calendar import buckets_of
from query.question import Interval

ZONES = (
    "UTC", "Europe/Berlin", "America/St_Johns", "Asia/Kolkata", "Asia/Kathmandu", "Australia/Lord_Howe",
    "Africa/Casablanca",
)  # fmt: skip


@settings(max_examples=150)
@given(
    st.datetimes(datetime(2023, 1, 1), datetime(2027, 1, 1)),
    st.integers(1, 5 * 86_400),
    st.sampled_from(ZONES),
    st.sampled_from([Interval.MINUTE, Interval.FIVE_MINUTES, Interval.HOUR]),
)
def test_both_ways_give_the_same_edges(start: datetime, seconds: int, name: str, interval: Interval) -> None:
    begin, zone = start.replace(tzinfo=UTC), ZoneInfo(name)
    end = begin + timedelta(seconds=seconds)
    found = buckets_of(interval, begin, end, zone).edges
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(calendar, "_is_steady", lambda *_: False)
        assert buckets_of(interval, begin, end, zone).edges == found
    assert found[0] <= begin.timestamp() < found[1] and found[-2] < end.timestamp() <= found[-1]
