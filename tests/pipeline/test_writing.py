"""What the aggregate worker writes, read back: rows in PostgreSQL's own encoding, and cells it need not read again."""

from __future__ import annotations

import dataclasses
import json
import random
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest

from core.database import Database, as_owner
from core.errors import DatabaseUnavailable
from core.eventlog import Offset, Partition
from core.events import EnrichedEvent
from core.sketches import Uniques
from core.summary import SummaryRow, merge_rows
from core.tenancy import Tenant, TenantId
from core.topics import ENRICHED
from pipeline import store as store_module
from pipeline.prepared import prepare
from pipeline.rollup_writer import RollupWriter
from pipeline.store import CAREFUL_TRANSACTIONS, Store
from tests.pipeline.builders import NOW_MS, batch_of, enriched
from tests.pipeline.stored import Stored
from tests.pipeline.test_fold import random_event

PARTITION = Partition(ENRICHED)
ROLLUPS = """
SELECT dimension, extract(epoch FROM bucket)::bigint AS bucket, type, value, is_bot, count, errors, bytes,
    duration_count, duration_sum, duration_min, duration_max, visitors, sessions, durations
FROM {table} WHERE tenant_id = $1
"""


@pytest.fixture
async def writer(database: Database) -> Store:
    return Store(database, f"group-{uuid4()}")


async def count(store: Store, tenant: Tenant, at: int, *events: EnrichedEvent, shard: int = 0) -> int:
    batch = batch_of(tenant.id, *events)
    await store.ensure_partitions([batch])
    partition = Partition(ENRICHED, shard)
    prepared = await prepare([batch])
    counted = await store.transact(partition, prepared, Offset(f"{at}"), lambda _: (Offset(f"{at + 1}"), b""))
    return counted.new_events.get(tenant.id, 0)


async def test_an_event_is_stored_value_by_value(writer: Store, stored: Stored, tenant: Tenant) -> None:
    whole: dict[str, Any] = {
        "type": "http_request", "visitor": -(2**63), "session": 2**63 - 1, "session_id": "s", "user_id": "Zoë 🐝",
        "anonymous_id": "a", "page_path": "/ü", "referrer_host": "r.example", "country": "DE", "device": "mobile",
        "browser": "Firefox", "os": "Linux", "method": "GET", "status": 503, "duration_ms": 0.1, "bytes": 2**50,
        "is_bot": True,
    }  # fmt: skip
    context = {"page_url": "https://shop.example/ü", "region": "Bayern", "campaign": {"utm_source": "mail"}}
    properties = '{"title": "\\"ü\\" \\n", "n": 1.50, "deep": [{"x": null}]}'
    event = enriched(
        **whole, **context, timestamp_ms=NOW_MS - 1, properties=properties.encode(), enrichment_version=2,
        enrichment_errors=["ip: not an address"],
    )  # fmt: skip
    bare = enriched()
    assert await count(writer, tenant, 1, event, bare) == 2
    async with as_owner(stored.url) as connection:
        rows = await connection.fetch("SELECT * FROM events WHERE tenant_id = $1", tenant.id)
    found = {row["id"].bytes: dict(row) for row in rows}
    row = found[event.id]
    assert {name: row[name] for name in whole} == whole
    assert (row["ts"], row["received_at"]) == tuple(
        datetime.fromtimestamp(ms / 1000, UTC) for ms in (NOW_MS - 1, NOW_MS)
    )
    assert (row["tenant_id"], row["retention_class"], row["key_id"]) == (tenant.id, "self_hosted", "key_test")
    assert json.loads(row["details"]) == {
        "properties": json.loads(properties), "context": context, "enrichment_errors": ["ip: not an address"],
        "enrichment_version": 2,
    }  # fmt: skip
    empty = found[bare.id]
    assert [empty[name] for name in ("session", "status", "duration_ms", "bytes")] == [None] * 4
    assert json.loads(empty["details"]) == {"properties": {}, "context": {}, "enrichment_version": 0}


