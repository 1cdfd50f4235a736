"""The cells that a worker wrote last, so that it need not read them again for the next batch.

What is kept here is right for as long as nobody else writes the same shard, and that is what the offset's fence says:
kept is only what was committed, and it is forgotten when the shard no longer stands where this worker left it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

from core.metric_cells import MetricSummary
from core.rollups import Resolution
from core.summary import MAX_SUM, Summary
from pipeline.fold import Cell, Tally
from pipeline.metric_fold import MetricTally

# A cell weighs what its summary takes, and its hashes; 600,000 in all are about 60 MB.
CELL_WEIGHT = 20
MAX_HASHES = 2048


@dataclass(slots=True)
class OpenCell:
    """A cell's summary, and the hashes that its sketches have for certain: to see in a set that one is there costs a
    tenth of telling the sketch again."""

    summary: Summary = field(default_factory=Summary)
    visitors: set[int] = field(default_factory=set)
    sessions: set[int] = field(default_factory=set)

    @property
    def weight(self) -> int:
        return CELL_WEIGHT + len(self.visitors) + len(self.sessions)

    def add(self, tally: Tally) -> None:
        """Counts a batch into the cell."""
        summary = self.summary
        summary.count += tally.count
        summary.errors += tally.errors
        summary.bytes = min(summary.bytes + tally.bytes, MAX_SUM)
        summary.visitors.update_many(_fresh(tally.visitors, self.visitors))
        if tally.sessions:
            summary.sessions.update_many(_fresh(tally.sessions, self.sessions))
        if tally.durations:
            least, most = min(tally.durations), max(tally.durations)
            summary.duration_count += len(tally.durations)
            summary.duration_sum += sum(tally.durations)
            summary.duration_min = least if summary.duration_min is None else min(summary.duration_min, least)
            summary.duration_max = most if summary.duration_max is None else max(summary.duration_max, most)
            summary.durations.update_many(tally.durations)


def _fresh(hashes: set[int], known: set[int]) -> set[int]:
    """Hashes that are not known, and from now on are, while there is room."""
    fresh = hashes - known if known else hashes
    if len(known) + len(fresh) <= MAX_HASHES:
        known |= fresh
    return fresh


@dataclass(slots=True)
class OpenMetricCell:
    """The same of a cell of a tenant's own metric."""

    summary: MetricSummary = field(default_factory=MetricSummary)
    hashes: set[int] = field(default_factory=set)

    @property
    def weight(self) -> int:
        return CELL_WEIGHT + len(self.hashes)

    def add(self, tally: MetricTally) -> None:
        """Counts a batch into the cell."""
        self.summary.add(tally.count, tally.matched, tally.sum, tally.least, tally.most)
        if tally.hashes:
            self.summary.uniques.update_many(_fresh(tally.hashes, self.hashes))
        if tally.numbers:
            self.summary.quantiles.update_many(tally.numbers)


class Counting(Protocol):
    """A cell while it is open, to which tallies of its own kind are added."""

    @property
    def weight(self) -> int: ...

    def add(self, tally: Any, /) -> None: ...


C = TypeVar("C", bound=Counting)
S = TypeVar("S", bound=Hashable)


@dataclass(slots=True)
class OpenSlot(Generic[C]):
    """Cells of a slot. `is_whole`: there are no others, since this worker began it. `values`: of an hour, how many
    values dimensions have, as far as that is known; of a whole one it always is."""

    is_whole: bool
    cells: dict[Cell, C] = field(default_factory=dict)
    values: dict[str, int] = field(default_factory=dict)


class OpenCells(Generic[S, C]):
    """Slots by shard and resolution, those written last. What is taken out is back only when it was committed."""

    def __init__(self, max_weight: int) -> None:
        self._slots: OrderedDict[tuple[int, Resolution, S], tuple[OpenSlot[C], int]] = OrderedDict()
        self._max_weight = max_weight
        self._weight = 0

    def take(self, shard: int, resolution: Resolution, slots: Iterable[S]) -> dict[S, OpenSlot[C]]:
        """Takes out those of the slots that are here."""
        taken = {}
        for slot in slots:
            found = self._slots.pop((shard, resolution, slot), None)
            if found is not None:
                taken[slot], weight = found
                self._weight -= weight
        return taken

    def put(self, shard: int, resolution: Resolution, slots: Mapping[S, OpenSlot[C]]) -> None:
        """Keeps slots as they were just committed; others go when there is no room."""
        for slot, open_slot in slots.items():
            weight = sum(cell.weight for cell in open_slot.cells.values())
            self._slots[shard, resolution, slot] = open_slot, weight
            self._weight += weight
        while self._weight > self._max_weight:
            self._weight -= self._slots.popitem(last=False)[1][1]

    def forget(self, shard: int) -> None:
        """Forgets a shard: somebody else may have written it."""
        for place in [place for place in self._slots if place[0] == shard]:
            self._weight -= self._slots.pop(place)[1]
