"""An answer as it is kept: what it was read from, when it is right still, and how it is brought up to date. Pure."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Container, Hashable, Iterable, Sequence
from dataclasses import dataclass, fields, replace
from datetime import datetime
from hashlib import blake2b
from typing import Any, get_type_hints

import msgspec

from core.changes import Change, Stamps
from core.metrics import MetricDefinition, MetricKind
from query.answer import Answer, Columns, Encoded, Series
from query.question import MetricQuestion

# Raised whenever an answer is written in another way, so that two releases beside each other never read the other's.
FORMAT = 1
KEPT_SECONDS = 30.0
# An answer whose closed buckets were never read again for so long is read anew as a whole.
WHOLE_SECONDS = 600.0
# More ranges than this, or more than half of the buckets: to read all is cheaper.
MAX_RUNS = 3
# Kinds whose total follows from the values of the buckets alone, and how, where all of them are whole numbers.
_TOTALS = {MetricKind.COUNT: sum, MetricKind.SUM: sum}


@dataclass(slots=True)
class Kept:
    """`stamp`: it holds every change up to this one. `read_at`, `whole_at`: when it was last brought up to date, and
    last read as a whole, in epoch seconds. `columns`: the answer's as JSON, which is what is sent."""

    life: str
    stamp: int
    read_at: float
    whole_at: float
    answer: Answer
    columns: bytes
    # For which minute (of the epoch) its range was found to be the question's; not written.
    minute: int = 0

    @classmethod
    def of(cls, answer: Answer, *, life: str, stamp: int, read_at: float, whole_at: float) -> Kept:
        columns = _encoder.encode(answer.columns)
        return cls(life, stamp, read_at, whole_at, _with_columns(answer, answer.columns, columns), columns)

    @property
    def edges(self) -> tuple[datetime, datetime]:
        return self.answer.from_, self.answer.to

    def is_of(self, life: str, stamps: Stamps, now: float) -> bool:
        """Whether what changed since can be told, and it is young enough."""
        is_young = 0 <= now - self.read_at < KEPT_SECONDS and 0 <= now - self.whole_at < WHOLE_SECONDS
        return is_young and self.life == life and self.stamp >= stamps.floor

    def touched_by(self, changes: Iterable[Change], types: Container[str] | None) -> set[int]:
        """The minutes of its range that changed since it was read; `types` None: all types concern it."""
        start, end = (int(edge.timestamp()) for edge in self.edges)
        return {
            change.minute
            for change in changes
            if change.stamp > self.stamp and start <= change.minute < end and (types is None or change.type in types)
        }


