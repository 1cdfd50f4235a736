"""Buckets of a range in a time zone. Days, weeks (from Monday) and months begin at local midnight."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from math import ceil
from zoneinfo import ZoneInfo

from query.question import Interval, bad

MAX_BUCKETS = 10_000

# AUTO takes the shortest interval that keeps a chart at a few hundred points.
_AUTO = (
    (timedelta(hours=3), Interval.MINUTE),
    (timedelta(hours=26), Interval.FIVE_MINUTES),
    (timedelta(days=15), Interval.HOUR),
    (timedelta(days=400), Interval.DAY),
    (timedelta(days=1200), Interval.WEEK),
)
_STEADY_SECONDS = 6 * 3600
_SECONDS = {Interval.MINUTE: 60, Interval.FIVE_MINUTES: 300, Interval.HOUR: 3600}
_ROUGHLY = {Interval.DAY: 86_400, Interval.WEEK: 604_800, Interval.MONTH: 2_592_000}


@dataclass(frozen=True, slots=True)
class Buckets:
    """Whole buckets that cover a range: `edges` in epoch seconds, one more than there are buckets."""

    interval: Interval
    edges: tuple[int, ...]

    @property
    def starts(self) -> tuple[int, ...]:
        return self.edges[:-1]

    def slot_of(self, moment: int) -> int:
        """Which bucket a moment (epoch seconds) falls in; -1 or the count when outside."""
        return bisect_right(self.edges, moment) - 1


def chosen_interval(interval: Interval, start: datetime, end: datetime) -> Interval:
    """The interval, AUTO resolved."""
    if interval is not Interval.AUTO:
        return interval
    return next((auto for longest, auto in _AUTO if end - start <= longest), Interval.MONTH)


def buckets_of(interval: Interval, start: datetime, end: datetime, zone: ZoneInfo) -> Buckets:
    """The buckets that cover [start, end).

    Raises:
        BadInput: more than 10,000.
    """
    interval = checked_interval(interval, start, end)
    length = _SECONDS.get(interval) or 0
    edges = _clock_edges(length, start, end, zone) if length else _day_edges(interval, start, end, zone)
    return Buckets(interval, tuple(edges))


def covered(interval: Interval, start: datetime, end: datetime, zone: ZoneInfo) -> tuple[int, int]:
    """The first and the last edge of those buckets, in some steps however many there are."""
    interval = chosen_interval(interval, start, end)
    moment = timedelta(seconds=1)
    # Where a clock was moved, edges differ for an hour or so; from some before they are as on the whole way.
    shortly = timedelta(seconds=3 * (_SECONDS.get(interval) or _ROUGHLY[interval]))
    first = buckets_of(interval, start, min(end, start + moment), zone).edges[0]
    return first, buckets_of(interval, max(start, end - shortly), end, zone).edges[-1]


def checked_interval(interval: Interval, start: datetime, end: datetime) -> Interval:
    """The interval of a range, AUTO resolved.

    Raises:
        BadInput: the range has more than 10,000 of them.
    """
    interval = chosen_interval(interval, start, end)
    length = _SECONDS.get(interval) or _ROUGHLY[interval]
    count = (end - start).total_seconds() / length
    if count > MAX_BUCKETS:
        raise bad(
            "range_too_large",
            "range",
            f"The range has {int(count)} buckets of {interval.value}; at most {MAX_BUCKETS}. Take a longer interval, "
            "AUTO, or a shorter range.",
        )
    return interval


def _clock_edges(length: int, start: datetime, end: datetime, zone: ZoneInfo) -> list[int]:
    edges = [_floor(int(start.timestamp()), length, zone)]
    last = end.timestamp()
    if _is_steady(zone, edges[0], int(last) + length):
        return list(range(edges[0], ceil(last) + length, length))[: ceil((last - edges[0]) / length) + 1]
    while edges[-1] < last:
        following = _floor(edges[-1] + length, length, zone)
        # Where a zone moves its clock by half an hour, an hour has 30 or 90 minutes.
        edges.append(following if following > edges[-1] else edges[-1] + length)
    return edges


def _is_steady(zone: ZoneInfo, start: int, end: int) -> bool:
    """Whether a zone's clock is not moved between two moments; no zone moved it there and back within six hours."""
    if zone.key == "UTC":
        return True
    offsets = {datetime.fromtimestamp(at, zone).utcoffset() for at in (*range(start, end, _STEADY_SECONDS), end)}
    return len(offsets) == 1


def _floor(moment: int, length: int, zone: ZoneInfo) -> int:
    offset = datetime.fromtimestamp(moment, zone).utcoffset() or timedelta()
    shift = int(offset.total_seconds()) % length
    return (moment + shift) // length * length - shift


def _day_edges(interval: Interval, start: datetime, end: datetime, zone: ZoneInfo) -> list[int]:
    day = start.astimezone(zone).date()
    if interval is Interval.WEEK:
        day -= timedelta(days=day.weekday())
    elif interval is Interval.MONTH:
        day = day.replace(day=1)
    edges = [_midnight(day, zone)]
    while edges[-1] < end.timestamp():
        day = _following(day, interval)
        midnight = _midnight(day, zone)
        # A zone that crossed the date line left a day out (Samoa, 30 December 2011): it has no bucket.
        if midnight > edges[-1]:
            edges.append(midnight)
    return edges


def _following(day: date, interval: Interval) -> date:
    if interval is Interval.MONTH:
        return (day.replace(day=1) + timedelta(days=32)).replace(day=1)
    return day + timedelta(days=7 if interval is Interval.WEEK else 1)


def _midnight(day: date, zone: ZoneInfo) -> int:
    return int(datetime(day.year, day.month, day.day, tzinfo=zone).astimezone(UTC).timestamp())
