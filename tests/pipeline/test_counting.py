"""Exactly once: what the aggregate worker's transaction keeps, refuses and says again."""

from __future__ import annotations

import asyncio
import dataclasses
import re
from collections.abc import AsyncIterator
from datetime import date
from typing import Any
from uuid import UUID, uuid4

import msgspec
import pytest

from core.database import Database, as_owner
from core.errors import DatabaseUnavailable, Fenced
from core.eventlog import DeadLetter, Offset, Partition, Record
from core.events import EnrichedBatch, encode_enriched, encode_raw, from_epoch_ms
from core.queries import named, parse_blocks
from core.rollups import BucketUpdates, Resolution, decode_updates
from core.settings import Settings
from core.sketches import Quantiles, Uniques
from core.tenancy import Tenant
from core.topics import DEAD, ENRICHED, ENRICHED_TOPICS, UPDATES, raw_topic
from core.valkey_log import ValkeyLog
from pipeline.aggregate import Aggregator
from pipeline.deadletter import DeadLetterIndex
from pipeline.enrich import Enricher
from pipeline.enrichment.sources import EnrichmentSources
from pipeline.prepared import prepare
from pipeline.rollup_writer import READ_CELLS
from pipeline.store import Counted, Store
from pipeline.worker import POISON_GRACE, PoisonLimit, TooMuchPoison, run_worker
from tests.pipeline.builders import NOW_MS, batch_of, enriched, raw_batch
from tests.pipeline.stored import COUNTS, Stored

ON_BOTH_STORES = True

PARTITION = Partition(ENRICHED)


@pytest.fixture
async def store(database: Database) -> Store:
    # A group of its own, so that each test begins where nobody has been.
    return Store(database, f"group-{uuid4()}")


async def count(store: Store, batch: EnrichedBatch, at: int) -> Counted:
    await store.ensure_partitions([batch])
    prepared = await prepare([batch])
    return await store.transact(PARTITION, prepared, Offset(f"{at}-0"), lambda c: (Offset(f"{at + 1}-0"), b"update"))


async def test_a_batch_is_counted_with_its_offset_and_its_word(store: Store, stored: Stored, tenant: Tenant) -> None:
    batch = batch_of(tenant.id, enriched(), enriched(status=500), enriched(timestamp_ms=NOW_MS - 3_600_000))
    counted = await count(store, batch, 1)
    assert counted.new_events[tenant.id] == 3
    assert await stored.counts(tenant) == {
        "events": 3, "minutes": 3, "fives": 3, "hours": 3, "accepted": 3, "duplicates": 0, "ids": 3,
    }  # fmt: skip
    position = await store.position(PARTITION)
    assert position is not None and (position.next_offset, position.last_update) == ("2-0", b"update")


async def test_a_repeated_event_is_counted_once_whatever_its_time_batch_and_key(
    store: Store, stored: Stored, tenant: Tenant
) -> None:
    event = enriched()
    moved = msgspec.structs.replace(event, timestamp_ms=NOW_MS - 86_400_000)
    await count(store, batch_of(tenant.id, event, event), 1)
    again = await count(store, msgspec.structs.replace(batch_of(tenant.id, moved), key_id="another"), 2)
    assert again.new_events[tenant.id] == 0
    found = await stored.counts(tenant)
    assert (found["events"], found["minutes"], found["accepted"], found["duplicates"]) == (1, 1, 1, 2)


async def test_the_same_id_of_two_tenants_is_two_events(
    store: Store, database: Database, stored: Stored, tenant: Tenant
) -> None:
    event = enriched()
    await count(store, batch_of(tenant.id, event), 1)
    other = uuid4()
    counted = await count(store, batch_of(other, event), 2)
    assert counted.new_events == {other: 1}


async def test_an_import_run_again_after_the_ledger_forgot_adds_nothing(
    store: Store, database: Database, stored: Stored, tenant: Tenant
) -> None:
    batch = batch_of(tenant.id, enriched(timestamp_ms=NOW_MS - 400 * 86_400_000))
    await count(store, batch, 1)
    async with database.as_writer() as session:
        await session.execute(named("aggregate", "forget_ids"), date(2999, 1, 1))
    assert (await stored.counts(tenant))["ids"] == 0
    await count(store, batch, 2)
    found = await stored.counts(tenant)
    assert (found["events"], found["minutes"]) == (1, 1)


