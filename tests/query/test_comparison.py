"""Which earlier time stands beside a range."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from query.comparison import earlier
from query.question import Alignment, Comparison, Interval, MetricQuestion

PERIOD, YEAR = Comparison.PREVIOUS_PERIOD, Comparison.PREVIOUS_YEAR
DATE, WEEKDAY = Alignment.DATE, Alignment.WEEKDAY


def local(zone: str, *parts: int) -> datetime:
    return datetime(*parts, tzinfo=ZoneInfo(zone))  # type: ignore[arg-type,misc]


@pytest.mark.parametrize(
    ("compare_to", "alignment", "asked", "expected"),
    [
        # Whole months by the month, whole days by the day.
        (PERIOD, DATE, ((2026, 3, 1), (2026, 4, 1)), ((2026, 2, 1), (2026, 3, 1))),
        (PERIOD, DATE, ((2026, 1, 1), (2026, 4, 1)), ((2025, 10, 1), (2026, 1, 1))),
        (PERIOD, DATE, ((2026, 4, 6), (2026, 4, 13)), ((2026, 3, 30), (2026, 4, 6))),
        # The clock of Berlin was moved on 29 March: the day before has its own 23 hours.
        (PERIOD, DATE, ((2026, 3, 30), (2026, 3, 31)), ((2026, 3, 29), (2026, 3, 30))),
        (PERIOD, DATE, ((2026, 4, 7, 10, 30), (2026, 4, 8, 10, 30)), ((2026, 4, 6, 10, 30), (2026, 4, 7, 10, 30))),
        (PERIOD, DATE, ((2026, 4, 7, 10), (2026, 4, 7, 13)), ((2026, 4, 7, 7), (2026, 4, 7, 10))),
        (PERIOD, WEEKDAY, ((2026, 4, 7), (2026, 4, 8)), ((2026, 3, 31), (2026, 4, 1))),
        (PERIOD, WEEKDAY, ((2026, 3, 1), (2026, 4, 1)), ((2026, 1, 25), (2026, 2, 25))),
        (YEAR, DATE, ((2024, 2, 29), (2024, 3, 1)), ((2023, 2, 28), (2023, 3, 1))),
        (YEAR, DATE, ((2026, 3, 30, 12), (2026, 3, 31, 12)), ((2025, 3, 30, 12), (2025, 3, 31, 12))),
        (YEAR, WEEKDAY, ((2026, 4, 6), (2026, 4, 13)), ((2025, 4, 7), (2025, 4, 14))),
    ],
)
def test_an_earlier_time_is(compare_to: Comparison, alignment: Alignment, asked: Any, expected: Any) -> None:
    zone = "Europe/Berlin"
    question = MetricQuestion(
        metric="events",
        from_=local(zone, *asked[0]),
        to=local(zone, *asked[1]),
        timezone=zone,
        compare_to=compare_to,
        alignment=alignment,
    )
    found = earlier(question, datetime(2026, 4, 10, tzinfo=UTC))
    assert (found.from_, found.to) == (local(zone, *expected[0]), local(zone, *expected[1]))
    assert found.compare_to is None


def test_the_same_interval_is_taken_for_both() -> None:
    """A range just longer than AUTO's bound for hours, beside a month that is shorter."""
    zone = ZoneInfo("UTC")
    question = MetricQuestion(
        metric="events", from_=datetime(2026, 3, 1, tzinfo=zone), to=datetime(2026, 4, 1, tzinfo=zone),
        compare_to=PERIOD,
    )  # fmt: skip
    assert earlier(question, datetime(2026, 4, 10, tzinfo=UTC)).interval is Interval.DAY
