"""A load at a fixed rate: requests become due by the clock, whatever the answers do; their delay counts from then."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from bench.load import END, LENGTH
from bench.payload import BATCH, Sender, Traffic
from core.events import new_event_id

CONNECTIONS = 16
# Late by more, a request is left out and counted as such: a load that makes up for everything measures itself.
MAX_LATE_SECONDS = 5.0
_ID = b'{"id":"'


class Bodies:
    """Bodies of 100 events of the last minute, each event with an id of its own, for a few microseconds an event."""

    def __init__(self, variants: int = 50) -> None:
        stamp = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:").encode()
        self._stamp = stamp
        self._parts = []
        for body in Traffic().batches(variants):
            # Those of the minute before stay there: they are in order too.
            self._parts.append([part[36:] if n else part for n, part in enumerate(body.split(_ID))])
        self._number = 0

    def next(self) -> bytes:
        """Another body."""
        self._number += 1
        parts = self._parts[self._number % len(self._parts)]
        # A version 7 id of now, and a number of its own in its last twelve digits.
        base = str(new_event_id(int(time.time() * 1000)))[:24].encode()
        first = self._number * BATCH
        pieces = [parts[0]]
        for n, part in enumerate(parts[1:]):
            pieces += (_ID, base, b"%012x" % (first + n), part)
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:").encode()
        return b"".join(pieces).replace(self._stamp, now)


@dataclass(slots=True)
class Interval:
    """What happened since the last look."""

    statuses: Counter[int] = field(default_factory=Counter)
    latencies: list[float] = field(default_factory=list)
    skipped: int = 0


class PacedLoad:
    """Requests of 100 events at `rate` events a second, over connections that stay; senders in turn."""

    def __init__(self, port: int, senders: Sequence[Sender], rate: float) -> None:
        self._port = port
        self._senders = senders
        self._pause = BATCH / rate
        self._bodies = Bodies()
        self._due = 0.0
        self._sent = 0
        self.accepted = 0
        self._interval = Interval()

    def look(self) -> Interval:
        """What happened since the last look."""
        found, self._interval = self._interval, Interval()
        return found

    async def run(self, seconds: float) -> None:
        """Sends until time is up."""
        self._due = time.perf_counter()
        until = self._due + seconds
        await asyncio.gather(*(self._connection(until) for _ in range(CONNECTIONS)))

    async def _connection(self, until: float) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        while (due := self._take_due()) < until:
            if (early := due - time.perf_counter()) > 0:
                await asyncio.sleep(early)
            sender = self._senders[self._sent % len(self._senders)]
            self._sent += 1
            writer.write(sender.request(self._bodies.next()))
            head = (await reader.readuntil(END)).lower()
            at = head.find(LENGTH) + len(LENGTH)
            await reader.readexactly(int(head[at : head.find(b"\r\n", at)]))
            self._note(int(head[9:12]), time.perf_counter() - due)
        writer.close()

    def _take_due(self) -> float:
        late = time.perf_counter() - self._due
        if late > MAX_LATE_SECONDS:
            skipped = int(late / self._pause)
            self._interval.skipped += skipped
            self._due += skipped * self._pause
        due = self._due
        self._due += self._pause
        return due

    def _note(self, status: int, seconds: float) -> None:
        self._interval.statuses[status] += 1
        self._interval.latencies.append(seconds)
        self.accepted += BATCH * (status == 202)
