"""What a load client sends: seeded batches of events whose every number is known beforehand."""

from __future__ import annotations

import random
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

BOT_AGENT = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"
STATUSES = (200, 200, 200, 200, 304, 404, 500, 503)
METHODS = ("GET", "GET", "GET", "POST")
TYPES = ("page_view", "http_request", "http_request", "signup")
MINUTE, HOUR, DAY = 60, 3600, 86_400

Event = dict[str, Any]


@dataclass(slots=True)
class Traffic:
    """One sender's batches. Equal seeds give equal batches, but for the ids' and timestamps' base."""

    dice: random.Random
    now: float
    _sent: list[Event] = field(default_factory=list)

    def batch(self) -> list[Event]:
        """1 to 60 events: new ones, some late, a few bad, and now and then some that were sent before."""
        events = [self._event() for _ in range(self.dice.choice((1, 5, 20, 40, 60)))]
        if self._sent and self.dice.random() < 0.15:
            events += self.dice.sample(self._sent, min(len(self._sent), self.dice.randint(1, 10)))
        if self.dice.random() < 0.10:
            events.append(events[0])
        if self.dice.random() < 0.15:
            events.insert(self.dice.randrange(len(events) + 1), self._bad())
        self._sent = (self._sent + [event for event in events if is_good(event)])[-400:]
        self.dice.shuffle(events)
        return events

    def _event(self) -> Event:
        dice = self.dice
        kind = dice.choice(TYPES)
        at = self.now - self._age()
        event_id = self._id(at)
        properties: dict[str, Any] = {"n": event_id}
        if kind == "http_request":
            properties |= {
                "status": dice.choice(STATUSES), "method": dice.choice(METHODS), "bytes": dice.randrange(100_000),
                "duration_ms": dice.randrange(2_000),
            }  # fmt: skip
        return {
            "id": event_id,
            "type": kind,
            "timestamp": datetime.fromtimestamp(round(at, 3), UTC).isoformat(timespec="milliseconds"),
            "user_id": f"user {dice.randrange(300)}",
            "session_id": f"session {dice.randrange(900)}",
            "properties": properties,
            "context": {"user_agent": BOT_AGENT if dice.random() < 0.1 else ""},
        }

    def _age(self) -> float:
        """Seconds back: mostly none, some hours, some days."""
        dice = self.dice
        oldest = dice.choices((2, 50 * MINUTE, 20 * HOUR, 4 * DAY), (85, 8, 5, 2))[0]
        return dice.random() * oldest

    def _id(self, at: float) -> str:
        """Half are version 7 of their moment, as an SDK makes them; half are random ones, looked up in the ledger."""
        bits = self.dice.getrandbits(128)
        if self.dice.random() < 0.5:
            bits = (bits & ~(0xFFFFFFFFFFFF << 80)) | (int(at * 1000) << 80)
            return str(uuid.UUID(int=bits & ~(0xF << 76) | (7 << 76), version=None))
        return str(uuid.UUID(int=bits, version=4))

    def _bad(self) -> Event:
        """One that is refused, whatever comes with it."""
        event = self._event()
        spoil = self.dice.choice(
            ({"type": ""}, {"timestamp": "yesterday"}, {"timestamp": "2001-01-01T00:00:00Z"}, {"properties": [1]})
        )
        return {**event, **spoil, "bad": True}


def is_good(event: Event) -> bool:
    return "bad" not in event


def is_bot(event: Event) -> bool:
    return event["context"]["user_agent"] == BOT_AGENT


def moment_of(event: Event) -> float:
    """An event's own time in epoch seconds."""
    return datetime.fromisoformat(event["timestamp"]).timestamp()
