"""Readers share a stream's frames; one that does not take them loses nothing but the frames between."""

from __future__ import annotations

import time

import pytest

from core.errors import CloudMetricsError
from query.answer import Columns, Series
from query.frames import Frame, FrameKind, Shown, after_frame, differences, whole
from resolvers import live_log
from resolvers.live_log import FrameLog, GoingAway, Reader


class Stream:
    """A stream without a task: told by hand."""

    def __init__(self) -> None:
        self.log = FrameLog("epoch", 1)
        self.error: CloudMetricsError | None = None

    def show(self, value: float) -> None:
        after = Shown(Columns([0], [Series({}, [value], value)]))
        before, self.log.shown[0] = self.log.shown[0], after
        if not self.log.is_answered:
            self.log.is_answered = True
            self.log.add(FrameKind.SNAPSHOT, whole(self.log.shown))
            return
        for kind, change in differences(0, before, after):
            self.log.add(kind, [change])


def reader_of(stream: Stream) -> Reader:
    reader = Reader(stream, lambda: None, time.monotonic() + 1000)
    reader.begin()
    return reader


def kinds(frames: list[Frame]) -> list[str]:
    return [frame.kind.value for frame in frames]


def test_who_comes_before_the_first_answer_gets_it_as_a_frame() -> None:
    stream = Stream()
    reader = reader_of(stream)
    assert reader.take() == []
    stream.show(1)
    assert kinds(reader.take()) == ["SNAPSHOT"] and reader.take() == []


def test_who_comes_later_begins_with_the_whole_made_once() -> None:
    stream = Stream()
    stream.show(1)
    stream.show(2)
    one, two = reader_of(stream).take(), reader_of(stream).take()
    assert kinds(one) == ["SNAPSHOT"] and one[0] is two[0] and one[0].seq == 2
    assert one[0].columns.series[0].values == [2]


def test_all_readers_get_the_same_frames() -> None:
    stream = Stream()
    stream.show(1)
    one, two = reader_of(stream), reader_of(stream)
    one.take(), two.take()
    stream.show(2)
    (mine,), (theirs,) = one.take(), two.take()
    assert mine is theirs and mine.kind is FrameKind.DELTA and mine.seq == 2


def test_a_reader_that_slept_gets_a_gap_and_the_whole() -> None:
    stream = Stream()
    stream.show(0)
    slow, quick = reader_of(stream), reader_of(stream)
    state = after_frame([Shown()], slow.take()[0])
    for value in range(1, live_log.MAX_BEHIND + 2):
        stream.show(value)
        assert kinds(quick.take())[-1] == "DELTA"
    frames = slow.take()
    assert kinds(frames) == ["GAP", "SNAPSHOT"]
    assert frames[1].seq == frames[0].seq + 1 and frames[0].cursor.endswith(".0")
    for frame in frames:
        state = after_frame(state, frame)
    assert state == stream.log.shown
    stream.show(999)
    assert [frame.seq for frame in slow.take()] == [frames[1].seq + 1]


def test_what_is_kept_is_bounded_and_without_a_hole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_log, "MAX_KEPT_BYTES", 4000)
    stream = Stream()
    for value in range(100):
        stream.show(value)
    assert stream.log.since(0) is None and stream.log.since(101) is None
    kept = stream.log.since(stream.log.oldest - 1)
    assert kept is not None and 0 < len(kept) < 20
    assert [frame.seq for frame in kept] == list(range(stream.log.oldest, 101))


def test_a_reader_has_a_fixed_life() -> None:
    stream = Stream()
    stream.show(1)
    reader = Reader(stream, lambda: None, time.monotonic() - 1)
    reader.begin()
    assert kinds(reader.take()) == ["SNAPSHOT"]
    stream.show(2)
    with pytest.raises(GoingAway):
        reader.take()


def test_what_a_stream_ended_of_is_told_after_its_last_frames() -> None:
    stream = Stream()
    stream.show(1)
    reader = reader_of(stream)
    stream.error = CloudMetricsError("over")
    assert kinds(reader.take()) == ["SNAPSHOT"]
    with pytest.raises(CloudMetricsError):
        reader.take()
