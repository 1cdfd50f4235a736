"""A live stream is never silent for longer than its heartbeat, whatever happens to others meanwhile."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from core.database import Database
from core.errors import DatabaseUnavailable
from core.metrics import BUILT_IN
from core.rollups import LiveNotice, encode_notice
from core.settings import Settings
from core.tenancy import Tenant
from core.topics import live_channel
from query.answer import Answer
from query.engine import QueryEngine
from query.question import Interval, MetricQuestion
from resolvers.context import Context
from resolvers.series import FrameKind, SeriesStream
from tests.conftest import make_key
from web.auth.keys import KnownKey
from web.graphql_door import GraphQLDoor
from web.ingest.rest import IngestDoor
from web.services import Services, open_services

HEARTBEAT_SECONDS = 0.4
QUESTION = MetricQuestion(metric="events", last="10m", interval=Interval.MINUTE)


@pytest.fixture
async def context(settings: Settings, database: Database, tenant: Tenant) -> AsyncIterator[Context]:
    key, _ = await make_key(database, settings, tenant)
    quick = dataclasses.replace(settings, heartbeat_seconds=HEARTBEAT_SECONDS)
    async with open_services(quick) as services:
        await until_connected(services)
        door = GraphQLDoor(services, IngestDoor(services).ingest)
        yield door.context(KnownKey(key, (), 0).caller(), None, "request")


async def until_connected(services: Services) -> None:
    """The first connection tells readers who came before it to look again, which is no part of these tests."""
    async with services.live.subscribe("ready") as reader, asyncio.timeout(20):
        while True:
            await services.live.publish("ready", "yes")
            with suppress(TimeoutError):
                async with asyncio.timeout(0.2):
                    await reader.next()
                    return


async def test_a_quiet_stream_sends_heartbeats_that_count(context: Context) -> None:
    # A range that stays: the next minute's beginning is no silence.
    hour = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    fixed = dataclasses.replace(QUESTION, last=None, from_=hour, to=hour + timedelta(hours=1))
    frames = SeriesStream(context, fixed, BUILT_IN["events"]).frames(None)
    async with asyncio.timeout(20):
        seen = [await anext(frames) for _ in range(4)]
    assert [frame.kind for frame in seen] == [FrameKind.SNAPSHOT, *[FrameKind.HEARTBEAT] * 3]
    assert [frame.seq for frame in seen] == [1, 2, 3, 4]
    await frames.aclose()  # type: ignore[attr-defined]


async def test_changes_of_other_things_do_not_put_the_heartbeat_off(context: Context, tenant: Tenant) -> None:
    """Word of changes comes all the time, and none of it changes this question's answer."""
    minute = int(time.time()) // 60 * 60
    notice = encode_notice(LiveNotice(0, 1, [("other", minute, minute)], []))

    async def talk() -> None:
        while True:
            await context.backends.live.publish(live_channel(tenant.id), notice)
            await asyncio.sleep(HEARTBEAT_SECONDS / 10)

    frames = SeriesStream(context, QUESTION, BUILT_IN["events"]).frames(None)
    assert (await anext(frames)).kind is FrameKind.SNAPSHOT
    talking = asyncio.create_task(talk())
    try:
        async with asyncio.timeout(20):
            assert (await anext(frames)).kind is FrameKind.HEARTBEAT
    finally:
        talking.cancel()
        with suppress(asyncio.CancelledError):
            await talking
        await frames.aclose()  # type: ignore[attr-defined]


async def within_a_minute() -> None:
    """Waits past a minute's end that is near: a test that compares two looks at one minute needs them in it."""
    if (into := time.time() % 60) > 50:
        await asyncio.sleep(60.1 - into)


async def test_a_range_that_ends_now_moves_on_while_nothing_happens(context: Context) -> None:
    await within_a_minute()
    stream = SeriesStream(
        context, MetricQuestion(metric="events", last="1m", interval=Interval.MINUTE), BUILT_IN["events"]
    )
    frames = stream.frames(None)
    first = await anext(frames)
    # As if it had been shown a minute ago.
    earlier = [stamp - 60_000 for stamp in first.columns.timestamps]
    stream._shown = msgspec.structs.replace(first.columns, timestamps=earlier)
    async with asyncio.timeout(20):
        moved = await anext(frames)
    assert moved.kind is FrameKind.DELTA and moved.columns.timestamps == first.columns.timestamps[-1:]
    await frames.aclose()  # type: ignore[attr-defined]


async def test_an_outage_of_the_database_is_not_silence(context: Context) -> None:
    class Away(QueryEngine):
        def __init__(self) -> None:
            pass

        async def answer(self, *args: object, **options: object) -> Answer:
            await asyncio.sleep(60)
            raise DatabaseUnavailable

    backends = dataclasses.replace(context.backends, engine=Away())
    frames = SeriesStream(dataclasses.replace(context, backends=backends), QUESTION, BUILT_IN["events"]).frames(None)
    async with asyncio.timeout(20):
        assert [(await anext(frames)).kind for _ in range(3)] == [FrameKind.HEARTBEAT] * 3
    await frames.aclose()  # type: ignore[attr-defined]


@pytest.mark.parametrize(("metric", "is_told"), [("events", False), ("ingest_rejected", True)])
async def test_word_of_refusals_concerns_who_asks_for_them_alone(context: Context, metric: str, is_told: bool) -> None:
    stream = SeriesStream(context, dataclasses.replace(QUESTION, metric=metric), BUILT_IN[metric])
    assert stream._concerns(LiveNotice(0, 0, [], [], is_of_ingest=True)) is is_told
    assert stream._concerns(LiveNotice(0, 1, [("a", 0, 0)], [])) is True
