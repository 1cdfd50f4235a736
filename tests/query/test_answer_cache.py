"""An answer from the cache is a fresh one, as of the moment that it names."""

from __future__ import annotations

import asyncio
import dataclasses
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from core import accounts
from core.answer_store import AnswerStore
from core.changes import MAX_KEPT, MAX_TOLD, ChangeNotes
from core.database import Database
from core.eventlog import Offset, Partition
from core.events import EnrichedEvent
from core.filters import DimensionFilter, FilterOp
from core.metric_catalog import MetricCatalog
from core.retention import Retention
from core.rollups import ChangedBucket
from core.settings import Settings
from core.tenancy import Tenant
from core.valkey import open_valkey
from pipeline.aggregate import updates_of
from pipeline.prepared import prepare
from pipeline.store import Store
from query.answer import Answer
from query.answer_cache import AnswerCache
from query.engine import QueryEngine
from query.question import Interval, MetricQuestion
from tests.conftest import free_port
from tests.pipeline.builders import batch_of, enriched

START = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(hours=8)
QUESTIONS = [
    MetricQuestion(metric="events", last="3h", interval=Interval.MINUTE),
    MetricQuestion(metric="pageviews", last="6h", interval=Interval.FIVE_MINUTES),
    MetricQuestion(metric="bytes_sent", last="4h", interval=Interval.MINUTE, timezone="Asia/Kolkata"),
    MetricQuestion(metric="visitors", last="2h", interval=Interval.FIVE_MINUTES),
    MetricQuestion(metric="error_rate", last="3h", interval=Interval.MINUTE),
    MetricQuestion(metric="request_duration", last="3h", interval=Interval.HOUR),
    MetricQuestion(metric="events", last="3h", interval=Interval.HOUR, group_by=("country",), limit=2),
    MetricQuestion(
        metric="requests", last="6h", interval=Interval.MINUTE,
        filters=(DimensionFilter("country", FilterOp.IN, ("DE", "NL")),),
    ),
    MetricQuestion(metric="events", from_=START, to=START + timedelta(hours=7), interval=Interval.FIVE_MINUTES),
]  # fmt: skip


class CountingEngine(QueryEngine):
    """Counts what it is asked, and can be made to wait."""

    def __init__(self, database: Database, retention: Retention, world: World) -> None:
        super().__init__(database, MetricCatalog(database), retention, world.counted_until)
        self.asked: Counter[str] = Counter()
        self.gate = asyncio.Event()
        self.gate.set()

    async def answer(self, tenant: Tenant, question: MetricQuestion, now: datetime | None = None) -> Answer:
        self.asked[question.metric] += 1
        await self.gate.wait()
        return await super().answer(tenant, question, now)


class World:
    """What was accepted, counted and told, on a clock of the test's own: events go through the worker's own store."""

    def __init__(self, database: Database, notes: ChangeNotes, tenant: Tenant) -> None:
        self._store = Store(database, f"world-{uuid4()}")
        self._notes = notes
        self._tenant = tenant
        self._offset = 1
        self._untold: list[list[ChangedBucket]] = []
        self.now = START + timedelta(hours=3, seconds=30)
        self.counted_at = self.told_at = self.now

    async def counted_until(self) -> datetime:
        return self.counted_at

    async def told_until(self) -> datetime:
        return self.told_at

    async def count(self, events: Sequence[EnrichedEvent]) -> None:
        """As the aggregate worker does it; nobody is told yet."""
        batch = batch_of(self._tenant.id, *events)
        await self._store.ensure_partitions([batch])
        after = Offset(str(self._offset + 1))
        counted = await self._store.transact(
            Partition("events.enriched"), await prepare([batch]), Offset(str(self._offset)), lambda c: (after, b"")
        )
        self._offset += 1
        self.counted_at = self.now
        self._untold += [update.changed for update in updates_of(counted, 0, after, self.now.timestamp())]

    async def tell(self) -> None:
        """As the bridge does it."""
        for changed in self._untold:
            await self._notes.note(self._tenant.id, changed)
        self._untold = []
        self.told_at = self.counted_at