async def test_a_zombie_is_fenced_and_leaves_nothing(store: Store, stored: Stored, tenant: Tenant) -> None:
    await count(store, batch_of(tenant.id, enriched()), 1)
    with pytest.raises(Fenced):
        await count(store, batch_of(tenant.id, enriched()), 1)
    assert (await stored.counts(tenant))["events"] == 1


async def test_of_two_workers_at_once_one_counts(store: Store, stored: Stored, tenant: Tenant) -> None:
    outcomes = await asyncio.gather(
        *(count(store, batch_of(tenant.id, enriched()), 1) for _ in range(4)), return_exceptions=True
    )
    assert sorted(isinstance(outcome, Fenced) for outcome in outcomes) == [False, True, True, True]
    assert (await stored.counts(tenant))["events"] == 1


async def test_cells_are_absolute_and_merge_over_batches(store: Store, database: Database, tenant: Tenant) -> None:
    first = [enriched(visitor=n, status=200 + n % 2, duration_ms=float(n), bytes=10) for n in range(50)]
    second = [enriched(visitor=n, status=500, duration_ms=float(n), bytes=1) for n in range(25, 75)]
    await count(store, batch_of(tenant.id, *first), 1)
    counted = await count(store, batch_of(tenant.id, *second), 2)
    (row,) = counted.minutes.values()
    assert (row.count, row.errors, row.bytes) == (100, 50, 550)
    assert (row.duration_count, row.duration_min, row.duration_max) == (100, 0.0, 74.0)
    assert round(Uniques.from_bytes(row.visitors).estimate()) == pytest.approx(75, abs=2)
    assert Quantiles.from_bytes(row.durations).quantile(0.5) == pytest.approx(37, abs=4)


class Pipeline:
    """The workers of one test, run until told to stop."""

    def __init__(self, database: Database, log: ValkeyLog) -> None:
        sources = EnrichmentSources(None, lambda tenant_id: b"k" * 32)
        self.log = log
        self.aggregator = Aggregator(database, log)
        self._workers = [
            Enricher(log, sources).worker(), self.aggregator.worker(), DeadLetterIndex(database, log).worker(),
        ]  # fmt: skip

    async def run_until(self, condition: Any) -> None:
        stop = asyncio.Event()
        tasks = [asyncio.create_task(run_worker(worker, stop)) for worker in self._workers]
        try:
            async with asyncio.timeout(20):
                while not await condition():
                    await asyncio.sleep(0.05)
        finally:
            stop.set()
            await asyncio.gather(*tasks)


@pytest.fixture
async def pipeline(database: Database, log: ValkeyLog) -> AsyncIterator[Pipeline]:
    yield Pipeline(database, log)


async def records_of(log: ValkeyLog, topic: str) -> list[Record]:
    consumer = log.consume(f"look-{uuid4()}", re.compile(re.escape(topic)))
    found: list[Record] = []
    for _ in range(3):
        found += await consumer.poll(max_records=1000, wait_seconds=0.1)
    await consumer.close()
    return found


async def updates_of(log: ValkeyLog, tenant: Tenant) -> list[BucketUpdates]:
    updates = [decode_updates(record.value) for record in await records_of(log, UPDATES)]
    return [update for update in updates if update.tenant_id == tenant.id]


async def test_accepted_requests_become_counted_events_and_word_of_them(
    pipeline: Pipeline, stored: Stored, tenant: Tenant
) -> None:
    for _ in range(5):
        raw = raw_batch(tenant.id, {"user_id": "ada"}, {"type": "http_request", "properties": {"status": 500}})
        await pipeline.log.append(raw_topic(tenant.id, "each"), tenant.id.bytes, encode_raw(raw))

    async def is_counted() -> bool:
        return (await stored.counts(tenant))["events"] == 10

    await pipeline.run_until(is_counted)
    updates = await updates_of(pipeline.log, tenant)
    assert sum(update.events for update in updates) == 10
    last = {(b.type, b.bucket): b.summary for b in updates[-1].changed}
    assert {name: summary and summary.count for (name, _), summary in last.items()} == {
        "page_view": 5, "http_request": 5,
    }  # fmt: skip


