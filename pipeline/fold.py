"""Folding events into what a batch adds to cells, one minute at a time; coarser cells are merged from finer ones, never
counted anew. Pure; no clock, no I/O.

Columns are taken out of the events of a slot once, and each dimension groups their places: what most events do not have
(a status, a duration) then costs nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass, field
from operator import attrgetter, itemgetter
from typing import Any
from uuid import UUID

from core.events import EnrichedEvent
from core.rollups import DIMENSIONS, TOTAL, Resolution, Slot

FIRST_ERROR_STATUS = 500


@dataclass(slots=True)
class Tally:
    """What a batch adds to one cell, before sketches are made of it: sets and lists are cheaper to fill. One is never
    changed once it is made, so cells of the same events share it."""

    count: int = 0
    errors: int = 0
    bytes: int = 0
    visitors: set[int] = field(default_factory=set)
    sessions: set[int] = field(default_factory=set)
    durations: list[float] = field(default_factory=list)


# A dimension and its value.
Cell = tuple[str, str]
# By slot, then by cell: hashing a tenant's id nine times an event would cost more than counting.
Tallies = dict[Slot, dict[Cell, Tally]]

_values_of = attrgetter(*DIMENSIONS)
_columns_of = attrgetter("visitor", "session", "status", "bytes", "duration_ms")


def dimension_values(event: EnrichedEvent) -> list[Cell]:
    """The cells an event counts in: the total of its type, then each dimension alone. Not known is ''."""
    values = zip(DIMENSIONS, map(_text_of, _values_of(event)), strict=True)
    return [(TOTAL, ""), *values]


def fold_minutes(groups: Iterable[tuple[UUID, Sequence[EnrichedEvent]]]) -> Generator[None, None, Tallies]:
    """One-minute tallies of new events, given by tenant; halts now and then, so that others get their turn."""
    members: dict[Slot, list[EnrichedEvent]] = {}
    for tenant_id, events in groups:
        mine: defaultdict[tuple[int, str, bool], list[EnrichedEvent]] = defaultdict(list)
        for event in events:
            mine[event.timestamp_ms // 60_000, event.type, event.is_bot].append(event)
        for (minute, type_, is_bot), found in mine.items():
            members.setdefault(Slot(tenant_id, minute * 60, type_, is_bot), []).extend(found)
    tallies: Tallies = {}
    for slot, found in members.items():
        tallies[slot] = yield from tally_cells(found)
    return tallies


def tally_cells(events: Sequence[EnrichedEvent]) -> Generator[None, None, dict[Cell, Tally]]:
    """What the events of one slot add to each of its cells."""
    columns = _Columns(events)
    total = columns.all()
    cells = {(TOTAL, ""): total}
    for dimension, values in zip(DIMENSIONS, zip(*map(_values_of, events), strict=True), strict=True):
        places: defaultdict[Any, list[int]] = defaultdict(list)
        for place, value in enumerate(values):
            places[value].append(place)
        for value, found in places.items():
            cells[dimension, _text_of(value)] = total if len(found) == len(events) else columns.at(found)
        yield
    return cells


class _Columns:
    """What is summed up of some events, by column; a column in which there is nothing is None."""

    def __init__(self, events: Sequence[EnrichedEvent]) -> None:
        self.visitors, self.sessions, statuses, sizes, self.durations = zip(*map(_columns_of, events), strict=True)
        errors = [status is not None and status >= FIRST_ERROR_STATUS for status in statuses]
        self.errors = errors if any(errors) else None
        self.bytes = [size or 0 for size in sizes] if any(sizes) else None
        self.has_sessions = any(session is not None for session in self.sessions)
        self.has_durations = any(duration is not None for duration in self.durations)

    def all(self) -> Tally:
        return self._tally(len(self.visitors), lambda column: column)

    def at(self, places: list[int]) -> Tally:
        if len(places) == 1:
            place = places[0]
            return self._tally(1, lambda column: (column[place],))
        return self._tally(len(places), itemgetter(*places))

    def _tally(self, count: int, pick: Any) -> Tally:
        sessions = set(pick(self.sessions)) if self.has_sessions else set()
        sessions.discard(None)
        return Tally(
            count,
            sum(pick(self.errors)) if self.errors else 0,
            sum(pick(self.bytes)) if self.bytes else 0,
            set(pick(self.visitors)),
            sessions,
            [value for value in pick(self.durations) if value is not None] if self.has_durations else [],
        )


def coarsen(tallies: Tallies, resolution: Resolution) -> Tallies:
    """The same tallies in longer buckets."""
    seconds = resolution.seconds
    parts: defaultdict[Slot, list[dict[Cell, Tally]]] = defaultdict(list)
    for slot, cells in tallies.items():
        parts[slot._replace(bucket=slot.bucket // seconds * seconds)].append(cells)
    return {slot: found[0] if len(found) == 1 else _merged_cells(found) for slot, found in parts.items()}


def _merged_cells(parts: Sequence[dict[Cell, Tally]]) -> dict[Cell, Tally]:
    members: defaultdict[Cell, list[Tally]] = defaultdict(list)
    for cells in parts:
        for cell, tally in cells.items():
            members[cell].append(tally)
    return {cell: found[0] if len(found) == 1 else merged(found) for cell, found in members.items()}


def merged(tallies: Sequence[Tally]) -> Tally:
    """One tally of several."""
    return Tally(
        sum(tally.count for tally in tallies),
        sum(tally.errors for tally in tallies),
        sum(tally.bytes for tally in tallies),
        set().union(*(tally.visitors for tally in tallies)),
        set().union(*(tally.sessions for tally in tallies)),
        [value for tally in tallies for value in tally.durations],
    )


def fold_all(
    groups: Iterable[tuple[UUID, Sequence[EnrichedEvent]]],
) -> Generator[None, None, dict[Resolution, Tallies]]:
    """Tallies of all three resolutions."""
    minutes = yield from fold_minutes(groups)
    five = coarsen(minutes, Resolution.FIVE_MINUTES)
    return {
        Resolution.MINUTE: minutes,
        Resolution.FIVE_MINUTES: five,
        Resolution.HOUR: coarsen(five, Resolution.HOUR),
    }


def _text_of(value: Any) -> str:
    """A dimension's value as a cell names it: a status is a number in an event and text in a cell."""
    return "" if value is None else value if isinstance(value, str) else str(value)
