"""Folding events into what a batch adds to the cells of tenants' own metrics, one minute at a time; coarser cells are
merged from finer ones, never counted anew. Pure; no clock, no I/O.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import NamedTuple
from uuid import UUID

from core.events import EnrichedEvent
from core.metric_cells import EXACT, ZERO
from core.rollups import Resolution
from pipeline.counted_metrics import Cell, CountedMetrics, CountedVersion, by_type
from pipeline.matching import Seen

# Others get their turn after so many events.
EVENTS_AT_ONCE = 200


class MetricSlot(NamedTuple):
    """What cells of one event and version have in common; `bucket` is its start in epoch seconds."""

    tenant_id: UUID
    version_id: UUID
    bucket: int
    is_bot: bool


@dataclass(slots=True)
class MetricTally:
    """What a batch adds to one cell, before sketches are made of it."""

    count: int = 0
    matched: int = 0
    sum: Decimal = ZERO
    least: float | None = None
    most: float | None = None
    hashes: set[int] = field(default_factory=set)
    numbers: list[float] = field(default_factory=list)

    def merge(self, other: MetricTally) -> None:
        self.count += other.count
        self.matched += other.matched
        if other.sum:
            self.sum = EXACT.add(self.sum, other.sum) if self.sum else other.sum
        if other.least is not None:
            self.least = other.least if self.least is None else min(self.least, other.least)
        if other.most is not None:
            self.most = other.most if self.most is None else max(self.most, other.most)
        if other.hashes:
            self.hashes |= other.hashes
        if other.numbers:
            self.numbers += other.numbers


MetricTallies = dict[MetricSlot, dict[Cell, MetricTally]]
# Events of a tenant, and what is counted of them.
MetricGroup = tuple[UUID, CountedMetrics, Sequence[EnrichedEvent]]


def fold_metric_minutes(groups: Iterable[MetricGroup]) -> Generator[None, None, MetricTallies]:
    """One-minute tallies of new events; halts now and then."""
    tallies: MetricTallies = {}
    for tenant_id, metrics, events in groups:
        of_type = by_type(metrics.versions)
        for place, event in enumerate(events):
            if place % EVENTS_AT_ONCE == EVENTS_AT_ONCE - 1:
                yield
            seen = Seen(event)
            for version in of_type(event.type):
                if version.passes(seen):
                    slot = MetricSlot(tenant_id, version.id, event.timestamp_ms // 60_000 * 60, event.is_bot)
                    cells = tallies.setdefault(slot, {})
                    addition = _tally_of(version, seen)
                    for cell in version.cells(seen):
                        found = cells.get(cell)
                        if found is None:
                            found = cells[cell] = MetricTally()
                        found.merge(addition)
    return tallies


def _tally_of(version: CountedVersion, seen: Seen) -> MetricTally:
    """What one event adds to each of its cells."""
    tally = MetricTally(1)
    if version.matching is not None:
        tally.matched = int(version.matching(seen))
    elif version.number is not None:
        number = version.counted_number(seen)
        if number is not None:
            value = float(number)
            tally.matched, tally.sum, tally.least, tally.most = 1, number, value, value
            if version.has_quantiles:
                tally.numbers = [value]
    elif version.hash is not None:
        found = version.hash(seen)
        if found is not None:
            tally.hashes = {found}
    return tally


def merged_tallies(tallies: Iterable[MetricTally]) -> MetricTally:
    """One tally of several, which stay as they are."""
    total = MetricTally()
    for tally in tallies:
        total.merge(tally)
    return total


def coarsen_metrics(tallies: MetricTallies, resolution: Resolution) -> MetricTallies:
    """The same tallies in longer buckets."""
    seconds = resolution.seconds
    coarse: MetricTallies = {}
    for slot, cells in tallies.items():
        into = coarse.setdefault(slot._replace(bucket=slot.bucket // seconds * seconds), {})
        for cell, tally in cells.items():
            into.setdefault(cell, MetricTally()).merge(tally)
    return coarse


def fold_metrics(groups: Iterable[MetricGroup]) -> Generator[None, None, dict[Resolution, MetricTallies]]:
    """Tallies of all three resolutions; none at all where nothing is counted."""
    minutes = yield from fold_metric_minutes(groups)
    if not minutes:
        return {}
    five = coarsen_metrics(minutes, Resolution.FIVE_MINUTES)
    yield
    return {
        Resolution.MINUTE: minutes,
        Resolution.FIVE_MINUTES: five,
        Resolution.HOUR: coarsen_metrics(five, Resolution.HOUR),
    }