class NearestAnswers:
    """Kept answers of one process, bounded by the bytes of their columns; the least used go first."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        self._kept: OrderedDict[Hashable, Kept] = OrderedDict()

    def __contains__(self, place: Hashable) -> bool:
        return place in self._kept

    def get(self, place: Hashable) -> Kept | None:
        kept = self._kept.get(place)
        if kept is not None:
            self._kept.move_to_end(place)
        return kept

    def put(self, place: Hashable, kept: Kept) -> None:
        before = self._kept.pop(place, None)
        self._kept[place] = kept
        self._bytes += _weight(kept) - (_weight(before) if before else 0)
        while self._bytes > self._max_bytes:
            self._bytes -= _weight(self._kept.popitem(last=False)[1])


def _weight(kept: Kept) -> int:
    return len(kept.columns) + 1024


def _with_columns(answer: Answer, columns: Columns, json: bytes) -> Answer:
    return replace(answer, columns=columns, encoded=Encoded(columns, json))


# Of an answer, what is written as it is. The definition is found by who asks; columns are written as JSON; one beside
# an earlier time is put together of two that are kept.
_APART = {"definition", "columns", "encoded", "comparison"}
_SAID = [field.name for field in fields(Answer) if field.name not in _APART]
_types = get_type_hints(Answer)
_Said = msgspec.defstruct("_Said", [(name, _types[name]) for name in _SAID], array_like=True)

_encoder = msgspec.json.Encoder()
_columns_decoder = msgspec.json.Decoder(Columns)
_writer = msgspec.msgpack.Encoder()
_reader: Any = msgspec.msgpack.Decoder(tuple[int, str, int, float, float, _Said, bytes])  # type: ignore[valid-type]


def write_kept(kept: Kept) -> bytes:
    said = _Said(*(getattr(kept.answer, name) for name in _SAID))
    return _writer.encode((FORMAT, kept.life, kept.stamp, kept.read_at, kept.whole_at, said, kept.columns))


def read_kept(value: bytes, definition: MetricDefinition) -> Kept | None:
    """What is kept of a question to this metric; None when another release wrote it."""
    try:
        form, life, stamp, read_at, whole_at, said, json = _reader.decode(value)
        columns = _columns_decoder.decode(json)
    except msgspec.DecodeError:
        return None
    if form != FORMAT:
        return None
    answer = Answer(definition=definition, columns=columns, **{name: getattr(said, name) for name in _SAID})
    return Kept(life, stamp, read_at, whole_at, _with_columns(answer, columns, json), json)


def name_of(question: MetricQuestion, definitions: Sequence[MetricDefinition], *also: str) -> str:
    """The hash that stands for a question to these metrics, as they are defined now: the same for the same, however
    its conditions are ordered. `also` is what an answer depends on beside that and the events."""
    filters = sorted((f.dimension, f.op.value, *sorted(f.values)) for f in question.filters)
    # What is asked only of other kinds makes no other question.
    is_of_percentiles = any(definition.kind is MetricKind.PERCENTILE for definition in definitions)
    bare = replace(
        question,
        filters=(),
        percentiles=question.percentiles if is_of_percentiles else (),
        limit=question.limit if question.group_by else 1,
    )
    versions = [(d.key, d.version, d.defined and d.defined.id) for d in definitions]
    return blake2b(_encoder.encode([FORMAT, bare, filters, versions, also]), digest_size=16).hexdigest()


@dataclass(frozen=True, slots=True)
class Run:
    """Buckets one after the other: from the first's start to the last's end, in epoch seconds, and where they stand."""

    start: int
    end: int
    first: int


def runs_to_read(kept: Kept, edges: Sequence[int], minutes: set[int], kind: MetricKind) -> list[Run] | None:
    """What must be read again so that the rest can stay; None: all of it.

    Needs what the parts say of the whole: no groups, whose ranks might change, and a kind that adds up.
    """
    columns = kept.answer.columns
    if kind not in _TOTALS or len(columns.series) != 1 or columns.series[0].labels or kept.answer.warnings:
        return None
    if not all(isinstance(value, int) for value in columns.series[0].values):
        return None
    known = {stamp // 1000 for stamp in columns.timestamps}
    known_until = int(kept.answer.to.timestamp())
    changed = sorted(minutes)
    stale, at = [], 0
    for n, start in enumerate(edges[:-1]):
        while at < len(changed) and changed[at] < start:
            at += 1
        is_touched = at < len(changed) and changed[at] < edges[n + 1]
        if start not in known or edges[n + 1] > known_until or is_touched:
            stale.append(n)
    return _joined(stale, edges) if len(stale) * 2 <= len(edges) else None


def _joined(slots: Sequence[int], edges: Sequence[int]) -> list[Run] | None:
    runs: list[Run] = []
    for n in slots:
        if runs and runs[-1].end == edges[n]:
            runs[-1] = replace(runs[-1], end=edges[n + 1])
        else:
            runs.append(Run(edges[n], edges[n + 1], n))
    return runs if len(runs) <= MAX_RUNS else None


def mended(kept: Kept, edges: Sequence[int], read: Sequence[tuple[Run, Answer]], kind: MetricKind) -> Columns | None:
    """The columns over these edges: what was read anew where it was, the rest as kept; None when they do not fit."""
    series = kept.answer.columns.series[0]
    values = dict(zip(kept.answer.columns.timestamps, series.values, strict=True))
    for _, answer in read:
        if answer.warnings or len(answer.columns.series) != 1:
            return None
        values.update(zip(answer.columns.timestamps, answer.columns.series[0].values, strict=True))
    stamps = [start * 1000 for start in edges[:-1]]
    found = [values.get(stamp) for stamp in stamps]
    if not all(isinstance(value, int) for value in found):
        return None
    return Columns(stamps, [Series(series.labels, found, _TOTALS[kind](found))])  # type: ignore[arg-type]
