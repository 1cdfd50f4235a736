"""What a benchmark is: two sides that are measured in turn, and the ratio that is asked of them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Sample:
    """One round of one side: events a second (or what else the case is of, in its unit), CPU microseconds an event by
    process, the share of its core used."""

    rate: float
    cpu_us: dict[str, float]
    busy: float = 0.0


Measure = Callable[[], Awaitable[Sample]]


@dataclass(frozen=True, slots=True)
class Sides:
    """Ours, and the peer or limit beside it; both are up and warm."""

    ours: Measure
    other: Measure


@dataclass(frozen=True, slots=True)
class Size:
    """How long a side is measured in a round, in seconds, and how many events a fixed job has."""

    seconds: float = 3.0
    events: int = 40_000


@dataclass(frozen=True, slots=True)
class Case:
    """`goal` and `floor` are ratios of ours to the other's rate, of so many `unit`; of a time, less is better."""

    id: str
    title: str
    goal: float
    floor: float
    open: Callable[[Size], AbstractAsyncContextManager[Sides]]
    unit: str = "/s"
    is_lower_better: bool = False

    def reaches(self, ratio: float, mark: float) -> bool:
        """Whether a ratio is as good as a goal or a floor."""
        return ratio <= mark if self.is_lower_better else ratio >= mark


@dataclass(slots=True)
class Result:
    """Rounds of a case so far, in pairs."""

    case: Case
    pairs: list[tuple[Sample, Sample]] = field(default_factory=list)

    @property
    def ratios(self) -> list[float]:
        return [ours.rate / other.rate for ours, other in self.pairs]


def sample_of(events: int, seconds: float, cpu_seconds: dict[str, float], measured: str) -> Sample:
    """A sample from what was counted; `measured` is the process that has the core to itself."""
    cpu_us = {name: spent / events * 1e6 for name, spent in cpu_seconds.items()}
    return Sample(events / seconds, cpu_us, cpu_seconds[measured] / seconds)
