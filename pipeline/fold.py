"""Folding events into summaries of cells, one minute at a time; coarser cells are merged from finer ones, never
counted anew. Pure; no clock, no I/O."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from uuid import UUID

from core.events import EnrichedEvent
from core.rollups import DIMENSIONS, TOTAL, Resolution, Slot
from core.summary import MAX_SUM, Summary

FIRST_ERROR_STATUS = 500


@dataclass(slots=True)
class Tally:
    """What a batch adds to one cell, before sketches are made of it: sets and lists are cheaper to fill."""

    count: int = 0
    errors: int = 0
    bytes: int = 0
    visitors: set[int] = field(default_factory=set)
    sessions: set[int] = field(default_factory=set)
    durations: list[float] = field(default_factory=list)

    def merge(self, other: Tally) -> None:
        self.count += other.count
        self.errors += other.errors
        self.bytes += other.bytes
        self.visitors |= other.visitors
        self.sessions |= other.sessions
        self.durations += other.durations

    def add_to(self, summary: Summary) -> None:
        """Counts this batch into what the cell already had."""
        summary.count += self.count
        summary.errors += self.errors
        summary.bytes = min(summary.bytes + self.bytes, MAX_SUM)
        summary.visitors.update_many(self.visitors)
        summary.sessions.update_many(self.sessions)
        if self.durations:
            least, most = min(self.durations), max(self.durations)
            summary.duration_count += len(self.durations)
            summary.duration_sum += sum(self.durations)
            summary.duration_min = least if summary.duration_min is None else min(summary.duration_min, least)
            summary.duration_max = most if summary.duration_max is None else max(summary.duration_max, most)
            summary.durations.update_many(self.durations)


# A dimension and its value.
Cell = tuple[str, str]
# By slot, then by cell: hashing a tenant's id nine times an event would cost more than counting.
Tallies = dict[Slot, dict[Cell, Tally]]

# Status is a number in an event and text in a cell; the others are text in both.
_TEXTS = tuple(name for name in DIMENSIONS if name != "status")
_texts_of = attrgetter(*_TEXTS)


def dimension_values(event: EnrichedEvent) -> list[Cell]:
    """The cells an event counts in: the total of its type, then each dimension alone. Not known is ''."""
    status = "" if event.status is None else str(event.status)
    return [(TOTAL, ""), ("status", status), *zip(_TEXTS, _texts_of(event), strict=True)]


def fold_minutes(events: Iterable[tuple[UUID, EnrichedEvent]]) -> Tallies:
    """One-minute tallies of new events, each with its tenant."""
    members: dict[Slot, dict[Cell, list[EnrichedEvent]]] = {}
    for tenant_id, event in events:
        slot = Slot(tenant_id, event.timestamp_ms // 60_000 * 60, event.type, event.is_bot)
        cells = members.get(slot)
        if cells is None:
            cells = members[slot] = {}
        for cell in dimension_values(event):
            if cell in cells:
                cells[cell].append(event)
            else:
                cells[cell] = [event]
    return {slot: {cell: tally_of(found) for cell, found in cells.items()} for slot, cells in members.items()}


def tally_of(events: Sequence[EnrichedEvent]) -> Tally:
    """What events of one cell add to it."""
    return Tally(
        count=len(events),
        errors=sum(event.status is not None and event.status >= FIRST_ERROR_STATUS for event in events),
        bytes=sum(event.bytes or 0 for event in events),
        visitors={event.visitor for event in events},
        sessions={event.session for event in events if event.session is not None},
        durations=[event.duration_ms for event in events if event.duration_ms is not None],
    )


def coarsen(tallies: Tallies, resolution: Resolution) -> Tallies:
    """The same tallies in longer buckets."""
    seconds = resolution.seconds
    coarse: Tallies = {}
    for slot, cells in tallies.items():
        into = coarse.setdefault(slot._replace(bucket=slot.bucket // seconds * seconds), {})
        for cell, tally in cells.items():
            if cell not in into:
                into[cell] = Tally()
            into[cell].merge(tally)
    return coarse


def fold_all(events: Iterable[tuple[UUID, EnrichedEvent]]) -> dict[Resolution, Tallies]:
    """Tallies of all three resolutions."""
    minutes = fold_minutes(events)
    five = coarsen(minutes, Resolution.FIVE_MINUTES)
    return {
        Resolution.MINUTE: minutes,
        Resolution.FIVE_MINUTES: five,
        Resolution.HOUR: coarsen(five, Resolution.HOUR),
    }
