"""Sending generated traffic: what is past as fast as it is taken, what comes when its time has come."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from cloudmetrics.client import Batch, Sender
from cloudmetrics.demo.journeys import DemoEvent, Traffic
from cloudmetrics.importing.progress import Progress
from core.events import MAX_BATCH_EVENTS, from_epoch_ms

# So often the feed makes sure of its answers, notes its place, and draws its progress.
NOTE_EVERY = 1000
# What is past must not stand in the way of what somebody sends now: the workers are never further behind than this.
MAX_BEHIND = 10
LIVE_SECONDS = 0.5
LIVE_NOTE_SECONDS = 10.0

# Called with the epoch milliseconds up to which everything was answered.
KeepPlace = Callable[[int], None]

_encoder = msgspec.json.Encoder()


@dataclass(frozen=True, slots=True)
class Feed:
    """Traffic on its way to one sender."""

    traffic: Traffic
    sender: Sender
    keep_place: KeepPlace

    async def run(self, start_ms: int) -> None:
        """Sends everything since a moment, then goes on live until cancelled.

        Raises:
            GaveUp, Refused: see `Sender`.
        """
        progress = Progress("demo traffic", _now_ms() - start_ms, counted="events")
        batch: list[DemoEvent] = []
        is_live = False
        noted_at = time.monotonic()
        for count, event in enumerate(self.traffic.since(start_ms)):
            if event.timestamp_ms > _now_ms():
                await self._send(batch)
                batch = []
                if not is_live:
                    is_live = True
                    await self._note(event.timestamp_ms)
                    progress.show(_now_ms() - start_ms, count, is_last=True)
                elif time.monotonic() - noted_at > LIVE_NOTE_SECONDS:
                    noted_at = time.monotonic()
                    await self._note(event.timestamp_ms)
                await asyncio.sleep(max(LIVE_SECONDS, (event.timestamp_ms - _now_ms()) / 1000))
            elif len(batch) == MAX_BATCH_EVENTS:
                await self._send(batch)
                batch = []
                if not is_live and count % NOTE_EVERY < MAX_BATCH_EVENTS:
                    await self._note(event.timestamp_ms)
                    await self.sender.wait_counted(behind=MAX_BEHIND)
                    progress.show(event.timestamp_ms - start_ms, count)
            batch.append(event)

    async def _send(self, events: list[DemoEvent]) -> None:
        if events:
            await self.sender.send(Batch([_encoded(event) for event in events], [event.id for event in events]))

    async def _note(self, until_ms: int) -> None:
        await self.sender.finish()
        self.keep_place(until_ms)


def _encoded(event: DemoEvent) -> msgspec.Raw:
    fields = {"id": event.id, "timestamp": from_epoch_ms(event.timestamp_ms), **event.fields}
    return msgspec.Raw(_encoder.encode(fields))


def _now_ms() -> int:
    return int(time.time() * 1000)