async def rollups_of(stored: Stored, tenant: Tenant) -> dict[tuple[object, ...], SummaryRow]:
    """All cells of a tenant, shards merged."""
    cells: dict[tuple[object, ...], list[SummaryRow]] = {}
    async with as_owner(stored.url) as connection:
        for table in ("rollup_1m", "rollup_5m", "rollup_1h"):
            for row in await connection.fetch(ROLLUPS.format(table=table), tenant.id):
                cells.setdefault((table, *row[:5]), []).append(SummaryRow(*row[5:]))
    return {cell: merge_rows(rows) for cell, rows in cells.items()}


def comparable(row: SummaryRow) -> tuple[object, ...]:
    return (
        row.count, row.errors, row.bytes, row.duration_count, pytest.approx(row.duration_sum), row.duration_min,
        row.duration_max, round(Uniques.from_bytes(row.visitors).estimate()),
        round(Uniques.from_bytes(row.sessions).estimate()),
    )  # fmt: skip


@pytest.mark.parametrize("seed", range(3))
async def test_cells_come_to_the_same_whoever_wrote_them_before(
    database: Database, writer: Store, stored: Stored, tenant: Tenant, seed: int
) -> None:
    """One writer that remembers, against new ones that read each time; with a rollback and a takeover between."""
    chance = random.Random(seed)
    other = dataclasses.replace(tenant, id=TenantId(uuid4()))
    group = f"group-{uuid4()}"
    for at in range(12):
        events = [random_event(chance) for _ in range(40)]
        if at == 4:
            with pytest.raises(DatabaseUnavailable):
                await rolled_back(writer, tenant, at, *events)
        taker = writer if at != 7 else Store(database, writer._consumer)
        await count(taker, tenant, at, *events)
        await count(Store(database, group), other, at, *events)
    mine, others = await rollups_of(stored, tenant), await rollups_of(stored, other)
    assert {cell: comparable(row) for cell, row in mine.items()} == {
        cell: comparable(row) for cell, row in others.items()
    }


async def rolled_back(store: Store, tenant: Tenant, at: int, *events: EnrichedEvent) -> None:
    def fail(_: object) -> Any:
        raise DatabaseUnavailable

    prepared = await prepare([batch_of(tenant.id, *events)])
    await store.transact(PARTITION, prepared, Offset(f"{at}"), fail)


async def test_a_writer_that_is_alone_reads_no_cell_twice(
    writer: Store, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    read = RollupWriter._read

    async def noting(self: RollupWriter, session: Any, resolution: Any, shard: int, places: Any) -> Any:
        asked.append(len(places))
        return await read(self, session, resolution, shard, places)

    monkeypatch.setattr(RollupWriter, "_read", noting)
    await count(writer, tenant, 1, enriched())
    # The total of the slot at each resolution, and no cell of it.
    assert asked == [1] * 3
    asked.clear()
    await count(writer, tenant, 2, enriched(), enriched(page_path="/new"))
    assert asked == []


async def test_a_known_event_makes_the_writer_look_for_more_of_them(
    writer: Store, stored: Stored, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[str] = []
    execute = store_module.Session.execute

    async def noting(self: Any, query: Any, *args: Any) -> str:
        tried.append(query.name)
        return await execute(self, query, *args)

    monkeypatch.setattr(store_module.Session, "execute", noting)
    first = enriched()
    assert await count(writer, tenant, 0, first) == 1
    assert await count(writer, tenant, 1, enriched(), first, enriched()) == 2
    assert tried.count("insert_all_events") == 2 and tried.count("roll_back") == 1
    for at in range(2, 3 + CAREFUL_TRANSACTIONS):
        assert await count(writer, tenant, at, enriched()) == 1
    assert tried.count("insert_all_events") == 3
    found = await stored.counts(tenant)
    assert (found["events"], found["ids"], found["minutes"], found["duplicates"]) == (24, 24, 24, 1)


async def test_two_shards_of_a_tenant_are_counted_side_by_side(writer: Store, stored: Stored, tenant: Tenant) -> None:
    same = enriched()
    assert await count(writer, tenant, 1, same, enriched(), shard=3) == 2
    assert await count(writer, tenant, 1, same, enriched(), shard=4) == 1
    found = await stored.counts(tenant)
    assert (found["events"], found["minutes"], found["hours"], found["duplicates"]) == (3, 3, 3, 1)


def test_ids_of_events_are_the_bytes_of_a_uuid() -> None:
    assert UUID(bytes=enriched().id).version == 4