async def test_poison_goes_aside_with_its_reason_and_the_rest_is_counted(
    pipeline: Pipeline, stored: Stored, tenant: Tenant
) -> None:
    good = encode_raw(raw_batch(tenant.id, {}))
    unread = encode_raw(replace_body(raw_batch(tenant.id, {}), b"not the body"))
    topic = raw_topic(tenant.id, "each")
    for value in (good, b"nonsense", unread, encode_raw(raw_batch(tenant.id, {}))):
        await pipeline.log.append(topic, tenant.id.bytes, value)
    await pipeline.log.append(ENRICHED, tenant.id.bytes, b"nonsense")

    async def is_done() -> bool:
        return await stored.dead(tenant) == 3 and (await stored.counts(tenant))["events"] == 2

    await pipeline.run_until(is_done)
    letters = [msgspec.msgpack.decode(r.value, type=DeadLetter) for r in await records_of(pipeline.log, DEAD)]
    mine = [letter for letter in letters if letter.topic == topic]
    assert [letter.value for letter in mine] == [b"nonsense", unread]
    assert "not an accepted request" in mine[0].reason and "cannot be read again" in mine[1].reason


def replace_body(raw: Any, body: bytes) -> Any:
    return msgspec.structs.replace(raw, body=body)


async def test_a_value_that_the_database_refuses_takes_no_other_record_down(
    pipeline: Pipeline, stored: Stored, tenant: Tenant
) -> None:
    # A property that JSON allows and PostgreSQL's jsonb does not.
    bad = batch_of(tenant.id, enriched(properties=b'{"x":"a\\u0000b"}'))
    batches = [batch_of(tenant.id, enriched()) for _ in range(6)]
    batches.insert(3, bad)
    for batch in batches:
        await pipeline.log.append(ENRICHED, tenant.id.bytes, encode_enriched(batch))

    async def is_done() -> bool:
        return (await stored.counts(tenant))["events"] == 6

    await pipeline.run_until(is_done)
    letters = [msgspec.msgpack.decode(r.value, type=DeadLetter) for r in await records_of(pipeline.log, DEAD)]
    assert encode_enriched(bad) in [letter.value for letter in letters]


@pytest.mark.parametrize("refused", [{"properties": b'{"x":"a\\u0000b"}'}, {"bytes": 2**63}, {"session": 2**63}])
async def test_an_event_that_the_database_refuses_takes_no_other_event_of_its_request_down(
    pipeline: Pipeline, stored: Stored, tenant: Tenant, refused: dict[str, Any]
) -> None:
    bad = enriched(**refused)
    batch = batch_of(tenant.id, enriched(), bad, enriched(), enriched())
    await pipeline.log.append(ENRICHED, tenant.id.bytes, encode_enriched(batch))
    await pipeline.log.append(ENRICHED, tenant.id.bytes, encode_enriched(batch_of(tenant.id, enriched())))

    async def is_done() -> bool:
        return (await stored.counts(tenant))["events"] == 4

    await pipeline.run_until(is_done)
    letters = [msgspec.msgpack.decode(r.value, type=DeadLetter) for r in await records_of(pipeline.log, DEAD)]
    (letter,) = [letter for letter in letters if letter.value == encode_enriched(batch)]
    assert str(UUID(bytes=bad.id)) in letter.reason and str(UUID(bytes=batch.events[0].id)) not in letter.reason


async def test_a_sum_of_bytes_that_no_column_holds_stays_at_the_most_it_holds(
    pipeline: Pipeline, stored: Stored, tenant: Tenant
) -> None:
    batches = [batch_of(tenant.id, enriched(bytes=2**62), enriched(bytes=2**62)) for _ in range(2)]
    for batch in batches:
        await pipeline.log.append(ENRICHED, tenant.id.bytes, encode_enriched(batch))

    async def is_done() -> bool:
        return (await stored.counts(tenant))["events"] == 4

    await pipeline.run_until(is_done)
    last = (await updates_of(pipeline.log, tenant))[-1]
    assert [bucket.summary and bucket.summary.bytes for bucket in last.changed] == [2**63 - 1]


