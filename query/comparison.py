"""The earlier time that an answer is set beside. Pure.

By DATE, a period of whole local months is moved by as many months, one of whole local days by as many days, any other
by its own length; a year is the same date a year before (29 February: the 28th). By WEEKDAY it is moved by the fewest
whole weeks that clear it, a year by 52 weeks, so that Mondays stand beside Mondays. Local clocks keep their time across
changes of summer time.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from query.calendar import chosen_interval
from query.question import Alignment, Comparison, MetricQuestion

WEEK = timedelta(days=7)
MIDNIGHT = (0, 0, 0, 0)


def earlier(question: MetricQuestion, now: datetime) -> MetricQuestion:
    """The question about the time that it is compared to, with a range of its own. Raises BadInput as `span`."""
    start, end = question.span(now)
    zone = question.zone()
    first, last = start.astimezone(zone), end.astimezone(zone)
    if question.compare_to is Comparison.PREVIOUS_YEAR:
        moved = [_weeks_before(at, 52) if question.alignment is Alignment.WEEKDAY else _months_before(at, 12)
                 for at in (first, last)]  # fmt: skip
    elif question.alignment is Alignment.WEEKDAY:
        weeks = max(1, -((start - end) // WEEK))
        moved = [_weeks_before(at, weeks) for at in (first, last)]
    else:
        moved = _period_before(first, last)
    # A month is shorter than the next: AUTO must not choose for each.
    interval = chosen_interval(question.interval, start, end)
    return replace(
        question, last=None, from_=_in_utc(moved[0]), to=_in_utc(moved[1]), interval=interval, compare_to=None
    )


def _period_before(first: datetime, last: datetime) -> list[datetime]:
    if _clock(first) == _clock(last) == MIDNIGHT:
        if first.day == last.day == 1:
            months = (last.year - first.year) * 12 + last.month - first.month
            return [_months_before(first, months), first]
        days = (last.date() - first.date()).days
        return [_days_before(first, days), first]
    # Aware times of one zone are subtracted as clocks show them; a length is what has really passed.
    length = last.astimezone(UTC) - first.astimezone(UTC)
    if length % timedelta(days=1) == timedelta():
        return [_days_before(at, length.days) for at in (first, last)]
    return [(at.astimezone(UTC) - length).astimezone(first.tzinfo) for at in (first, last)]


def _weeks_before(at: datetime, weeks: int) -> datetime:
    return _days_before(at, 7 * weeks)


def _days_before(at: datetime, days: int) -> datetime:
    """The same time by the clock, so many days before."""
    return at - timedelta(days=days)


def _months_before(at: datetime, months: int) -> datetime:
    month = at.year * 12 + at.month - 1 - months
    first = at.replace(year=month // 12, month=month % 12 + 1, day=1)
    following = (first + timedelta(days=32)).replace(day=1)
    return first + timedelta(days=min(at.day, (following - first).days) - 1)


def _clock(at: datetime) -> tuple[int, int, int, int]:
    return at.hour, at.minute, at.second, at.microsecond


def _in_utc(at: datetime) -> datetime:
    return at.astimezone(UTC)
