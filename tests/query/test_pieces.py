"""Pieces cover what is asked, once, and none of their stored buckets crosses an edge."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from hypothesis import given
from hypothesis import strategies as st

from core.rollups import Resolution
from query.calendar import buckets_of
from query.pieces import Piece, pieces_of
from query.planner import BEGINNING
from query.question import Interval

START = datetime(2026, 3, 27, tzinfo=UTC)
LEVELS = (Resolution.HOUR, Resolution.FIVE_MINUTES, Resolution.MINUTE, None)
ALL: dict[Resolution | None, int] = dict.fromkeys(LEVELS, BEGINNING)
DAY = 86_400


@given(
    interval=st.sampled_from([Interval.FIVE_MINUTES, Interval.HOUR, Interval.DAY, Interval.WEEK, Interval.MONTH]),
    zone=st.sampled_from(["UTC", "Asia/Kolkata", "Australia/Lord_Howe", "America/St_Johns", "Europe/Berlin"]),
    start=st.integers(0, 20 * 1440).map(lambda n: n * 397 % (20 * 1440)),
    length=st.integers(1, 8 * 1440),
    since=st.lists(st.integers(-2, 25), min_size=4, max_size=4),
)
def test_every_moment_is_read_once_from_a_store_that_has_it(
    interval: Interval, zone: str, start: int, length: int, since: list[int]
) -> None:
    first = START + timedelta(minutes=start)
    edges = buckets_of(interval, first, first + timedelta(minutes=length), ZoneInfo(zone)).edges
    stores = {level: int(START.timestamp()) + days * DAY for level, days in zip(LEVELS, since, strict=True)}
    pieces, missing = pieces_of(edges, stores)
    for piece in pieces:
        if piece.resolution is None or piece.start == piece.end:
            continue
        seconds = piece.resolution.seconds
        assert piece.start % seconds == piece.end % seconds == 0 and piece.start >= stores[piece.resolution]
        assert all(edge % seconds == 0 for edge in edges if piece.start < edge < piece.end)
    spans = sorted((piece.start, piece.end) for piece in pieces if piece.start < piece.end)
    assert all(end == following for (_, end), (following, _) in zip(spans, spans[1:], strict=False))
    if spans:
        assert (spans[0][0], spans[-1][1]) == (edges[0] if missing is None else missing, edges[-1])
    else:
        assert missing == edges[-1]


def test_what_is_gone_is_left_out_up_to_the_last_gap() -> None:
    """Half of a local day's hours would look like a fall."""
    half_hour = 1800
    edges = tuple(n * DAY - half_hour for n in range(1, 5))
    since = {Resolution.HOUR: BEGINNING, Resolution.FIVE_MINUTES: 2 * DAY + half_hour, None: 9 * DAY}
    pieces, missing = pieces_of(edges, since)
    # The day that ends at 3 * DAY - half an hour begins before the finer rollup does.
    assert missing == 2 * DAY
    assert min(piece.start for piece in pieces) == 2 * DAY


def test_a_coarse_store_is_taken_only_where_it_spares_more_than_a_statement() -> None:
    hour = 3600
    few = (hour // 2, hour * 3 + hour // 2)
    assert pieces_of(few, ALL)[0] == (Piece(Resolution.FIVE_MINUTES, *few),)
    many = (hour // 2, hour * 30 + hour // 2)
    assert {piece.resolution for piece in pieces_of(many, ALL)[0]} == {Resolution.HOUR, Resolution.FIVE_MINUTES}
