"""What must be found of events that were sent: cells, totals and uniques, counted here by a few lines that share
nothing with the product's."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from tests.faults.traffic import Event, is_bot, moment_of

LENGTHS = {"rollup_1m": 60, "rollup_5m": 300, "rollup_1h": 3600}
FIRST_ERROR = 500


class Slot(NamedTuple):
    """A bucket (its start in epoch seconds) of one type, bots apart."""

    bucket: int
    type: str
    is_bot: bool


class Cell(NamedTuple):
    """A slot's events that share one value of one dimension; dimension '' is all of them."""

    slot: Slot
    dimension: str
    value: str


@dataclass(slots=True)
class Numbers:
    """What one cell adds up to."""

    count: int = 0
    errors: int = 0
    bytes: int = 0
    durations: int = 0
    duration_sum: float = 0.0
    users: set[str] = field(default_factory=set)
    sessions: set[str] = field(default_factory=set)

    def add(self, event: Event) -> None:
        properties = event["properties"]
        self.count += 1
        self.errors += properties.get("status", 0) >= FIRST_ERROR
        self.bytes += properties.get("bytes", 0)
        self.durations += "duration_ms" in properties
        self.duration_sum += properties.get("duration_ms", 0)
        self.users.add(event["user_id"])
        self.sessions.add(event["session_id"])

    def sums(self) -> dict[str, float]:
        """The parts that must be met exactly."""
        return {
            "errors": self.errors, "bytes": self.bytes, "duration_count": self.durations,
            "duration_sum": self.duration_sum,
        }  # fmt: skip


def slot_of(event: Event, seconds: int) -> Slot:
    moment = int(moment_of(event))
    return Slot(moment - moment % seconds, event["type"], is_bot(event))


def expected_cells(events: Iterable[Event], seconds: int) -> dict[Cell, Numbers]:
    """The cells of all events, of status and of method, in buckets of that length."""
    cells: dict[Cell, Numbers] = {}
    for event in events:
        slot, properties = slot_of(event, seconds), event["properties"]
        values = {"": "", "status": str(properties.get("status", "")), "method": properties.get("method", "")}
        for dimension, value in values.items():
            cells.setdefault(Cell(slot, dimension, value), Numbers()).add(event)
    return cells
