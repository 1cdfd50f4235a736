"""Live frames: what changed between two answers, and how a reader applies it. Pure.

A SNAPSHOT holds whole answers. A DELTA or REVISION holds the changed buckets with their whole values, for every series
that the answer has now, in its order, with its total; so `applied` makes of what a reader has exactly what a query
gives: series that a frame does not name are gone, and so are buckets before its `from_`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum

import msgspec

from query.answer import Answer, Columns, Series, take


class FrameKind(StrEnum):
    """What a live frame is."""

    SNAPSHOT = "SNAPSHOT"
    DELTA = "DELTA"
    REVISION = "REVISION"
    GAP = "GAP"
    HEARTBEAT = "HEARTBEAT"


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a question has no answer now."""

    code: str
    message: str


NOTHING = Columns([], [])
_encoder = msgspec.json.Encoder()
NOTHING_JSON = msgspec.Raw(_encoder.encode(NOTHING))


@dataclass(frozen=True, slots=True, eq=False)
class Change:
    """What became of one question's answer. `index`: which question; `from_` and `to`: what the answer covers now;
    `json`: the columns, encoded once for all who read them."""

    index: int
    columns: Columns
    json: msgspec.Raw
    from_: datetime | None
    to: datetime | None
    fault: Fault | None = None


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Frame:
    """One frame of a stream, shared by all its readers; `seq` counts within an `epoch`."""

    kind: FrameKind
    seq: int
    epoch: str
    watermark: datetime | None
    changes: tuple[Change, ...] = ()

    @property
    def cursor(self) -> str:
        """What a reader resumes from. After a GAP it has nothing to go on from but the whole."""
        return f"{self.epoch}.{0 if self.kind is FrameKind.GAP else self.seq}"

    @property
    def columns(self) -> Columns:
        """The buckets, where the stream is of one question."""
        return self.changes[0].columns if self.changes else NOTHING

    @property
    def json(self) -> msgspec.Raw:
        """The same, encoded."""
        return self.changes[0].json if self.changes else NOTHING_JSON

    @property
    def from_(self) -> datetime | None:
        return self.changes[0].from_ if self.changes else None

    @property
    def to(self) -> datetime | None:
        return self.changes[0].to if self.changes else None

    @property
    def size(self) -> int:
        """About how many bytes it takes."""
        return 200 + sum(100 + len(bytes(change.json)) for change in self.changes)


@dataclass(frozen=True, slots=True)
class Shown:
    """What a reader has of one question: its columns and what they cover; or why there are none. `at`: when that was
    so; a bucket that begins later is open, and so is the one that holds it."""

    columns: Columns = NOTHING
    from_: datetime | None = None
    to: datetime | None = None
    fault: Fault | None = None
    at: datetime | None = field(default=None, compare=False)

    @classmethod
    def of(cls, answer: Answer, at: datetime | None = None) -> Shown:
        return cls(answer.columns, answer.from_, answer.to, at=at)

    @property
    def open_from(self) -> float:
        """Start of the first open bucket, in epoch milliseconds."""
        now = self.at.timestamp() * 1000 if self.at is not None else float("inf")
        return next((stamp for stamp in reversed(self.columns.timestamps) if stamp <= now), float("-inf"))

    def change(self, index: int, columns: Columns) -> Change:
        """A change that speaks of some of the columns."""
        return Change(index, columns, msgspec.Raw(_encoder.encode(columns)), self.from_, self.to, self.fault)


def whole(shown: Sequence[Shown]) -> tuple[Change, ...]:
    """The changes of a SNAPSHOT."""
    return tuple(state.change(index, state.columns) for index, state in enumerate(shown))


def differences(index: int, before: Shown, after: Shown) -> list[tuple[FrameKind, Change]]:
    """What turns `before` into `after`: a REVISION of buckets that were closed, a DELTA of the others; none when they
    are the same. Where the series are not the same ones, every bucket is told, in one frame."""
    if after.fault is not None:
        return [] if before.fault == after.fault else [(FrameKind.DELTA, after.change(index, NOTHING))]
    old = {_identity(series): series for series in before.columns.series}
    new = {_identity(series): series for series in after.columns.series}
    closed_before = before.open_from
    changed = _changed(before.columns, after.columns)
    late = [n for n in changed if after.columns.timestamps[n] < closed_before]
    if old.keys() != new.keys():
        kind = FrameKind.REVISION if late else FrameKind.DELTA
        return [(kind, after.change(index, after.columns))]
    live = [n for n in changed if after.columns.timestamps[n] >= closed_before]
    parts = [(FrameKind.REVISION, late), (FrameKind.DELTA, live)]
    told = [(kind, after.change(index, take(after.columns, places))) for kind, places in parts if places]
    if told or _is_same_but_for_buckets(before, after):
        return told
    return [(FrameKind.DELTA, after.change(index, take(after.columns, [])))]