async def test_word_that_was_never_published_is_published_by_the_next_worker(
    database: Database, log: ValkeyLog, settings: Settings, tenant: Tenant
) -> None:
    class DyingLog(ValkeyLog):
        async def append(self, topic: str, key: bytes, value: bytes) -> Offset:
            raise asyncio.CancelledError  # as a kill would, after the commit and before the word

    dying = DyingLog(settings.redis_url, max_bytes=1, retention_hours=1)
    aggregator = Aggregator(database, dying)
    partition = Partition(f"{ENRICHED}.{uuid4()}")
    batch = batch_of(tenant.id, enriched())
    record = Record(partition, Offset("7-0"), Offset("7-1"), tenant.id.bytes, encode_enriched(batch))
    with pytest.raises(asyncio.CancelledError):
        await aggregator._process([record], {partition: Offset("7-1")})
    assert await updates_of(log, tenant) == []
    places = await Aggregator(database, log)._on_assigned([partition])
    assert places == {partition: "7-1"}
    (update,) = await updates_of(log, tenant)
    assert update.events == 1


def test_a_worker_stops_when_more_than_one_percent_is_poison_and_no_tenant_alone_stops_it() -> None:
    limit = PoisonLimit()
    limit.note_good(500)
    assert [limit.note_poison(b"one tenant") for _ in range(600)] == [None] * 600
    bad_deploy = PoisonLimit()
    assert [bad_deploy.note_poison(bytes([n])) for n in range(POISON_GRACE)] == [None] * POISON_GRACE
    assert isinstance(bad_deploy.note_poison(b"another"), TooMuchPoison)
    patient = PoisonLimit()
    for n in range(50):
        patient.note_good(200)
        assert patient.note_poison(bytes([n])) is None


async def test_a_worker_that_stops_for_poison_has_moved_on(database: Database, log: ValkeyLog) -> None:
    """Begun again, it must not meet the same records for ever."""
    for n in range(POISON_GRACE + 5):
        await log.append(ENRICHED, bytes([n]) * 16, b"nonsense")
    with pytest.raises(TooMuchPoison):
        async with asyncio.timeout(20):
            await run_worker(Aggregator(database, log).worker(), asyncio.Event())
    assert sum((await log.lag("aggregate", ENRICHED_TOPICS)).values()) == 0


async def test_a_dead_letter_keeps_its_bytes(pipeline: Pipeline, stored: Stored, tenant: Tenant) -> None:
    await pipeline.log.append(raw_topic(tenant.id, "each"), tenant.id.bytes, b"nonsense")

    async def is_kept() -> bool:
        return await stored.dead(tenant) == 1

    await pipeline.run_until(is_kept)
    async with as_owner(stored.url) as connection:
        rows = await connection.fetch(COUNTS["dead"].text, tenant.id)
    assert [row["value"] for row in rows] == [b"nonsense"]


async def test_a_statement_that_an_operator_cancels_is_tried_again(database: Database) -> None:
    limit = "-- limit()\n-- A short time.\nSET LOCAL statement_timeout = '50ms';\n"
    nap = "-- nap()\n-- A longer one.\nSELECT pg_sleep(5);"
    slow = parse_blocks(limit + nap, "test")
    with pytest.raises(DatabaseUnavailable):
        async with database.as_writer() as session:
            await session.execute(slow["limit"])
            await session.fetchrow(slow["nap"])


async def test_cells_are_found_by_their_key_though_the_table_was_small_when_it_was_analysed(
    store: Store, database: Database, settings: Settings, tenant: Tenant
) -> None:
    await count(store, batch_of(tenant.id, enriched()), 1)
    async with as_owner(settings.owner_url) as connection:
        await connection.execute("ANALYZE")
    read = READ_CELLS[Resolution.MINUTE]
    explain = dataclasses.replace(read, text=f"EXPLAIN {read.text}")
    async with database.as_writer() as session:
        plan = await session.fetch(explain, 0, [tenant.id], [""], [from_epoch_ms(NOW_MS)], ["a"], [""], [False])
    text = "\n".join(row[0] for row in plan)
    assert "Index Scan using rollup_1m_pkey" in text and "Seq Scan" not in text
