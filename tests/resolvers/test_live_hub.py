"""A question is asked once for all who read it; a reader is never silent for longer than the heartbeat, and goes on
where it was cut: in whichever process, and after Valkey was killed."""

from __future__ import annotations

import asyncio
import dataclasses
import random
import signal
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import AsyncExitStack, aclosing, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import msgspec
import pytest

from cloudmetrics.data_folder import DataFolder
from cloudmetrics.embedded import valkey
from core.changes import ChangeNotes
from core.database import Database
from core.errors import BadInput, DatabaseUnavailable, TooMany
from core.eventlog import Offset, Partition
from core.events import EnrichedEvent
from core.metrics import BUILT_IN, MetricDefinition
from core.rollups import ChangedBucket, LiveNotice, encode_notice
from core.settings import Settings
from core.tenancy import Tenant, TenantId
from core.topics import live_channel, ring_key
from core.valkey import open_valkey
from pipeline.event_rows import Pair
from pipeline.prepared import prepare
from pipeline.store import Store
from query.answer import Answer
from query.composed import ComposedAnswers
from query.frames import Frame, FrameKind, Shown, after_frame
from query.question import Interval, MetricQuestion
from resolvers import live_hub, live_log, live_stream
from resolvers.context import Context
from resolvers.live_stream import Concern
from resolvers.series import live_frames, live_key
from tests.conftest import make_key
from tests.pipeline.builders import batch_of, enriched
from web.auth.keys import KnownKey
from web.graphql_door import GraphQLDoor
from web.ingest.rest import IngestDoor
from web.services import Services, open_services

HEARTBEAT_SECONDS = 0.4
QUESTION = MetricQuestion(metric="events", last="10m", interval=Interval.MINUTE)


def fixed(**more: object) -> MetricQuestion:
    """A range that stays: the next minute's beginning is no change."""
    hour = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    span = {"last": None, "from_": hour - timedelta(hours=1), "to": hour + timedelta(hours=1)}
    return dataclasses.replace(QUESTION, **span, **more)  # type: ignore[arg-type]


@pytest.fixture
async def context(settings: Settings, database: Database, tenant: Tenant) -> AsyncIterator[Context]:
    async with AsyncExitStack() as stack:
        yield await process(stack, settings, database, tenant)


async def process(stack: AsyncExitStack, settings: Settings, database: Database, tenant: Tenant) -> Context:
    """What a web process holds, and an operation in it."""
    key, _ = await make_key(database, settings, tenant)
    quick = dataclasses.replace(settings, heartbeat_seconds=HEARTBEAT_SECONDS)
    services = await stack.enter_async_context(open_services(quick))
    await until_connected(services)
    door = GraphQLDoor(services, IngestDoor(services).ingest)
    return door.context(KnownKey(key, (), 0).caller(), None, "request")


async def until_connected(services: Services) -> None:
    """The first connection tells readers who came before it to look again, which is no part of these tests."""
    async with services.live.subscribe("ready") as reader, asyncio.timeout(20):
        while True:
            await services.live.publish("ready", "yes")
            with suppress(TimeoutError):
                async with asyncio.timeout(0.2):
                    await reader.next()
                    return


def listen(context: Context, *questions: MetricQuestion, resume_from: str | None = None) -> AsyncGenerator[Frame, None]:
    async def frames() -> AsyncGenerator[Frame, None]:
        key = await live_key(context, questions or (fixed(),))
        async with aclosing(live_frames(context, key, resume_from)) as found:
            async for frame in found:
                yield frame

    return frames()


async def next_of(frames: AsyncGenerator[Frame, None], *kinds: FrameKind) -> Frame:
    async with asyncio.timeout(20):
        while (frame := await anext(frames)).kind not in kinds:
            continue
    return frame


