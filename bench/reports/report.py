"""What a report is: figures of ours alone, where there is no peer to be beside."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Length:
    """How long a report goes on: minutes of load, seconds between its lines, and of growth how many
    events are stored and tenants there are at most, and how many events are counted each time."""

    minutes: float = 10.0
    step_seconds: float = 30.0
    stored_events: int = 10_000_000
    tenants: int = 1_000
    counted_events: int = 40_000


@dataclass(frozen=True, slots=True)
class Report:
    """`run` says its lines as they come, and gives what goes into results.json."""

    id: str
    title: str
    run: Callable[[Length, Say], Awaitable[dict[str, Any]]]


def percentile(values: list[float], share: float) -> float:
    """The value below which so many lie (nearest rank); 0 of none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0
