"""One live stream: questions asked of the engine again whenever word comes that something changed, and the differences
told to all who read them. It asks what `series` asks, so the numbers are the same ones."""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Protocol

from core.errors import BadInput, CloudMetricsError, Unavailable
from core.metrics import MetricDefinition
from core.rollups import LiveNotice
from core.tenancy import TenantId
from query.answer import Answer
from query.frames import Change, Fault, FrameKind, Shown, differences, whole
from query.question import MetricQuestion
from resolvers.live_log import FrameLog, Reader

log = logging.getLogger(__name__)

# Changes within this time are one frame: at most four reads a second for a stream, whatever the traffic.
COALESCE_SECONDS = 0.25
RETRY_SECONDS = 1.0


class Asker(Protocol):
    """How the readers of a stream ask."""

    async def answer(self, question: MetricQuestion) -> Answer:
        """As a query is answered; same errors."""
        ...

    async def definitions(self, question: MetricQuestion) -> Sequence[MetricDefinition]:
        """The metrics that the answer is made of, as they are defined now; same errors."""
        ...


@dataclass(frozen=True, slots=True)
class LiveKey:
    """What readers of one stream have in common. `scope`: whose eyes it is seen with; `seconds`: between frames."""

    tenant_id: TenantId
    questions: tuple[MetricQuestion, ...]
    scope: str = ""
    seconds: float = COALESCE_SECONDS


class Concern:
    """Whether a notice can change a question's answer; of one that was not asked yet every notice can."""

    def __init__(self, definitions: Sequence[MetricDefinition] = ()) -> None:
        self._is_known = bool(definitions)
        self._is_of_ingest = any(definition.outcome is not None for definition in definitions)
        types = [definition.event_types for definition in definitions]
        self._types = None if None in types else frozenset(itertools.chain.from_iterable(filter(None, types)))
        self._versions = {str(definition.defined.id) for definition in definitions if definition.defined is not None}

    def is_met_by(self, notice: LiveNotice) -> bool:
        if not self._is_known:
            return True
        if notice.is_of_ingest and not self._is_of_ingest:
            return False
        if self._types is None or any(span[0] in self._types for span in notice.spans):
            return True
        return any(version in self._versions for version, *_ in notice.metrics)