@dataclass
class Counting:
    """The aggregate worker's transaction, and word of it as the bridge gives it."""

    database: Database
    tenant: Tenant
    context: Context
    count: int = 0
    total: int = field(default=0)
    _changed: set[ChangedBucket] = field(default_factory=set)

    async def add(self, *ages: float, type: str = "live", **more: object) -> None:
        """Counts events of so many seconds ago."""
        now = time.time()
        await self.fresh(*(enriched(type=type, timestamp_ms=int((now - age) * 1000), **more) for age in ages))
        self.total += len(ages)
        await self.tell(type)

    async def fresh(self, *events: EnrichedEvent) -> Sequence[Pair]:
        """Counts events; those that were new."""
        batch = batch_of(self.tenant.id, *events)
        store = Store(self.database, f"live-{self.tenant.slug}")
        await store.ensure_partitions([batch])
        place, self.count = Offset(f"{self.count + 1}-0"), self.count + 1
        after = Offset(f"{self.count + 1}-0")
        counted = await store.transact(Partition("t"), await prepare([batch]), place, lambda counted: (after, b""))
        self._changed |= {ChangedBucket(slot.type, slot.is_bot, slot.bucket) for slot in counted.minutes}
        return counted.fresh

    async def tell(self, type: str = "live") -> None:
        """Stamps what changed, before anybody is told."""
        notice = encode_notice(LiveNotice(0, 1, [(type, 0, 0)], []))
        changed, self._changed = self._changed, set()
        with suppress(Exception):
            notes = ChangeNotes(self.context.backends.settings.redis_url)
            try:
                await notes.note(self.tenant.id, changed)
            finally:
                await notes.close()
            await self.context.backends.live.publish(live_channel(self.tenant.id), notice)


@pytest.fixture
def counting(context: Context, database: Database, tenant: Tenant) -> Counting:
    return Counting(database, tenant, context)


async def test_a_quiet_stream_sends_heartbeats_that_count(context: Context) -> None:
    async with aclosing(listen(context)) as frames, asyncio.timeout(20):
        seen = [await anext(frames) for _ in range(4)]
    assert [frame.kind for frame in seen] == [FrameKind.SNAPSHOT, *[FrameKind.HEARTBEAT] * 3]
    assert [frame.seq for frame in seen] == [1, 2, 3, 4]


async def test_changes_of_other_things_do_not_put_the_heartbeat_off(context: Context, counting: Counting) -> None:
    """Word of changes comes all the time, and none of it changes this question's answer."""

    async def talk() -> None:
        while True:
            await counting.tell("other")
            await asyncio.sleep(HEARTBEAT_SECONDS / 10)

    async with aclosing(listen(context)) as frames:
        assert (await anext(frames)).kind is FrameKind.SNAPSHOT
        talking = asyncio.create_task(talk())
        try:
            async with asyncio.timeout(20):
                assert (await anext(frames)).kind is FrameKind.HEARTBEAT
        finally:
            talking.cancel()
            with suppress(asyncio.CancelledError):
                await talking


async def test_a_range_that_ends_now_moves_on_while_nothing_happens(context: Context) -> None:
    # Two buckets, so that the one that is looked at stands whatever the second.
    async with aclosing(
        listen(context, MetricQuestion(metric="events", last="1m", interval=Interval.MINUTE))
    ) as frames:
        first = await anext(frames)
        (stream,) = context.backends.hub.streams()
        # As if it had been shown a minute ago.
        (shown,) = stream.log.shown
        earlier = [stamp - 60_000 for stamp in shown.columns.timestamps]
        stream.log.shown = [Shown(msgspec.structs.replace(shown.columns, timestamps=earlier), shown.from_, shown.to)]
        moved = await next_of(frames, FrameKind.DELTA)
    assert moved.columns.timestamps[-1] >= first.columns.timestamps[-1]


async def test_an_outage_of_the_database_is_not_silence(context: Context) -> None:
    class Away(ComposedAnswers):
        async def definitions(self, *args: object, **options: object) -> list[MetricDefinition]:
            return [BUILT_IN["events"]]

        def __init__(self) -> None:
            pass

        async def answer(self, *args: object, **options: object) -> Answer:
            await asyncio.sleep(60)
            raise DatabaseUnavailable

    backends = dataclasses.replace(context.backends, engine=Away())
    async with aclosing(listen(dataclasses.replace(context, backends=backends))) as frames, asyncio.timeout(20):
        assert [(await anext(frames)).kind for _ in range(3)] == [FrameKind.HEARTBEAT] * 3


@pytest.mark.parametrize(("metric", "is_told"), [("events", False), ("ingest_rejected", True)])
def test_word_of_refusals_concerns_who_asks_for_them_alone(metric: str, is_told: bool) -> None:
    concern = Concern([BUILT_IN[metric]])
    assert concern.is_met_by(LiveNotice(0, 0, [], [], is_of_ingest=True)) is is_told
    assert concern.is_met_by(LiveNotice(0, 1, [("a", 0, 0)], [])) is True


