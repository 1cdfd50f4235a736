"""The live tail: each event once, by the filter; of many the newest, and how many others there were."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass
from uuid import uuid4

import pytest

from core.database import Database
from core.errors import BadInput
from core.events import EnrichedEvent
from core.filters import DimensionFilter, FilterOp
from core.live import RESYNC
from core.settings import Settings
from core.tenancy import Tenant
from core.topics import tail_channel
from pipeline.tail import TailTeller
from query.frames import FrameKind
from resolvers import tail
from resolvers.context import Context
from resolvers.events import EventQuestion
from resolvers.live_log import GoingAway
from resolvers.tail import TailFrame, tail_events
from tests.pipeline.builders import batch_of, enriched
from tests.resolvers.test_live_hub import Counting, process


@dataclass
class Tailed:
    """A web process, and the aggregate worker that tells what it counted."""

    context: Context
    counting: Counting
    teller: TailTeller
    tenant: Tenant

    async def count(self, *events: EnrichedEvent) -> None:
        """Counts events, and tells of them as the worker's chore does."""
        self.teller.note(await self.counting.fresh(*events))
        await self.teller.tell()

    async def listened(self) -> None:
        """Until the worker knows that somebody listens."""
        async with asyncio.timeout(20):
            while self.tenant.id not in self.teller._listened:
                await self.teller.tell()
                await asyncio.sleep(0.02)


@pytest.fixture
async def tailed(
    settings: Settings, database: Database, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Tailed]:
    monkeypatch.setattr(tail, "FRAME_SECONDS", 0.05)
    async with AsyncExitStack() as stack:
        context = await process(stack, settings, database, tenant)
        counting = Counting(database, tenant, context)
        yield Tailed(context, counting, TailTeller(context.backends.tails), tenant)


async def of_kind(frames: AsyncGenerator[TailFrame, None], kind: FrameKind) -> TailFrame:
    async with asyncio.timeout(20):
        while (frame := await anext(frames)).kind is not kind:
            continue
    return frame


async def test_an_event_is_told_once_as_it_is_stored(tailed: Tailed) -> None:
    async with aclosing(tail_events(tailed.context, EventQuestion())) as frames:
        assert (await anext(frames)).kind is FrameKind.HEARTBEAT
        await tailed.listened()
        event = enriched(type="signup", user_id="ada", properties=b'{"plan":"pro"}')
        await tailed.count(event)
        frame = await of_kind(frames, FrameKind.DELTA)
        assert [(row.type, row.user_id, row.properties) for row in frame.events] == [("signup", "ada", {"plan": "pro"})]
        assert (frame.sampled, frame.dropped) == (False, 0)
        # The same again is counted no more, and told no more.
        await tailed.count(event, enriched(type="after"))
        assert [row.type for row in (await of_kind(frames, FrameKind.DELTA)).events] == ["after"]


async def test_the_filter_says_which(tailed: Tailed) -> None:
    asked = EventQuestion(types=("a",), user_id="ada", include_bots=False)
    async with aclosing(tail_events(tailed.context, asked)) as frames:
        await anext(frames)
        await tailed.listened()
        await tailed.count(
            enriched(type="b", user_id="ada"), enriched(type="a", user_id="bob"),
            enriched(type="a", user_id="ada", is_bot=True), enriched(type="a", user_id="ada"),
        )  # fmt: skip
        frame = await of_kind(frames, FrameKind.DELTA)
    assert [(row.type, row.user_id, row.is_bot) for row in frame.events] == [("a", "ada", False)] and not frame.sampled


async def test_conditions_are_held_against_what_is_stored(tailed: Tailed) -> None:
    paid = DimensionFilter("properties.plan", FilterOp.EQ, ("pro",))
    async with aclosing(tail_events(tailed.context, EventQuestion(conditions=(paid,)))) as frames:
        await anext(frames)
        await tailed.listened()
        plans = (b"free", b"pro", b"team")
        await tailed.count(*(enriched(type=p.decode(), properties=b'{"plan":"%s"}' % p) for p in plans))
        frame = await of_kind(frames, FrameKind.DELTA)
    assert [row.type for row in frame.events] == ["pro"] and not frame.sampled


async def test_of_more_than_a_reader_takes_the_newest_are_told_and_the_others_counted(tailed: Tailed) -> None:
    async with aclosing(tail_events(tailed.context, EventQuestion())) as frames:
        await anext(frames)
        await tailed.listened()
        now = int(time.time() * 1000)
        await tailed.count(*(enriched(type=f"t{n}", timestamp_ms=now + n) for n in range(500)))
        frame = await of_kind(frames, FrameKind.DELTA)
    assert [row.type for row in frame.events] == [f"t{n}" for n in range(499, 449, -1)]
    assert frame.sampled and frame.dropped == 450


async def test_another_tenants_events_are_not_heard(tailed: Tailed) -> None:
    async with aclosing(tail_events(tailed.context, EventQuestion())) as frames:
        await anext(frames)
        await tailed.listened()
        stranger = enriched(type="theirs")
        tailed.teller.note([(batch_of(uuid4(), stranger), stranger)])
        await tailed.count(enriched(type="ours"))
        assert [row.type for row in (await of_kind(frames, FrameKind.DELTA)).events] == ["ours"]


async def test_while_nobody_listens_nothing_is_noted(tailed: Tailed) -> None:
    tailed.teller.note(await tailed.counting.fresh(enriched()))
    assert tailed.tenant.id not in tailed.teller._waiting


async def test_a_lost_connection_is_a_gap(tailed: Tailed) -> None:
    async with aclosing(tail_events(tailed.context, EventQuestion())) as frames:
        await anext(frames)
        await tailed.context.backends.live.publish(tail_channel(tailed.tenant.id), RESYNC)
        assert (await of_kind(frames, FrameKind.GAP)).events == []


async def test_numbers_have_no_holes_and_a_tail_has_a_fixed_life(
    tailed: Tailed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tail, "LIFE_SECONDS", 0.6)
    seen = []
    with pytest.raises(GoingAway):
        async with aclosing(tail_events(tailed.context, EventQuestion())) as frames, asyncio.timeout(20):
            async for frame in frames:
                seen.append(frame.seq)
    assert seen == list(range(1, len(seen) + 1)) and len(seen) > 1


async def test_a_filter_that_cannot_be_used_is_refused(tailed: Tailed) -> None:
    with pytest.raises(BadInput):
        await anext(tail_events(tailed.context, dataclasses.replace(EventQuestion(), user_id="\0")))
