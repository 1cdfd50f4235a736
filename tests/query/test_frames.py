"""A frame applied to what a reader has gives what a query gives; for any answers, groups and ranges that move."""

from __future__ import annotations

import dataclasses
import random
from datetime import UTC, datetime, timedelta

import pytest

from query.answer import Columns, Series
from query.frames import (
    Change,
    Fault,
    Frame,
    FrameKind,
    Shown,
    after_frame,
    applied,
    bridge,
    decode_frame,
    differences,
    encode_frame,
    whole,
)

START = datetime(2026, 3, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def shown_of(values: dict[str, list[float | None]], *, first: int = 0) -> Shown:
    """Columns of one-minute buckets from minute `first` on."""
    count = len(next(iter(values.values()), []))
    stamps = [int((START + (first + n) * MINUTE).timestamp() * 1000) for n in range(count)]
    series = [Series({"g": name} if name else {}, line, sum(v or 0 for v in line)) for name, line in values.items()]
    return Shown(Columns(stamps, series), START + first * MINUTE, START + (first + count) * MINUTE)


def told(before: Shown, after: Shown) -> list[tuple[FrameKind, int]]:
    return [(kind, len(change.columns.timestamps)) for kind, change in differences(0, before, after)]


def test_the_open_bucket_is_a_delta_and_a_closed_one_a_revision() -> None:
    before = shown_of({"": [1, 2, 3]})
    assert told(before, shown_of({"": [1, 2, 4]})) == [(FrameKind.DELTA, 1)]
    assert told(before, shown_of({"": [1, 5, 3]})) == [(FrameKind.REVISION, 1)]
    assert told(before, shown_of({"": [7, 5, 4]})) == [(FrameKind.REVISION, 2), (FrameKind.DELTA, 1)]
    assert told(before, shown_of({"": [1, 2, 3]})) == []


def test_a_bucket_that_was_open_when_last_shown_is_not_late() -> None:
    assert told(shown_of({"": [1, 2, 3]}), shown_of({"": [2, 9, 0]}, first=1)) == [(FrameKind.DELTA, 2)]


def test_a_range_that_reaches_into_the_future_has_its_open_bucket_where_now_is() -> None:
    before = dataclasses.replace(shown_of({"": [1, 2, 0]}), at=START + 1.5 * MINUTE)
    assert told(before, shown_of({"": [1, 3, 0]})) == [(FrameKind.DELTA, 1)]
    assert told(before, shown_of({"": [4, 3, 0]})) == [(FrameKind.REVISION, 1), (FrameKind.DELTA, 1)]


def test_a_group_that_comes_or_goes_is_told_with_all_buckets() -> None:
    before = shown_of({"a": [1, 2], "b": [1, 1]})
    assert told(before, shown_of({"a": [1, 2], "c": [0, 1]})) == [(FrameKind.DELTA, 2)]
    assert told(before, shown_of({"a": [1, 2], "c": [3, 1]})) == [(FrameKind.REVISION, 2)]


def test_a_total_alone_is_a_change() -> None:
    """Uniques of a whole range may change where no bucket's do."""
    before = shown_of({"": [1, 2]})
    line = before.columns.series[0]
    after = Shown(Columns(before.columns.timestamps, [Series({}, line.values, 99)]), before.from_, before.to)
    ((kind, change),) = differences(0, before, after)
    assert kind is FrameKind.DELTA and change.columns.timestamps == []
    assert applied(before, change) == after


def test_a_fault_leaves_what_is_shown_and_is_told_once() -> None:
    before = shown_of({"": [1, 2]})
    away = Shown(before.columns, before.from_, before.to, Fault("query_too_slow", "Ask for less."))
    ((_, change),) = differences(3, before, away)
    assert change.index == 3 and change.fault == away.fault and applied(before, change) == away
    assert differences(3, away, away) == []
    back = differences(0, away, before)
    assert [applied(away, change) for _, change in back] == [before]


def answers(random_: random.Random) -> list[Shown]:
    """A walk: buckets grow, old ones are revised, groups come and go, the range moves on."""
    first, names = 0, ["a", "b"]
    values: dict[str, list[float | None]] = {name: [float(random_.randint(0, 9)) for _ in range(6)] for name in names}
    found = []
    for _ in range(random_.randint(2, 25)):
        match random_.choice(["grow", "grow", "late", "move", "come", "go", "null", "swap", "still"]):
            case "grow":
                random_.choice(list(values.values()))[-1] = random_.randint(0, 99)
            case "late":
                random_.choice(list(values.values()))[random_.randint(0, 4)] = random_.randint(0, 99)
            case "null":
                random_.choice(list(values.values()))[random_.randint(0, 5)] = None
            case "move":
                by = random_.randint(1, 8)
                first += by
                values = {name: (line + [0.0] * by)[-6:] for name, line in values.items()}
            case "come":
                values[random_.choice("cdefgh")] = [float(random_.randint(0, 3)) for _ in range(6)]
            case "go" if len(values) > 1:
                del values[random_.choice(list(values))]
            case "swap":
                values = dict(sorted(values.items(), key=lambda item: random_.random()))
        found.append(shown_of({name: list(line) for name, line in values.items()}, first=first))
    return found


@pytest.mark.parametrize("seed", range(150))
def test_frames_applied_give_the_answer_of_a_query(seed: int) -> None:
    reader: Shown | None = None
    walk = answers(random.Random(seed))
    for before, after in zip(walk, walk[1:], strict=False):
        reader = reader or before
        for _, change in differences(0, before, after):
            reader = applied(reader, change)
        assert reader == after


@pytest.mark.parametrize("seed", range(150))
def test_one_frame_bridges_any_two_answers(seed: int) -> None:
    random_ = random.Random(seed)
    walks = [answers(random_) for _ in range(3)]
    had, now = [walk[0] for walk in walks], [walk[-1] for walk in walks]
    kind, changes = bridge(had, now)
    assert after_frame(had, Frame(kind, 1, "e", None, changes)) == now
    assert (kind is FrameKind.HEARTBEAT) == (had == now)


@pytest.mark.parametrize("seed", range(50))
def test_a_frame_in_the_ring_is_the_frame(seed: int) -> None:
    shown = answers(random.Random(seed))
    fault = Change(1, Columns([], []), shown[0].change(1, Columns([], [])).json, None, None, Fault("a", "b"))
    frame = Frame(FrameKind.SNAPSHOT, 7, "epoch", START, (*whole(shown[-1:]), fault))
    kept = decode_frame(encode_frame(frame))
    assert (kept.kind, kept.seq, kept.epoch, kept.watermark) == (frame.kind, 7, "epoch", START)
    assert after_frame([], kept) == after_frame([], frame)
    assert bytes(kept.json) == bytes(frame.json)
