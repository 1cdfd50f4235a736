"""What may become of an event, and counts of it by minute, reason and key, as a process sums them up. Pure; no I/O."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple
from uuid import UUID

# In one process between two flushes: who has more keys and reasons in a minute loses the rest.
MAX_CELLS = 20_000
# So long after a refusal its count is in the tables: two rounds of flushes, and what they take.
LAG_SECONDS = 5.0

# Why an event was not counted once more, as the door and as the worker tell it.
TAKEN_BEFORE = "taken_before"
COUNTED_BEFORE = "counted_before"


class Outcome(StrEnum):
    """What became of an event."""

    ACCEPTED = "accepted"
    DUPLICATES = "duplicates"
    REJECTED = "rejected"
    LATE = "late"
    DEAD = "dead"
    # Counted, but in no value of its own of some dimension: an hour had as many as it has room for.
    OVERFLOW = "overflow"


class IngestCell(NamedTuple):
    """What a count is of. `minute` is its start in epoch seconds, `key_id` '' where no key is known."""

    tenant_id: UUID
    minute: int
    outcome: Outcome
    reason: str
    key_id: str


def cell_of(tenant_id: UUID, received_ms: int, outcome: Outcome, reason: str, key_id: str) -> IngestCell:
    """The cell of what was received at a moment."""
    return IngestCell(tenant_id, received_ms // 60_000 * 60, outcome, reason, key_id)


class IngestCounts:
    """What one web process refused and has not added yet. Pure; no I/O."""

    def __init__(self) -> None:
        self._cells: Counter[IngestCell] = Counter()
        self._lost = 0

    def note(self, cell: IngestCell, count: int = 1) -> None:
        """Counts so many; where there is no room for another cell they are lost, and their number known."""
        if cell not in self._cells and len(self._cells) >= MAX_CELLS:
            self._lost += count
            return
        self._cells[cell] += count

    def take(self) -> Counter[IngestCell]:
        """All there is; it is not here any more."""
        taken, self._cells = self._cells, Counter()
        return taken

    def put_back(self, cells: Mapping[IngestCell, int]) -> None:
        """What was taken and certainly not added."""
        for cell, count in cells.items():
            self.note(cell, count)

    def forget_lost(self) -> int:
        """How many there was no room for since it was asked last."""
        lost, self._lost = self._lost, 0
        return lost
