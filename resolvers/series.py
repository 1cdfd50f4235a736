"""Where a metric's numbers come from, once and live."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from core.errors import BadInput, Unavailable
from core.live import RESYNC, LiveReader
from core.metrics import MetricDefinition
from core.rollups import LiveNotice, decode_notice
from core.shares import rows_budget
from core.topics import live_channel
from query.answer import Answer, Columns, changed_columns, take
from query.engine import Explained
from query.question import MetricQuestion
from resolvers.context import Context

# Changes within this time are one frame: at most four reads a second for a stream, whatever the traffic.
COALESCE_SECONDS = 0.25
RETRY_SECONDS = 1.0
MAX_CURSOR_LENGTH = 64


class FrameKind(StrEnum):
    """What a live frame is."""

    SNAPSHOT = "SNAPSHOT"
    DELTA = "DELTA"
    REVISION = "REVISION"
    GAP = "GAP"
    HEARTBEAT = "HEARTBEAT"


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame of a stream; `seq` counts from 1 within an `epoch`."""

    kind: FrameKind
    seq: int
    epoch: str
    watermark: datetime | None
    columns: Columns

    @property
    def cursor(self) -> str:
        return f"{self.epoch}.{self.seq}"


NOTHING = Columns([], [])


async def answer_series(context: Context, question: MetricQuestion) -> Answer:
    """A metric over time. For a share link, what was read is taken from its budget.

    Raises:
        BadInput, DatabaseUnavailable; TooMany: the link's rows are spent.
    """
    if context.share is None:
        return await context.backends.engine.answer(context.principal.tenant, question)
    budget = rows_budget(context.share)
    await context.backends.budgets.require(budget)
    try:
        answer = await context.backends.engine.answer(context.principal.tenant, question)
    except BadInput as refusal:
        if refusal.code == "query_too_slow":
            # Nobody knows how many rows it read; were it for nothing, the slowest questions would be the cheapest.
            await context.backends.budgets.owe(budget, budget.amount // 20)
        raise
    await context.backends.budgets.owe(budget, answer.rows_read)
    return answer


async def explain_series(context: Context, question: MetricQuestion) -> list[Explained]:
    """What a question would read. Raises BadInput, DatabaseUnavailable."""
    return await context.backends.engine.explain(context.principal.tenant, question)


class SeriesStream:
    """One reader's stream: whole first, then what changed. It asks the engine that `series` asks, so the numbers
    are the same; the live channel only says when, and of which event types."""

    def __init__(self, context: Context, question: MetricQuestion, definition: MetricDefinition) -> None:
        self._context = context
        self._question = question
        self._types, self._is_of_ingest = definition.event_types, definition.outcome is not None
        self._epoch = os.urandom(6).hex()
        self._seq = 0
        self._shown = NOTHING
        self._watermark: datetime | None = None
        self._told_at = float("-inf")
        self._spoke_at = time.monotonic()

    async def frames(self, resume_from: str | None) -> AsyncIterator[Frame]:
        """Frames until the reader leaves."""
        channel = live_channel(self._context.principal.tenant.id)
        async with self._context.backends.live.subscribe(channel) as reader:
            is_gap, is_changed = True, False
            if resume_from is not None:
                yield self._frame(FrameKind.GAP, NOTHING)
            while True:
                if is_gap or is_changed or self._question.last is not None:
                    # A range that ends now moves on, whether or not anything happens.
                    async with aclosing(self._asked()) as parts:
                        async for part in parts:
                            for frame in self._frames_of(part, is_whole=is_gap):
                                yield frame
                if self._silence() <= 0:
                    yield self._frame(FrameKind.HEARTBEAT, NOTHING)
                is_changed, is_gap = await self._wait(reader)
                if is_gap:
                    yield self._frame(FrameKind.GAP, NOTHING)

    async def _wait(self, reader: LiveReader) -> tuple[bool, bool]:
        """Waits for word of a change that concerns this question: (is changed, may have missed some)."""
        # From the last frame on: changes that leave this question's answer as it was must not put the heartbeat off.
        try:
            async with asyncio.timeout(max(0.0, self._silence())):
                while True:
                    message = await reader.next()
                    if message == RESYNC:
                        return False, True
                    if self._concerns(decode_notice(message)):
                        break
        except TimeoutError:
            return False, False
        # The first change is told at once; what follows within a moment becomes one frame.
        await asyncio.sleep(max(0.0, self._told_at + COALESCE_SECONDS - time.monotonic()))
        self._told_at = time.monotonic()
        return True, RESYNC in reader.drain()

    def _concerns(self, notice: LiveNotice) -> bool:
        if notice.is_of_ingest and not self._is_of_ingest:
            return False
        return self._types is None or any(span[0] in self._types for span in notice.spans)

    def _silence(self) -> float:
        """Seconds until the reader is owed a frame."""
        return self._spoke_at + self._context.backends.heartbeat_seconds - time.monotonic()

    def _frames_of(self, part: Frame | Answer, *, is_whole: bool) -> list[Frame]:
        if isinstance(part, Frame):
            return [part]
        return self._snapshot(part) if is_whole else self._changes(part)

    def _snapshot(self, answer: Answer) -> list[Frame]:
        self._shown = answer.columns
        return [self._frame(FrameKind.SNAPSHOT, answer.columns)]

    def _changes(self, answer: Answer) -> list[Frame]:
        changed = changed_columns(self._shown, answer.columns)
        last = answer.columns.timestamps[-1]
        late = [n for n, stamp in enumerate(changed.timestamps) if stamp in set(self._shown.timestamps[:-1])]
        live = [n for n, stamp in enumerate(changed.timestamps) if n not in set(late)]
        is_moved = bool(self._shown.timestamps) and self._shown.timestamps[-1] != last
        self._shown = answer.columns
        if is_moved:
            # The bucket that was open when last shown is not late, only closed since.
            late, live = [], list(range(len(changed.timestamps)))
        frames = []
        if late:
            frames.append(self._frame(FrameKind.REVISION, take(changed, late)))
        if live:
            frames.append(self._frame(FrameKind.DELTA, take(changed, live)))
        return frames

    async def _asked(self) -> AsyncGenerator[Frame | Answer, None]:
        """The answer now. An outage of the database is waited for, with heartbeats meanwhile."""
        asking = asyncio.create_task(self._answer())
        try:
            while not (await asyncio.wait({asking}, timeout=max(RETRY_SECONDS, self._silence())))[0]:
                yield self._frame(FrameKind.HEARTBEAT, NOTHING)
            yield asking.result()
        finally:
            asking.cancel()

    async def _answer(self) -> Answer:
        while True:
            try:
                answer = await answer_series(self._context, self._question)
            except Unavailable:
                await asyncio.sleep(RETRY_SECONDS)
                continue
            self._watermark = answer.fresh_until
            return answer

    def _frame(self, kind: FrameKind, columns: Columns) -> Frame:
        self._seq += 1
        self._spoke_at = time.monotonic()
        return Frame(kind, self._seq, self._epoch, self._watermark, columns)


async def open_stream(context: Context, question: MetricQuestion) -> SeriesStream:
    """A stream of a question's answer.

    Raises:
        BadInput: it cannot be asked; DatabaseUnavailable.
    """
    definition = await context.backends.engine.definition(context.principal.tenant, question)
    return SeriesStream(context, question, definition)


def check_cursor(resume_from: str | None) -> None:
    """Refuses what was never a frame's cursor.

    Raises:
        BadInput: not of that form.
    """
    if resume_from is None:
        return
    epoch, _, seq = resume_from.partition(".")
    if len(resume_from) > MAX_CURSOR_LENGTH or not seq.isdigit() or not epoch.isalnum():
        raise BadInput("resumeFrom must be the `cursor` of a frame.", code="invalid_cursor", field="resumeFrom")
