"""What workers count beside the events: by key and day, and by outcome and reason, in the same transaction."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID, uuid4

import msgspec
import pytest

from core.database import Database, as_owner
from core.errors import Fenced
from core.eventlog import DeadLetter, Offset, Partition, Record
from core.events import EnrichedEvent, encode_enriched, encode_raw
from core.rollups import decode_updates
from core.tenancy import Tenant
from core.topics import DEAD, ENRICHED, UPDATES_TOPICS, raw_topic
from core.valkey_log import ValkeyLog
from pipeline.aggregate import updates_of
from pipeline.deadletter import DeadLetterIndex
from pipeline.prepared import prepare
from pipeline.store import Counted, Store
from tests.pipeline.builders import NOW_MS, batch_of, enriched, raw_batch
from tests.pipeline.stored import Stored

ON_BOTH_STORES = True

HOUR_MS = 3_600_000
ROWS = (
    "SELECT outcome, reason, key_id, sum(count)::int FROM {table} WHERE tenant_id = $1 GROUP BY 1, 2, 3 ORDER BY 1, 2"
)


@pytest.fixture
def writer(database: Database) -> Store:
    return Store(database, f"group-{uuid4()}")


async def count(
    store: Store, tenant_id: UUID, at: int, *events: EnrichedEvent, key: str = "key_a", received_ms: int = NOW_MS
) -> Counted:
    batch = msgspec.structs.replace(batch_of(tenant_id, *events), key_id=key, received_ms=received_ms)
    await store.ensure_partitions([batch])
    place, after = Offset(f"{at}"), Offset(f"{at + 1}")
    return await store.transact(Partition(ENRICHED), await prepare([batch]), place, lambda _: (after, b""))


async def outcomes(stored: Stored, tenant: Tenant, table: str = "ingest_1m") -> list[tuple[object, ...]]:
    async with as_owner(stored.url) as connection:
        return [tuple(row) for row in await connection.fetch(ROWS.format(table=table), tenant.id)]


async def test_what_was_new_and_what_was_known_are_counted_with_the_events_and_by_key(
    writer: Store, stored: Stored, tenant: Tenant
) -> None:
    first, second = enriched(), enriched()
    await count(writer, tenant.id, 0, first)
    await count(writer, tenant.id, 1, first, second, key="key_b")
    for table in ("ingest_1m", "ingest_1h"):
        assert await outcomes(stored, tenant, table) == [
            ("accepted", "", "key_a", 1),
            ("accepted", "", "key_b", 1),
            ("duplicates", "counted_before", "key_b", 1),
        ]


async def test_a_transaction_that_is_refused_counts_nothing(writer: Store, stored: Stored, tenant: Tenant) -> None:
    await count(writer, tenant.id, 0, enriched())
    with pytest.raises(Fenced):
        await count(writer, tenant.id, 7, enriched())
    assert await outcomes(stored, tenant) == [("accepted", "", "key_a", 1)]


async def test_minutes_of_an_hour_add_up_to_it(writer: Store, stored: Stored, tenant: Tenant) -> None:
    start = NOW_MS // HOUR_MS * HOUR_MS
    for at, minute in enumerate((0, 1, 1, 59)):
        await count(writer, tenant.id, at, enriched(), received_ms=start + minute * 60_000)
    async with as_owner(stored.url) as connection:
        text = "SELECT bucket, count FROM {} WHERE tenant_id = $1 AND outcome = 'accepted' ORDER BY bucket"
        minutes = [row["count"] for row in await connection.fetch(text.format("ingest_1m"), tenant.id)]
        hours = [tuple(row) for row in await connection.fetch(text.format("ingest_1h"), tenant.id)]
    assert minutes == [1, 2, 1]
    assert hours == [(datetime.fromtimestamp(start / 1000, UTC), 4)]


async def test_late_events_are_counted_by_how_late_and_known_ones_are_not_late_again(
    writer: Store, stored: Stored, tenant: Tenant
) -> None:
    late_by = (0, 299_000, 301_000, 2 * HOUR_MS, 2 * HOUR_MS, 30 * HOUR_MS, 150 * HOUR_MS, 9000 * HOUR_MS)
    events = [enriched(timestamp_ms=NOW_MS - ms) for ms in late_by]
    await count(writer, tenant.id, 0, *events)
    await count(writer, tenant.id, 1, *events)
    late = {reason: number for outcome, reason, _, number in await outcomes(stored, tenant) if outcome == "late"}
    assert late == {"over_5_minutes": 1, "over_1_hour": 2, "over_1_day": 1, "over_5_days": 2}


async def test_readers_are_told_when_all_of_a_batch_was_known(writer: Store, tenant: Tenant) -> None:
    event = enriched()
    await count(writer, tenant.id, 0, event)
    (update,) = updates_of(await count(writer, tenant.id, 1, event), 0, Offset("2"), NOW_MS / 1000)
    assert (update.tenant_id, update.events, update.changed) == (tenant.id, 0, [])


async def test_a_dead_letter_is_counted_once_by_reason_and_key(
    database: Database, log: ValkeyLog, stored: Stored, tenant: Tenant
) -> None:
    index = DeadLetterIndex(database, log)
    raw = encode_raw(raw_batch(tenant.id, {}))
    whole = encode_enriched(msgspec.structs.replace(batch_of(tenant.id, enriched()), key_id="key_b"))
    letters = [
        DeadLetter(raw_topic(tenant.id, "each"), 0, "1-0", "enrich", "its body cannot be read again: x", raw),
        DeadLetter(ENRICHED, 0, "1-0", "aggregate", "the database refuses it: DataError (events …)", whole),
        DeadLetter(ENRICHED, 0, "2-0", "aggregate", "not an enriched batch: y", b"\xff"),
    ]
    records = [
        Record(Partition(DEAD), Offset(f"{n}"), Offset(f"{n + 1}"), tenant.id.bytes, msgspec.msgpack.encode(letter))
        for n, letter in enumerate(letters)
    ]
    await index._process(records, {})
    # Killed before its place was kept, the worker reads them again.
    await index._process(records, {})
    assert await outcomes(stored, tenant) == [
        ("dead", "its body cannot be read again", "key_test", 1),
        ("dead", "not an enriched batch", "", 1),
        ("dead", "the database refuses it", "key_b", 1),
    ]
    consumer = log.consume(f"test-{uuid4()}", UPDATES_TOPICS)
    told = await consumer.poll(max_records=10, wait_seconds=2.0)
    await consumer.close()
    assert [decode_updates(record.value).tenant_id for record in told] == [tenant.id]