def applied(before: Shown, change: Change, at: datetime | None = None) -> Shown:
    """What a reader has who had `before`, after a DELTA or REVISION."""
    if change.fault is not None:
        return replace(before, fault=change.fault)
    first = _milliseconds(change.from_)
    old = before.columns
    kept = [(stamp, n) for n, stamp in enumerate(old.timestamps) if stamp >= first]
    stamps = sorted({stamp for stamp, _ in kept} | set(change.columns.timestamps))
    known = {_identity(series): series for series in old.series}
    lines = []
    for series in change.columns.series:
        line = known.get(_identity(series))
        values = {stamp: line.values[n] for stamp, n in kept} if line is not None else {}
        values.update(zip(change.columns.timestamps, series.values, strict=True))
        lines.append(Series(series.labels, [values.get(stamp) for stamp in stamps], series.total))
    return Shown(Columns(stamps, lines), change.from_, change.to, at=at)


def after_frame(before: Sequence[Shown], frame: Frame) -> list[Shown]:
    """What a reader of the stream has after a frame."""
    if frame.kind is FrameKind.SNAPSHOT:
        at = frame.watermark
        return [Shown(change.columns, change.from_, change.to, change.fault, at) for change in frame.changes]
    after = list(before)
    for change in frame.changes:
        after[change.index] = applied(after[change.index], change, frame.watermark)
    return after


def bridge(before: Sequence[Shown], now: Sequence[Shown]) -> tuple[FrameKind, tuple[Change, ...]]:
    """One frame that takes a reader from what it has to what there is now; a HEARTBEAT when that is the same."""
    changes = []
    is_late = False
    for index, (old, new) in enumerate(zip(before, now, strict=True)):
        told = differences(index, old, new)
        is_late |= any(kind is FrameKind.REVISION for kind, _ in told)
        if len(told) == 1:
            changes.append(told[0][1])
        elif told:
            changes.append(new.change(index, take(new.columns, _changed(old.columns, new.columns))))
    if not changes:
        return FrameKind.HEARTBEAT, ()
    return FrameKind.REVISION if is_late else FrameKind.DELTA, tuple(changes)


def _changed(before: Columns, after: Columns) -> list[int]:
    """Positions of the buckets of `after` that are new or have another value. What a series that was not there has of
    nothing is no other value."""
    old_at = {stamp: n for n, stamp in enumerate(before.timestamps)}
    old = {_identity(series): series for series in before.series}
    pairs = [(old.get(_identity(series)), series.values) for series in after.series]
    is_aligned = before.timestamps == after.timestamps
    pairs = [(line, values) for line, values in pairs if not (is_aligned and line and line.values == values)]
    return [
        n
        for n, stamp in enumerate(after.timestamps)
        if stamp not in old_at or any(_differs(line, old_at[stamp], values[n]) for line, values in pairs)
    ]


def _differs(line: Series | None, position: int, value: float | None) -> bool:
    return bool(value) if line is None else line.values[position] != value


def _is_same_but_for_buckets(before: Shown, after: Shown) -> bool:
    old, new = before.columns, after.columns
    return (
        before.fault == after.fault
        and before.from_ == after.from_
        and [(_identity(s), s.total) for s in old.series] == [(_identity(s), s.total) for s in new.series]
    )


def _identity(series: Series) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(series.labels.items()))


def _milliseconds(moment: datetime | None) -> float:
    return moment.timestamp() * 1000 if moment is not None else float("-inf")


class _Packed(msgspec.Struct, array_like=True):
    """A change on its way through the ring."""

    index: int
    columns: msgspec.Raw
    from_ms: int | None
    to_ms: int | None
    fault: tuple[str, str] | None


class _PackedFrame(msgspec.Struct, array_like=True):
    """A frame on its way through the ring."""

    kind: FrameKind
    seq: int
    epoch: str
    watermark_ms: int | None
    changes: list[_Packed]


_frame_decoder = msgspec.json.Decoder(_PackedFrame)
_columns_decoder = msgspec.json.Decoder(Columns)


def encode_frame(frame: Frame) -> bytes:
    """A frame as the ring keeps it."""
    changes = [
        _Packed(
            change.index,
            change.json,
            _to_ms(change.from_),
            _to_ms(change.to),
            (change.fault.code, change.fault.message) if change.fault else None,
        )
        for change in frame.changes
    ]
    return _encoder.encode(_PackedFrame(frame.kind, frame.seq, frame.epoch, _to_ms(frame.watermark), changes))


def decode_frame(data: bytes) -> Frame:
    """The frame that was kept.

    Raises:
        ValueError: the bytes are none of this version.
    """
    packed = _frame_decoder.decode(data)
    changes = tuple(
        Change(
            part.index,
            _columns_decoder.decode(part.columns),
            msgspec.Raw(bytes(part.columns)),
            _of_ms(part.from_ms),
            _of_ms(part.to_ms),
            Fault(*part.fault) if part.fault else None,
        )
        for part in packed.changes
    )
    return Frame(packed.kind, packed.seq, packed.epoch, _of_ms(packed.watermark_ms), changes)


def _to_ms(moment: datetime | None) -> int | None:
    return round(moment.timestamp() * 1000) if moment is not None else None


def _of_ms(stamp: int | None) -> datetime | None:
    return datetime.fromtimestamp(stamp / 1000, UTC) if stamp is not None else None
