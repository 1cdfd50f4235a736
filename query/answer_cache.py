"""Answers kept for half a minute, and never older than they say.

An answer is kept with the stamp of the tenant's last change before it was read (`core/changes.py`). It is right for as
long as nothing within its range bears a younger stamp: to ask again costs one look at the stamps. What changed since,
open bucket and late event alike, is read anew, and nothing else where the rest says what the whole is. One process
finds an answer at a time, by a lease; the others wait for it, a while. Without Valkey every question is asked.

`fresh_until` of an answer that was kept is the moment up to which everything accepted had been stamped before the
stamps were looked at: a later one than when it was read, or the same.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from core.answer_store import AnswerStore, Place, Seen
from core.changes import Change, Stamps
from core.metrics import MetricDefinition, MetricKind
from core.tenancy import Tenant, TenantId
from query.answer import Answer, moment
from query.calendar import buckets_of, covered
from query.engine import LOSSES, Explained, QueryEngine
from query.kept import Kept, NearestAnswers, Run, mended, name_of, read_kept, runs_to_read, write_kept
from query.looks import Looks
from query.question import MetricQuestion

FOLLOW_SECONDS = 3.0
FOLLOW_PAUSE_SECONDS = (0.01, 0.2)
# Of one process; decoded columns take about six times their JSON.
MAX_LOCAL_BYTES = 16 * 1024 * 1024
MAX_TENANTS = 1_000

ToldUntil = Callable[[], Awaitable[datetime]]


@dataclass(frozen=True, slots=True)
class _Asked:
    """A question on its way: what it is kept as, and what must have been seen for an answer to be right."""

    tenant: Tenant
    question: MetricQuestion
    definitions: list[MetricDefinition]
    place: Place
    now: datetime
    told: datetime
    started: float

    @property
    def definition(self) -> MetricDefinition:
        return self.definitions[0]

    @property
    def types(self) -> set[str] | None:
        """The types of events that it is about; None: all."""
        each = [definition.event_types for definition in self.definitions if definition.kind is not MetricKind.FORMULA]
        return None if None in each else {name for names in each if names is not None for name in names}


@dataclass(slots=True)
class _Flight:
    """One finding of an answer, which those who ask meanwhile share; it ends when all of them are gone."""

    stamp: int
    task: asyncio.Task[Answer]
    waiting: int = 0

    async def joined(self) -> Answer:
        self.waiting += 1
        try:
            return await asyncio.shield(self.task)
        finally:
            self.waiting -= 1
            if not self.waiting and not self.task.done():
                self.task.cancel()


class AnswerCache:
    """Answers as `QueryEngine` does."""

    def __init__(self, engine: QueryEngine, store: AnswerStore, told_until: ToldUntil) -> None:
        self._engine = engine
        self._store = store
        self._told_until = told_until
        self._looks = Looks(store)
        self._flights: dict[Place, _Flight] = {}
        self._here = NearestAnswers(MAX_LOCAL_BYTES)
        # By tenant: after which stamp, the stamps then, and what changed between.
        self._changes: dict[TenantId, tuple[int, Stamps, list[Change]]] = {}

    async def answer(self, tenant: Tenant, question: MetricQuestion, now: datetime | None = None) -> Answer:
        """The answer to a question. Raises as `QueryEngine.answer`."""
        asked = await self._asked(tenant, question, now)
        if asked is None:
            return await self._engine.answer(tenant, question, now)
        seen = await self._looks.look(asked.place, is_kept_here=asked.place in self._here)
        if seen is None:
            return await self._engine.answer(tenant, question, now)
        is_new = self._take_in(asked, seen)
        answer = await self._current(asked, seen)
        if answer is None and not is_new and asked.place in self._here:
            # Somebody else may have brought it up to date since this process last looked.
            again = await self._looks.look(asked.place, is_kept_here=False)
            if again is not None and self._take_in(asked, again):
                answer = await self._current(asked, seen)
        return answer or await self._found(asked, seen)

    async def definitions(self, tenant: Tenant, question: MetricQuestion) -> list[MetricDefinition]:
        """As `QueryEngine.definitions`."""
        return await self._engine.definitions(tenant, question)

    async def explain(self, tenant: Tenant, question: MetricQuestion, now: datetime | None = None) -> list[Explained]:
        """As `QueryEngine.explain`: what would be read if nothing were kept."""
        return await self._engine.explain(tenant, question, now)

    async def _asked(self, tenant: Tenant, question: MetricQuestion, now: datetime | None) -> _Asked | None:
        """The question with what must be known before the stamps are looked at; None of one that is not kept."""
        started = time.perf_counter()
        definitions = await self._engine.definitions(tenant, question)
        if not all(_is_kept(definition) for definition in definitions):
            return None
        at = now or datetime.now(UTC)
        # What is kept for how long is reckoned from the day.
        name = name_of(question, definitions, tenant.tier.value, at.date().isoformat())
        return _Asked(tenant, question, definitions, (tenant.id, name), at, await self._told_until(), started)

    def _take_in(self, asked: _Asked, seen: Seen) -> bool:
        """Keeps here what the store had, if it had something and it is newer."""
        place = asked.place
        value = seen.entries.get(place)
        kept = read_kept(value, asked.definition) if value is not None else None
        if kept is None:
            return False
        known = self._here.get(place)
        if known is not None and known.life == kept.life and known.stamp >= kept.stamp:
            return False
        self._here.put(place, kept)
        return True

    async def _current(self, asked: _Asked, seen: Seen) -> Answer | None:
        """The kept answer, if it holds all that had changed when `seen` was."""
        kept = self._here.get(asked.place)
        if kept is None or not kept.is_of(seen.life, seen.stamps[asked.tenant.id], time.time()):
            return None
        if not _has_range_of(asked, kept) or await self._touched(asked, kept, seen) != set():
            return None
        return _as_of(asked, kept.answer, max(asked.told, kept.answer.fresh_until))

    async def _touched(self, asked: _Asked, kept: Kept, seen: Seen) -> set[int] | None:
        """The minutes of a kept answer that have changed; None: any may have."""
        newest = seen.stamps[asked.tenant.id].newest
        if kept.stamp >= newest:
            return set()
        known = self._changes.get(asked.tenant.id)
        if known is None or known[0] > kept.stamp or known[1].newest < newest:
            found = await self._store.changes(asked.tenant.id, kept.stamp)
            if found is None:
                return None
            known = kept.stamp, *found
            if len(self._changes) > MAX_TENANTS:
                self._changes.clear()
            self._changes[asked.tenant.id] = known
        touched = kept.touched_by(known[2], asked.types)
        if not touched:
            kept.stamp = max(kept.stamp, known[1].newest)
        return touched

    async def _found(self, asked: _Asked, seen: Seen) -> Answer:
        """The answer from whoever finds it now, or else found here."""
        newest = seen.stamps[asked.tenant.id].newest
        while True:
            flight = self._flights.get(asked.place) or self._flown(asked, seen, newest)
            answer = await flight.joined()
            if flight.stamp >= newest:
                return answer
            # It began before this was asked, and something has changed between.
            current = await self._current(asked, seen)
            if current is not None:
                return current

    def _flown(self, asked: _Asked, seen: Seen, newest: int) -> _Flight:
        async def fly() -> Answer:
            try:
                return await self._found_once(asked, seen)
            finally:
                if self._flights.get(asked.place) is flight:
                    del self._flights[asked.place]

        flight = _Flight(newest, asyncio.get_running_loop().create_task(fly()))
        self._flights[asked.place] = flight
        return flight

    async def _found_once(self, asked: _Asked, seen: Seen) -> Answer:
        """Found by one process at a time."""
        is_mine = await self._store.lease(asked.place)
        if is_mine is False:
            answer, is_mine = await self._followed(asked, seen)
            if answer is not None:
                return answer
        is_put = False
        try:
            kept = await self._read(asked, seen)
            self._here.put(asked.place, kept)
            await self._store.put(asked.place, write_kept(kept))
            is_put = True
        finally:
            if is_mine and not is_put:
                await self._store.release(asked.place)
        return _as_of(asked, kept.answer, kept.answer.fresh_until, rows_read=kept.answer.rows_read)

    async def _followed(self, asked: _Asked, seen: Seen) -> tuple[Answer | None, bool]:
        """What another process finds; without an answer, whether the lease is this process's now."""
        until, pause = time.monotonic() + FOLLOW_SECONDS, FOLLOW_PAUSE_SECONDS[0]
        while time.monotonic() < until:
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, FOLLOW_PAUSE_SECONDS[1])
            again = await self._looks.look(asked.place, is_kept_here=False)
            if again is None:
                return None, False
            if self._take_in(asked, again):
                answer = await self._current(asked, seen)
                if answer is not None:
                    return answer, False
            is_mine = await self._store.lease(asked.place)
            if is_mine is not False:
                return None, bool(is_mine)
        return None, False

    async def _read(self, asked: _Asked, seen: Seen) -> Kept:
        """The answer anew: what changed of a kept one, or all of it."""
        at, stamp = time.time(), seen.stamps[asked.tenant.id].newest
        kept = self._here.get(asked.place)
        if kept is not None and kept.is_of(seen.life, seen.stamps[asked.tenant.id], at):
            touched = await self._touched(asked, kept, seen)
            answer = await self._mended(asked, kept, touched) if touched is not None else None
            if answer is not None:
                return Kept.of(answer, life=seen.life, stamp=stamp, read_at=at, whole_at=kept.whole_at)
        answer = await self._engine.answer(asked.tenant, asked.question, asked.now)
        return Kept.of(answer, life=seen.life, stamp=stamp, read_at=at, whole_at=at)

    async def _mended(self, asked: _Asked, kept: Kept, touched: set[int]) -> Answer | None:
        question, kind = asked.question, asked.definition.kind
        buckets = buckets_of(question.interval, *question.span(asked.now), question.zone())
        runs = None if question.is_whole else runs_to_read(kept, buckets.edges, touched, kind)
        if runs is None:
            return None
        read: list[tuple[Run, Answer]] = []
        for run in runs:
            part = replace(
                question, last=None, from_=moment(run.start), to=moment(run.end), interval=buckets.interval
            )  # fmt: skip
            read.append((run, await self._engine.answer(asked.tenant, part, asked.now)))
        columns = mended(kept, buckets.edges, read, kind)
        if columns is None:
            return None
        return replace(
            kept.answer,
            columns=columns,
            from_=moment(buckets.edges[0]),
            to=moment(buckets.edges[-1]),
            fresh_until=min([max(asked.told, kept.answer.fresh_until), *(a.fresh_until for _, a in read)]),
            # Of a window that has moved on; who hands it out looks again.
            is_complete=False,
            rows_read=sum(answer.rows_read for _, answer in read),
            reads=tuple(part for _, answer in read for part in answer.reads) or kept.answer.reads,
        )


def _is_kept(definition: MetricDefinition) -> bool:
    """Not what the doors refused, which is told of in another way; nor a metric that is being filled, whose answers
    change without an event."""
    own = definition.defined
    return definition.outcome is None and (own is None or own.ready_at is not None)


def _has_range_of(asked: _Asked, kept: Kept) -> bool:
    """Whether its buckets are those of the question now."""
    minute = int(asked.now.timestamp() // 60)
    if kept.minute != minute:
        question = asked.question
        first, last = covered(question.interval, *question.span(asked.now), question.zone())
        if kept.edges != (moment(first), moment(last)):
            return False
        # Edges move on at whole minutes only.
        kept.minute = minute
    return True


def _as_of(asked: _Asked, answer: Answer, fresh_until: datetime, rows_read: int = 0) -> Answer:
    return replace(
        answer,
        fresh_until=fresh_until,
        is_complete=answer.is_complete
        or (answer.to <= fresh_until and LOSSES.isdisjoint(w.code for w in answer.warnings)),
        rows_read=rows_read,
        took_ms=(time.perf_counter() - asked.started) * 1000,
    )