def some_events(chance: random.Random, now: datetime) -> list[EnrichedEvent]:
    """A few of the last minute, and late ones."""
    moments = [now - timedelta(seconds=chance.random() * 60) for _ in range(chance.randrange(1, 6))]
    if chance.random() < 0.4:
        moments.append(now - timedelta(seconds=chance.random() * 3 * 3600))
    return [
        enriched(
            id=uuid4().bytes,
            type=chance.choice(["page_view", "http_request"]),
            timestamp_ms=int(at.timestamp() * 1000),
            visitor=chance.randrange(50),
            session=chance.randrange(70),
            country=chance.choice(["DE", "NL", "GB"]),
            status=chance.choice([200, 500]),
            duration_ms=chance.random() * 100,
            bytes=chance.randrange(10_000),
        )
        for at in moments
    ]


@pytest.fixture
async def notes(settings: Settings) -> AsyncIterator[ChangeNotes]:
    notes = ChangeNotes(settings.redis_url)
    yield notes
    await notes.close()


@pytest.fixture
def world(database: Database, notes: ChangeNotes, tenant: Tenant) -> World:
    return World(database, notes, tenant)


@asynccontextmanager
async def process_of(
    settings: Settings, database: Database, world: World
) -> AsyncIterator[tuple[AnswerCache, CountingEngine]]:
    """A process's cache, and the engine behind it."""
    engine = CountingEngine(database, Retention.of(settings), world)
    store = AnswerStore(settings.redis_url)
    yield AnswerCache(engine, store, world.told_until), engine
    await store.close()


def same(a: Answer, b: Answer) -> bool:
    return (a.columns, a.from_, a.to, a.interval) == (b.columns, b.from_, b.to, b.interval)


@pytest.mark.parametrize("seed", range(4))
async def test_a_kept_answer_equals_a_fresh_one_as_of_its_freshness(
    settings: Settings, database: Database, world: World, tenant: Tenant, seed: int
) -> None:
    """Two processes, events on time and late, told at once or later, and a window that moves on."""
    chance = random.Random(seed)
    fresh = QueryEngine(database, MetricCatalog(database), Retention.of(settings), world.counted_until)
    # What a fresh answer said at each moment up to which all was counted.
    said: dict[tuple[int, datetime, datetime], Answer] = {}
    hits = 0
    async with process_of(settings, database, world) as one, process_of(settings, database, world) as two:
        for _ in range(60):
            match chance.choice(["count", "count", "tell", "tell", "ask", "ask", "ask", "ask", "wait"]):
                case "count":
                    world.now += timedelta(seconds=chance.random() * 5)
                    await world.count(some_events(chance, world.now))
                    said.clear()
                case "tell":
                    await world.tell()
                case "wait":
                    world.now += timedelta(seconds=chance.random() * 200)
                case "ask":
                    number = chance.randrange(len(QUESTIONS))
                    cache, engine = chance.choice([one, two])
                    before = engine.asked.total()
                    got = await cache.answer(tenant, QUESTIONS[number], world.now)
                    expected = await fresh.answer(tenant, QUESTIONS[number], world.now)
                    hits += engine.asked.total() == before
                    assert got.fresh_until >= world.told_at
                    if got.fresh_until >= world.counted_at:
                        assert same(got, expected), QUESTIONS[number]
                    assert (got.from_, got.to) == (expected.from_, expected.to)
                    assert got.is_complete == (got.to <= got.fresh_until)
    assert hits


async def test_only_what_changed_is_read_again(
    settings: Settings, database: Database, world: World, tenant: Tenant
) -> None:
    question = QUESTIONS[0]
    await world.count([enriched(id=uuid4().bytes, timestamp_ms=ms_of(world.now - timedelta(hours=1)))])
    await world.tell()
    async with process_of(settings, database, world) as (cache, _):
        whole = await cache.answer(tenant, question, world.now)
        assert whole.columns.series[0].total == 1
        assert (await cache.answer(tenant, question, world.now)).rows_read == 0
        await world.count([enriched(id=uuid4().bytes, timestamp_ms=ms_of(world.now))])
        await world.tell()
        mended = await cache.answer(tenant, question, world.now)
        # The rows of one minute, not of both.
        assert (mended.columns.series[0].total, mended.rows_read) == (2, 1)


