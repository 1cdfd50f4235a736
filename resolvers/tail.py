"""A tenant's events as they are counted: the newest, by a filter; of more than a reader can take, some, and it is said.

What comes is where an event is; the event itself is read from the database, as the reader may. Events are told when
they are counted, each once, in the order of their receipt as one worker counted them.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from core.errors import LiveUnavailable, Unavailable
from core.live import RESYNC, LiveReader
from core.tails import MARK_SECONDS, TailedEvent, decode_told
from core.topics import tail_channel
from query.frames import FrameKind
from resolvers.context import Context
from resolvers.events import EPOCH, EventQuestion, EventRow, check_question, find_matching
from resolvers.live_log import RECONNECT_SECONDS, GoingAway

FRAME_SECONDS = 0.5
MILLISECOND = timedelta(milliseconds=1)
MARK_EVERY_SECONDS = MARK_SECONDS / 3
LIFE_SECONDS = 3600.0
MAX_EVENTS = 50
# Of those that may be wanted, as many are looked at: conditions are held against what is stored.
MAX_LOOKED = 200


@dataclass(frozen=True, slots=True)
class TailFrame:
    """Events, newest first. `dropped`: how many others there were since the frame before, that the filter may have
    wanted; a DELTA has events, after a GAP some may be missing that nobody counted."""

    kind: FrameKind
    seq: int
    epoch: str
    events: list[EventRow]
    dropped: int

    @property
    def sampled(self) -> bool:
        return self.dropped > 0


class _Tail:
    """One reader's tail."""

    def __init__(self, context: Context, question: EventQuestion) -> None:
        self._context = context
        self._question = question
        self._epoch = os.urandom(6).hex()
        self._seq = 0
        self._wanted: list[TailedEvent] = []
        self._dropped = 0
        self._is_gap = False

    async def frames(self, reader: LiveReader) -> AsyncGenerator[TailFrame, None]:
        ends_at = time.monotonic() + LIFE_SECONDS
        yield self._frame(FrameKind.HEARTBEAT)
        while True:
            await self._gather(reader)
            if self._is_gap:
                self._is_gap = False
                yield self._frame(FrameKind.GAP)
            told_at = time.monotonic()
            yield await self._told()
            if time.monotonic() > ends_at:
                raise GoingAway(retry_after=RECONNECT_SECONDS)
            await asyncio.sleep(max(0.0, told_at + FRAME_SECONDS - time.monotonic()))

    async def _gather(self, reader: LiveReader) -> None:
        """Waits for something to tell, but no longer than a heartbeat."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self._context.backends.heartbeat_seconds):
                while not (self._wanted or self._dropped or self._is_gap):
                    self._take(await reader.next())
        for message in reader.drain():
            self._take(message)

    def _take(self, message: str) -> None:
        if message == RESYNC:
            self._is_gap = True
            return
        told = decode_told(message)
        self._dropped += told.skipped
        self._wanted += [event for event in told.events if may_be_wanted(self._question, event)]
        if (over := len(self._wanted) - MAX_LOOKED) > 0:
            # The newest are told: who looks on wants to see what happens now.
            del self._wanted[:over]
            self._dropped += over

    async def _told(self) -> TailFrame:
        wanted, self._wanted = self._wanted, []
        if not wanted:
            return self._frame(FrameKind.DELTA if self._dropped else FrameKind.HEARTBEAT)
        keys = [(EPOCH + event.timestamp_ms * MILLISECOND, UUID(bytes=event.id)) for event in reversed(wanted)]
        tenant_id = self._context.principal.tenant.id
        try:
            rows = await find_matching(self._context.backends.database, tenant_id, self._question, keys)
        except Unavailable:
            self._dropped += len(keys)
            return self._frame(FrameKind.DELTA)
        self._dropped += max(0, len(rows) - MAX_EVENTS)
        is_empty = not (rows or self._dropped)
        return self._frame(FrameKind.HEARTBEAT if is_empty else FrameKind.DELTA, rows[:MAX_EVENTS])

    def _frame(self, kind: FrameKind, events: list[EventRow] | None = None) -> TailFrame:
        self._seq += 1
        dropped, self._dropped = (self._dropped, 0) if kind is FrameKind.DELTA else (0, self._dropped)
        return TailFrame(kind, self._seq, self._epoch, events or [], dropped)


async def tail_events(context: Context, question: EventQuestion) -> AsyncGenerator[TailFrame, None]:
    """A tenant's events as they are counted, until the reader leaves.

    Raises:
        BadInput: the filter cannot be used; GoingAway: the reader's time is over.
    """
    check_question(question)
    tenant_id = context.principal.tenant.id
    async with context.backends.live.subscribe(tail_channel(tenant_id)) as reader:
        marking = asyncio.create_task(_keep_marked(context))
        try:
            async with aclosing(_Tail(context, question).frames(reader)) as frames:
                async for frame in frames:
                    yield frame
        finally:
            marking.cancel()
            await asyncio.gather(marking, return_exceptions=True)


async def _keep_marked(context: Context) -> None:
    while True:
        with suppress(LiveUnavailable):
            await context.backends.tails.listen(context.principal.tenant.id)
        await asyncio.sleep(MARK_EVERY_SECONDS)


def may_be_wanted(question: EventQuestion, event: TailedEvent) -> bool:
    """Whether a filter may take an event, by what is told of it."""
    moment = EPOCH + event.timestamp_ms * MILLISECOND
    return (
        (question.types is None or event.type in question.types)
        and (question.from_ is None or moment >= question.from_)
        and (question.to is None or moment < question.to)
        and question.session_id in (None, event.session_id)
        and question.user_id in (None, event.user_id)
        and (question.include_bots or not event.is_bot)
    )