class LiveStream:
    """A stream and its readers. `asker` asks as its newest reader would; `places` bound what the streams of the tenant,
    and those of the process, ask at once."""

    def __init__(
        self, key: LiveKey, epoch: str, asker: Asker, places: Sequence[asyncio.Semaphore], heartbeat_seconds: float
    ) -> None:
        self.key = key
        self.asker = asker
        self.log = FrameLog(epoch, len(key.questions))
        self.readers: set[Reader] = set()
        self.error: CloudMetricsError | None = None
        # Told of each frame; the ring follows.
        self.on_frame: Callable[[LiveStream], None] = lambda stream: None
        self._places = places
        self._heartbeat_seconds = heartbeat_seconds
        self._concerns = [Concern() for _ in key.questions]
        self._stale = set(range(len(key.questions)))
        self._is_gap = False
        self._fresh: dict[int, datetime] = {}
        self._word = asyncio.Event()
        self._told_at = float("-inf")
        self._spoke_at = time.monotonic()

    def hear(self, notice: LiveNotice) -> None:
        """Word of a change."""
        found = {index for index, concern in enumerate(self._concerns) if concern.is_met_by(notice)}
        if found:
            self._stale |= found
            self._word.set()

    def hear_of_gap(self) -> None:
        """Some word may have been missed: readers are told so, and the whole."""
        self._stale.update(range(len(self.key.questions)))
        self._is_gap = self.log.is_answered
        self._word.set()

    async def run(self, is_hearing: asyncio.Event) -> None:
        """Until it is cancelled; or until its one question cannot be asked any more, which is its `error`. Begins when
        its tenant's channel is heard: what changes after the first answer is then not missed."""
        await is_hearing.wait()
        try:
            while True:
                await self._refresh()
                if self._silence() <= 0:
                    self._tell(FrameKind.HEARTBEAT)
                await self._wait()
        except CloudMetricsError as error:
            self._end(error)
        except Exception:
            log.exception("live stream failed", extra={"action": "internal_error"})
            self._end(CloudMetricsError())

    async def _wait(self) -> None:
        """Until word of a change, but no longer than readers may be left without any: then everything is asked again,
        since a range that ends now moves on, and so does the watermark, whether or not anything happens."""
        try:
            async with asyncio.timeout(max(0.0, self._silence())):
                await self._word.wait()
        except TimeoutError:
            self._stale.update(range(len(self.key.questions)))
            return
        # The first change is told at once; what follows within a moment becomes one frame.
        await asyncio.sleep(max(0.0, self._told_at + self.key.seconds - time.monotonic()))
        self._told_at = time.monotonic()

    async def _refresh(self) -> None:
        self._word.clear()
        stale, self._stale = sorted(self._stale), set()
        is_gap, self._is_gap = self._is_gap, False
        if is_gap:
            self._tell(FrameKind.GAP)
        answers = await self._answers(stale)
        self.log.watermark = min(self._fresh.values(), default=None)
        if is_gap or not self.log.is_answered:
            for index, shown in answers.items():
                self.log.shown[index] = shown
            self.log.is_answered = True
            self._tell(FrameKind.SNAPSHOT, whole(self.log.shown))
            return
        told: dict[FrameKind, list[Change]] = {FrameKind.REVISION: [], FrameKind.DELTA: []}
        for index, shown in answers.items():
            for kind, change in differences(index, self.log.shown[index], shown):
                told[kind].append(change)
        # All at once: between a REVISION and its DELTA nobody may begin.
        for index, shown in answers.items():
            self.log.shown[index] = shown
        self._tell_all([(kind, changes) for kind, changes in told.items() if changes])

    async def _answers(self, indexes: Iterable[int]) -> dict[int, Shown]:
        """Answers now. An outage of the database is waited for, with heartbeats meanwhile."""
        wanted = list(indexes)
        asking = asyncio.gather(*(self._answer(index) for index in wanted))
        try:
            while not (await asyncio.wait({asking}, timeout=max(0.05, self._silence())))[0]:
                if self._silence() <= 0:
                    self._tell(FrameKind.HEARTBEAT)
            return dict(zip(wanted, asking.result(), strict=True))
        finally:
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)

    async def _answer(self, index: int) -> Shown:
        while True:
            at = datetime.now(UTC)
            try:
                async with AsyncExitStack() as held:
                    for place in self._places:
                        await held.enter_async_context(place)
                    # Looked up each time: a metric's new version is told of by another id.
                    self._concerns[index] = Concern(await self.asker.definitions(self.key.questions[index]))
                    answer = await self.asker.answer(self.key.questions[index])
            except Unavailable:
                await asyncio.sleep(RETRY_SECONDS)
                continue
            except BadInput as error:
                if len(self.key.questions) == 1:
                    raise
                # One question that cannot be answered must not end the others of its screen.
                old = self.log.shown[index]
                return replace(old, fault=Fault(error.code, error.message))
            self._fresh[index] = answer.fresh_until
            return Shown.of(answer, at)

    def _silence(self) -> float:
        """Seconds until readers are owed a frame."""
        return self._spoke_at + self._heartbeat_seconds - time.monotonic()

    def _tell(self, kind: FrameKind, changes: tuple[Change, ...] = ()) -> None:
        self._tell_all([(kind, changes)])

    def _tell_all(self, frames: Iterable[tuple[FrameKind, Iterable[Change]]]) -> None:
        is_told = False
        for kind, changes in frames:
            self.log.add(kind, tuple(changes))
            is_told = True
        if is_told:
            self._spoke_at = time.monotonic()
            self.on_frame(self)
            self._wake()

    def _end(self, error: CloudMetricsError) -> None:
        self.error = error
        self._wake()

    def _wake(self) -> None:
        for reader in tuple(self.readers):
            reader.wake()