def ms_of(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)


async def test_a_change_elsewhere_leaves_an_answer_as_it_is(
    settings: Settings, database: Database, world: World, tenant: Tenant
) -> None:
    question = MetricQuestion(metric="pageviews", last="1h")
    async with process_of(settings, database, world) as (cache, engine):
        await cache.answer(tenant, question, world.now)
        await world.count([
            enriched(id=uuid4().bytes, type="signup", timestamp_ms=ms_of(world.now)),
            enriched(id=uuid4().bytes, timestamp_ms=ms_of(world.now - timedelta(hours=2))),
        ])  # fmt: skip
        await world.tell()
        again = await cache.answer(tenant, question, world.now)
        assert engine.asked.total() == 1
        assert again.fresh_until == world.told_at


async def test_nothing_is_said_to_be_fresh_before_its_change_was_stamped(
    settings: Settings, database: Database, world: World, tenant: Tenant
) -> None:
    """An event is counted, and the bridge has not come to it: what was kept is right as of before."""
    question = MetricQuestion(metric="events", last="1h")
    async with process_of(settings, database, world) as (cache, _):
        first = await cache.answer(tenant, question, world.now)
        world.now += timedelta(seconds=1)
        await world.count([enriched(id=uuid4().bytes, timestamp_ms=ms_of(world.now))])
        kept = await cache.answer(tenant, question, world.now)
        assert kept.columns.series[0].total == 0
        assert kept.fresh_until == first.fresh_until < world.counted_at
        await world.tell()
        assert (await cache.answer(tenant, question, world.now)).columns.series[0].total == 1


async def test_one_of_many_who_ask_at_once_finds_the_answer(
    settings: Settings, database: Database, world: World, tenant: Tenant
) -> None:
    """In two processes."""
    question = MetricQuestion(metric="events", last="1h")
    process = lambda: process_of(settings, database, world)  # noqa: E731
    async with process() as (one, first), process() as (two, second):
        first.gate.clear()
        second.gate.clear()
        asking = [asyncio.create_task(c.answer(tenant, question, world.now)) for c in (one, two) for _ in range(10)]
        while not first.asked.total() + second.asked.total():
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.2)
        first.gate.set()
        second.gate.set()
        answers = await asyncio.gather(*asking)
        assert first.asked.total() + second.asked.total() == 1
        assert all(same(answer, answers[0]) for answer in answers)


async def test_who_asks_after_a_change_is_not_given_what_was_begun_before(
    settings: Settings, database: Database, world: World, tenant: Tenant
) -> None:
    question = MetricQuestion(metric="events", last="1h")
    async with process_of(settings, database, world) as (cache, engine):
        engine.gate.clear()
        early = asyncio.create_task(cache.answer(tenant, question, world.now))
        while not engine.asked.total():
            await asyncio.sleep(0.01)
        await world.count([enriched(id=uuid4().bytes, timestamp_ms=ms_of(world.now))])
        await world.tell()
        late = asyncio.create_task(cache.answer(tenant, question, world.now))
        await asyncio.sleep(0.2)
        engine.gate.set()
        await early
        assert (await late).columns.series[0].total == 1


async def test_when_all_who_asked_are_gone_the_question_is_not_asked_to_its_end(
    settings: Settings, database: Database, world: World, tenant: Tenant
) -> None:
    question = MetricQuestion(metric="events", last="1h")
    async with process_of(settings, database, world) as (cache, engine):
        engine.gate.clear()
        asking = [asyncio.create_task(cache.answer(tenant, question, world.now)) for _ in range(2)]
        while not engine.asked.total():
            await asyncio.sleep(0.01)
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)
        engine.gate.set()
        # And nobody waits for a lease that is held for no one.
        assert (await cache.answer(tenant, question, world.now)).rows_read == 0
        assert engine.asked.total() == 2