async def test_a_hundred_readers_cost_as_many_answers_as_one(
    context: Context, counting: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = 0
    engine = context.backends.engine
    answer = engine.answer

    async def counted(*args: object, **options: object) -> Answer:
        nonlocal asked
        asked += 1
        return await answer(*args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(engine, "answer", counted)
    async with AsyncExitStack() as stack:
        readers = [await stack.enter_async_context(aclosing(listen(context))) for _ in range(100)]
        first = await asyncio.gather(*(next_of(frames, FrameKind.SNAPSHOT) for frames in readers))
        assert asked == 1 and len({id(frame.json) for frame in first}) == 1
        await counting.add(0)
        deltas = await asyncio.gather(*(next_of(frames, FrameKind.DELTA) for frames in readers))
        assert len({id(frame) for frame in deltas}) == 1
        assert len(context.backends.hub.streams()) == 1 and asked < 10


async def test_a_stream_ends_a_little_after_its_last_reader(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_hub, "LINGER_SECONDS", 0.3)
    hub = context.backends.hub
    async with aclosing(listen(context)) as frames:
        epoch = (await anext(frames)).epoch
    async with aclosing(listen(context)) as frames:
        assert (await anext(frames)).epoch == epoch
    assert len(hub.streams()) == 1
    async with asyncio.timeout(20):
        while hub.streams():
            await asyncio.sleep(0.05)
    assert not hub._tasks and not hub._tenants and not hub._endings


async def test_a_set_is_one_stream_whose_changes_name_their_question(context: Context, counting: Counting) -> None:
    questions = (fixed(), fixed(metric="requests"), fixed(metric="events", group_by=("browser",)))
    async with aclosing(listen(context, *questions)) as frames:
        whole = await next_of(frames, FrameKind.SNAPSHOT)
        assert [change.index for change in whole.changes] == [0, 1, 2]
        await counting.add(0)
        delta = await next_of(frames, FrameKind.DELTA)
        assert [change.index for change in delta.changes] == [0, 2]


async def test_one_question_of_a_set_that_cannot_be_answered_ends_no_other(
    context: Context, counting: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = context.backends.engine
    answer = engine.answer
    is_slow = True

    async def slow(tenant: Tenant, question: MetricQuestion, *args: object, **options: object) -> Answer:
        if is_slow and question.metric == "requests":
            raise BadInput("Ask for less.", code="query_too_slow")
        return await answer(tenant, question, *args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(engine, "answer", slow)
    async with aclosing(listen(context, fixed(), fixed(metric="requests"))) as frames:
        whole = await next_of(frames, FrameKind.SNAPSHOT)
        assert whole.changes[0].fault is None
        assert whole.changes[1].fault is not None and whole.changes[1].fault.code == "query_too_slow"
        state = after_frame([], whole)
        is_slow = False
        await counting.add(0)
        while state[1].fault is not None:
            state = after_frame(state, await next_of(frames, FrameKind.DELTA))
        assert state[1].columns.timestamps == state[0].columns.timestamps
    with pytest.raises(BadInput) as refused:
        is_slow = True
        async with aclosing(listen(context, fixed(metric="requests"))) as frames:
            await anext(frames)
    assert refused.value.code == "query_too_slow"


@pytest.mark.parametrize("count", [0, 21])
async def test_a_set_has_one_to_twenty_questions(context: Context, count: int) -> None:
    with pytest.raises(BadInput) as refused:
        await live_key(context, [fixed()] * count)
    assert refused.value.code == "too_many_questions" and "20" in refused.value.message


async def test_a_question_of_a_set_that_is_none_is_named(context: Context) -> None:
    with pytest.raises(BadInput) as refused:
        await live_key(context, [fixed(), fixed(metric="nope")])
    assert refused.value.field == "queries[1].metric" and refused.value.code == "unknown_metric"


async def test_there_are_so_many_different_streams_of_a_tenant(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_hub, "MAX_STREAMS_OF_TENANT", 2)
    async with AsyncExitStack() as stack:
        for limit in (1, 2):
            frames = await stack.enter_async_context(aclosing(listen(context, fixed(limit=limit))))
            await anext(frames)
        with pytest.raises(TooMany) as refused:
            await anext(listen(context, fixed(limit=3)))
        assert refused.value.code == "too_many_streams"
        assert await anext(await stack.enter_async_context(aclosing(listen(context, fixed(limit=2)))))


async def test_a_cut_reader_gets_what_it_missed_and_nothing_else(context: Context, counting: Counting) -> None:
    async with aclosing(listen(context)) as frames:
        cut = await next_of(frames, FrameKind.SNAPSHOT)
        async with aclosing(listen(context)) as others:
            for _ in range(3):
                await counting.add(0)
                await next_of(others, FrameKind.DELTA, FrameKind.REVISION)
    async with aclosing(listen(context, resume_from=cut.cursor)) as frames:
        resumed = await next_of(frames, FrameKind.DELTA, FrameKind.REVISION, FrameKind.SNAPSHOT, FrameKind.GAP)
    assert resumed.kind in (FrameKind.DELTA, FrameKind.REVISION)
    assert resumed.epoch == cut.epoch and resumed.columns.series[0].total == (cut.columns.series[0].total or 0) + 1


async def test_a_reader_goes_on_in_another_process(
    context: Context, counting: Counting, settings: Settings, database: Database, tenant: Tenant
) -> None:
    async with AsyncExitStack() as stack:
        other = await process(stack, settings, database, tenant)
        async with aclosing(listen(context)) as frames:
            cut = await next_of(frames, FrameKind.SNAPSHOT)
            await counting.add(0)
            told = await next_of(frames, FrameKind.DELTA)
            await written(settings, tenant, told)
        state = after_frame([], cut)
        await counting.add(0)
        async with aclosing(listen(other, resume_from=cut.cursor)) as frames:
            missed = await anext(frames)
            while missed.kind is FrameKind.HEARTBEAT:
                missed = await anext(frames)
            assert (missed.epoch, missed.seq, missed.kind) == (told.epoch, told.seq, told.kind)
            assert bytes(missed.json) == bytes(told.json)
            state = after_frame(state, missed)
            while state[0].columns.series[0].total != counting.total:
                frame = await anext(frames)
                assert frame.kind not in (FrameKind.GAP, FrameKind.SNAPSHOT)
                state = after_frame(state, frame)
            assert frame.epoch != told.epoch


async def written(settings: Settings, tenant: Tenant, frame: Frame) -> None:
    """Waits until a frame is in its ring."""
    client = open_valkey(settings.redis_url, seconds=2.0, connections=1)
    async with asyncio.timeout(20):
        while not await client.xrange(ring_key(tenant.id, frame.epoch), min=f"{frame.seq}-0"):
            await asyncio.sleep(0.02)
    await client.aclose()


async def test_a_cursor_that_is_too_old_or_of_another_question_begins_with_a_gap(context: Context) -> None:
    async with aclosing(listen(context)) as frames:
        cursor = (await anext(frames)).cursor
    for question, resume_from in ((fixed(limit=7), cursor), (fixed(), cursor.partition(".")[0] + ".999999")):
        async with aclosing(listen(context, question, resume_from=resume_from)) as frames:
            gap, whole = await anext(frames), await next_of(frames, FrameKind.SNAPSHOT)
        assert gap.kind is FrameKind.GAP and whole.seq in (gap.seq + 1, 1)


async def test_a_cursor_that_this_tenant_was_never_sent_is_refused(
    context: Context, settings: Settings, database: Database
) -> None:
    async with aclosing(listen(context)) as frames:
        epoch, _, seq = (await anext(frames)).cursor.partition(".")
    flipped = "0" if epoch[-1] != "0" else "1"
    stranger = dataclasses.replace(
        context, principal=dataclasses.replace(context.principal, tenant=dataclasses.replace(
            context.principal.tenant, id=TenantId(UUID(int=7))))
    )  # fmt: skip
    tried = [(context, text) for text in ("", ".", "abcdef.7", f"{epoch}.", f"{epoch}.-1", f"{epoch}.1e9", "x" * 9999,
                                          f"{epoch[:-1]}{flipped}.{seq}", f"{epoch}.{seq}\0")]  # fmt: skip
    for who, text in [*tried, (stranger, f"{epoch}.{seq}")]:
        with pytest.raises(BadInput) as refused:
            await anext(listen(who, resume_from=text))
        assert refused.value.code == "invalid_cursor" and "leave it out" in refused.value.message


class OwnValkey:
    """A server of the test's own, which is killed and started again."""

    def __init__(self, path: Path) -> None:
        self.folder = DataFolder.at(path)
        self.folder.create()
        self.settings = self.folder.settings({})
        self._process = valkey.start_valkey(self.folder, self.settings)

    def kill(self) -> None:
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    async def start(self) -> None:
        self._process = valkey.start_valkey(self.folder, self.settings)
        await self.ready()

    async def ready(self) -> None:
        async with asyncio.timeout(30):
            while not await valkey.is_answering(self.settings.redis_url):
                await asyncio.sleep(0.05)


class Screen:
    """A client: merges frames, is cut and comes back to any process, and sometimes does not read for a while."""

    def __init__(self, processes: list[Context], questions: tuple[MetricQuestion, ...], random_: random.Random) -> None:
        self.state: list[Shown] = []
        self.seen: list[str] = []
        self._processes = processes
        self._questions = questions
        self._random = random_
        self._last: Frame | None = None

    async def run(self) -> None:
        while True:
            cursor = self._last.cursor if self._last is not None and self._random.random() < 0.9 else None
            context = self._random.choice(self._processes)
            self._last = None if cursor is None else self._last
            with suppress(TimeoutError):
                async with asyncio.timeout(self._random.uniform(0.3, 3.0)):
                    async with aclosing(listen(context, *self._questions, resume_from=cursor)) as frames:
                        async for frame in frames:
                            self.take(frame)
                            if self._random.random() < 0.05:
                                await asyncio.sleep(self._random.uniform(0.5, 1.5))

    def take(self, frame: Frame) -> None:
        last, self._last = self._last, frame
        self.seen.append(frame.kind.value)
        is_next = last is not None and last.epoch == frame.epoch and frame.seq == last.seq + 1
        if frame.kind is FrameKind.SNAPSHOT:
            # Who joins between a stream's GAP and its SNAPSHOT has a whole already, and gets the next in its turn.
            assert is_next or last is None or last.kind in (FrameKind.GAP, FrameKind.HEARTBEAT), (last, frame)
        elif last is not None and last.epoch == frame.epoch and FrameKind.GAP not in (last.kind, frame.kind):
            assert is_next, (last, frame)
        if frame.kind is not FrameKind.GAP:
            self.state = after_frame(self.state, frame)


@pytest.mark.parametrize("seed", range(3))
async def test_frames_merged_give_what_a_query_gives_whatever_happened(
    seed: int, settings: Settings, database: Database, tenant: Tenant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Random cuts and resumes over two processes, late events, readers that sleep, and Valkey killed twice."""
    monkeypatch.setattr(live_log, "MAX_BEHIND", 3)
    monkeypatch.setattr(live_stream, "COALESCE_SECONDS", 0.05)
    monkeypatch.setattr(live_hub, "LINGER_SECONDS", 0.5)
    random_ = random.Random(seed)
    own = OwnValkey(tmp_path / "valkey")
    await own.ready()
    questions = (
        fixed(), fixed(metric="visitors"), fixed(group_by=("browser",), limit=2),
        dataclasses.replace(QUESTION, last="5m"),
    )  # fmt: skip
    async with AsyncExitStack() as stack:
        stack.callback(own.kill)
        mixed = dataclasses.replace(settings, redis_url=own.settings.redis_url)
        processes = [await process(stack, mixed, database, tenant) for _ in range(2)]
        counting = Counting(database, tenant, processes[0])
        screens = [Screen(processes, questions[n % 2 :: 2] or questions, random_) for n in range(6)]
        for screen in screens[::3]:
            screen._questions = questions
        tasks = [asyncio.create_task(screen.run()) for screen in screens]
        try:
            for step in range(60):
                ages = [random_.choice([0, 0, 0, 130, 400]) for _ in range(random_.randint(1, 3))]
                browser = random_.choice(["Chrome", "Firefox", "Safari", "Edge"])
                await counting.add(*ages, browser=browser, user_id=f"u{random_.randint(1, 30)}")
                await asyncio.sleep(random_.uniform(0, 0.2))
                if step in (20, 40):
                    own.kill()
                    await asyncio.sleep(0.3)
                    await own.start()
            assert not any(task.done() for task in tasks), [task for task in tasks if task.done()]
            async with asyncio.timeout(60):
                for screen in screens:
                    await until_equal(screen, processes[0])
        finally:
            for task in tasks:
                task.cancel()
            ends = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(end, asyncio.CancelledError) for end in ends), ends
    seen = {kind for screen in screens for kind in screen.seen}
    assert seen == {"SNAPSHOT", "DELTA", "REVISION", "GAP", "HEARTBEAT"}


async def until_equal(screen: Screen, context: Context) -> None:
    """Waits until what a screen shows is what queries answer."""
    while True:
        answers = [
            await context.backends.engine.answer(context.principal.tenant, question) for question in screen._questions
        ]
        if screen.state == [Shown.of(answer) for answer in answers]:
            return
        await asyncio.sleep(0.1)
