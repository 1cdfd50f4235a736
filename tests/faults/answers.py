"""The questions that the checker asks over GraphQL, and what each must be answered."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from tests.faults.expected import Numbers
from tests.faults.traffic import Event, is_bot, moment_of

HOUR = 3600
Answers = dict[tuple[str, ...], float]


@dataclass(frozen=True, slots=True)
class Question:
    """A metric question by its name, and how its totals by label follow from the events. `error`: how far a sketch's
    answer may be off, as a share. `is_of_events`: it counts events, so that a difference is so many of them."""

    name: str
    asked: dict[str, Any]
    totals: Callable[[Iterable[Event]], Answers]
    error: float = 0.0
    labels: tuple[str, ...] = ()
    is_of_events: bool = True
    is_ratio: bool = False


def _requests(events: Iterable[Event]) -> list[Event]:
    return [event for event in events if event["type"] == "http_request"]


def _people(events: Iterable[Event]) -> list[Event]:
    return [event for event in events if not is_bot(event)]


def _by(events: Iterable[Event], *names: str) -> Answers:
    found: Counter[tuple[str, ...]] = Counter()
    for event in events:
        found[tuple(str({**event, **event["properties"]}.get(name, "")) for name in names)] += 1
    return dict(found)


def _error_rate(events: Iterable[Event]) -> Answers:
    numbers = Numbers()
    for event in _requests(events):
        numbers.add(event)
    return {(): numbers.errors / numbers.count} if numbers.count else {}


def _visitors(events: Iterable[Event]) -> Answers:
    return {(): len({event["user_id"] for event in _people(events)})}


WITH_BOTS = {"includeBots": True}
QUESTIONS = (
    Question("events", {"metric": "events"}, lambda events: {(): len(_people(events))}),
    Question(
        "events by type", {"metric": "events", "groupBy": ["type"]}, lambda events: _by(_people(events), "type"),
        labels=("type",),
    ),
    Question("bot_events", {"metric": "bot_events"}, lambda events: {(): sum(is_bot(event) for event in events)}),
    Question(
        "requests by status", {"metric": "requests", "groupBy": ["status"], **WITH_BOTS},
        lambda events: _by(_requests(events), "status"), labels=("status",),
    ),
    Question(
        "requests by status and method, from raw events",
        {"metric": "requests", "groupBy": ["status", "method"], **WITH_BOTS},
        lambda events: _by(_requests(events), "status", "method"), labels=("status", "method"),
    ),
    Question(
        "bytes_sent", {"metric": "bytes_sent", **WITH_BOTS},
        lambda events: {(): sum(event["properties"]["bytes"] for event in _requests(events))},
        is_of_events=False,
    ),
    Question("error_rate", {"metric": "error_rate", **WITH_BOTS}, _error_rate, is_ratio=True),
    Question("visitors", {"metric": "visitors"}, _visitors, error=0.08, is_of_events=False),
)  # fmt: skip


def span_of(events: Iterable[Event]) -> dict[str, str]:
    """Whole hours around all events."""
    moments = [moment_of(event) for event in events]
    edges = min(moments) // HOUR * HOUR, (max(moments) // HOUR + 1) * HOUR
    start, end = (datetime.fromtimestamp(edge, UTC).isoformat() for edge in edges)
    return {"from": start, "to": end}