async def test_without_valkey_every_question_is_asked(
    settings: Settings, database: Database, world: World, tenant: Tenant
) -> None:
    away = dataclasses.replace(settings, redis_url=f"redis://127.0.0.1:{free_port()}/0")
    async with process_of(away, database, world) as (cache, engine):
        for _ in range(3):
            await cache.answer(tenant, QUESTIONS[0], world.now)
        assert engine.asked.total() == 3


async def test_an_emptied_valkey_vouches_for_nothing_that_a_process_kept(
    settings: Settings, database: Database, world: World, tenant: Tenant
) -> None:
    question = MetricQuestion(metric="events", last="1h")
    async with process_of(settings, database, world) as (cache, _):
        await cache.answer(tenant, question, world.now)
        await world.count([enriched(id=uuid4().bytes, timestamp_ms=ms_of(world.now))])
        await world.tell()
        client = open_valkey(settings.redis_url, seconds=2.0)
        await client.flushall()
        await client.aclose()
        assert (await cache.answer(tenant, question, world.now)).columns.series[0].total == 1


@pytest.mark.parametrize("minutes", [MAX_TOLD + 1, MAX_KEPT + 1])
async def test_more_changes_than_are_kept_apart_change_everything(
    settings: Settings, database: Database, world: World, notes: ChangeNotes, tenant: Tenant, minutes: int
) -> None:
    question = MetricQuestion(metric="events", last="1h")
    async with process_of(settings, database, world) as (cache, engine):
        await cache.answer(tenant, question, world.now)
        for at in range(0, minutes, MAX_TOLD if minutes > MAX_KEPT else minutes):
            changed = [ChangedBucket("x", False, n * 60) for n in range(at, at + min(MAX_TOLD, minutes))]
            await notes.note(tenant.id, changed if minutes > MAX_KEPT else [*changed, ChangedBucket("x", False, -60)])
        await cache.answer(tenant, question, world.now)
        assert engine.asked.total() == 2


async def test_an_answer_of_another_tenant_or_with_other_conditions_is_another(
    settings: Settings, database: Database, world: World, tenant: Tenant
) -> None:
    question = MetricQuestion(metric="events", last="1h")
    locked = dataclasses.replace(question, filters=(DimensionFilter("country", FilterOp.EQ, ("DE",)),))
    other = await accounts.create_tenant(database, slug="another", name="", tier=tenant.tier)
    await world.count([enriched(id=uuid4().bytes, country="NL", timestamp_ms=ms_of(world.now))])
    await world.tell()
    async with process_of(settings, database, world) as (cache, engine):
        assert (await cache.answer(tenant, question, world.now)).columns.series[0].total == 1
        assert (await cache.answer(other, question, world.now)).columns.series[0].total == 0
        assert (await cache.answer(tenant, locked, world.now)).columns.series[0].total == 0
        assert engine.asked.total() == 3


async def test_a_kept_answer_is_read_anew_after_half_a_minute(
    settings: Settings, database: Database, world: World, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    question = MetricQuestion(metric="visitors", last="1h")
    async with process_of(settings, database, world) as (cache, engine):
        await cache.answer(tenant, question, world.now)
        now = time.time()
        monkeypatch.setattr(time, "time", lambda: now + 31)
        await cache.answer(tenant, question, world.now)
        assert engine.asked.total() == 2


async def test_a_server_does_not_vouch_for_what_was_kept_in_an_earlier_life(
    settings: Settings, database: Database, world: World, tenant: Tenant
) -> None:
    """It may have lost the stamps of its last second; a connection to it learns whose life it is."""
    question = MetricQuestion(metric="visitors", last="1h")
    client = open_valkey(settings.redis_url, seconds=2.0)
    run_id = (await client.info("server"))["run_id"]
    await client.aclose()
    async with process_of(settings, database, world) as (cache, engine):
        await cache.answer(tenant, question, world.now)
        assert cache._store._life == run_id
        cache._store._life = "the life after a restart"
        await cache.answer(tenant, question, world.now)
        assert engine.asked.total() == 2
