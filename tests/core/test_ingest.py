"""The way in: duplicates, whatever the workers have counted so far."""

from __future__ import annotations

import json
import re
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from uuid import UUID, uuid4

import pytest

from core import accounts
from core.database import Database
from core.eventlog import Offset, Partition
from core.events import decode_raw, new_event_id
from core.ingest import Delivery, EventStatus, Ingest
from core.keys import ApiKey
from core.quota import MonthQuota
from core.retention import Retention
from core.seen import SeenIds
from core.settings import Settings
from core.tenancy import Tier
from core.topics import ENRICHED
from core.valkey_log import ValkeyLog
from pipeline.prepared import prepare
from pipeline.store import Store
from tests.conftest import make_key
from tests.pipeline.builders import batch_of, enriched


@pytest.fixture
async def ingest(settings: Settings, database: Database, log: ValkeyLog) -> AsyncIterator[Ingest]:
    seen = SeenIds(settings.redis_url)
    yield Ingest(database, log, seen, "each", Retention.of(settings), MonthQuota(database))
    await seen.close()


@pytest.fixture
async def key(settings: Settings, database: Database) -> ApiKey:
    tenant = await accounts.create_tenant(database, slug=f"t-{uuid4()}", name="", tier=Tier.FREE)
    return (await make_key(database, settings, tenant))[0]


def delivery(key: ApiKey, usage: int, *ids: UUID | None) -> Delivery:
    events = [{"type": "a", **({"id": str(event_id)} if event_id else {})} for event_id in ids]
    body = json.dumps({"events": events}).encode()
    return Delivery(key=key, month_usage=usage, body=body, request_id="r", received_ms=int(time.time() * 1000))


async def test_an_id_that_claims_to_be_of_tomorrow_is_looked_up_as_any_other(
    ingest: Ingest, key: ApiKey, database: Database
) -> None:
    """The cache has forgotten it, and its own time says that the ledger cannot have it: the ledger is asked."""
    tomorrow = new_event_id(int(time.time() * 1000) + 86_400_000)
    counted = batch_of(key.tenant.id, enriched(id=tomorrow.bytes), retention_class="free")
    store, partition = Store(database, "test"), Partition(ENRICHED, 0)
    await store.ensure_partitions([counted])
    await store.transact(partition, await prepare([counted]), Offset("0"), lambda _: (Offset("1"), b""))
    receipt = await ingest.accept(delivery(key, 0, tomorrow))
    assert receipt.results[0].status is EventStatus.DUPLICATE


async def test_with_the_log_elsewhere_events_are_taken_while_nobody_remembers_ids(
    ingest: Ingest, key: ApiKey, database: Database, settings: Settings
) -> None:
    """What was counted is told from what was not; a repeat before it is counted is told accepted, and counts once."""

    class ElsewhereLog(ValkeyLog):
        name = "kafka"

    old, new = new_event_id(int(time.time() * 1000)), new_event_id(int(time.time() * 1000))
    counted = batch_of(key.tenant.id, enriched(id=old.bytes), retention_class="free")
    store, partition = Store(database, "elsewhere"), Partition(ENRICHED, 0)
    await store.ensure_partitions([counted])
    await store.transact(partition, await prepare([counted]), Offset("0"), lambda _: (Offset("1"), b""))
    log = ElsewhereLog(settings.redis_url, max_bytes=2**28, retention_hours=1)
    seen = SeenIds("unix:///nowhere/valkey.sock")
    alone = Ingest(database, log, seen, "each", Retention.of(settings), MonthQuota(database))
    statuses = [result.status.value for result in (await alone.accept(delivery(key, 0, old, new))).results]
    assert statuses == ["duplicate", "accepted"]
    await log.close()
    await seen.close()


async def test_results_stand_in_the_order_of_the_body_and_a_repeat_is_all_duplicates(
    ingest: Ingest, key: ApiKey, log: ValkeyLog
) -> None:
    first, second = uuid4(), new_event_id(int(time.time() * 1000))
    events = [{"type": "a", "id": str(first).upper()}, {"type": ""}, {"type": "b", "id": second.hex},
              {"type": "a", "id": str(first)}, {"type": "c"}]  # fmt: skip
    asked = replace(delivery(key, 0), body=json.dumps({"events": events}).encode())
    receipt = await ingest.accept(asked)
    assert [result.index for result in receipt.results] == [0, 1, 2, 3, 4]
    statuses = [result.status.value for result in receipt.results]
    assert statuses == ["accepted", "rejected", "accepted", "duplicate", "accepted"] and receipt.accepted == 3
    assert [result.id for result in receipt.results[:4]] == [str(first), None, str(second), str(first)]
    assert receipt.results[1].field == "type"
    again = await ingest.accept(asked)
    # What has no id is another event each time.
    statuses = [result.status.value for result in again.results]
    assert statuses == ["duplicate", "rejected", "duplicate", "duplicate", "accepted"]
    records = await log.consume("test-order", re.compile(r"events\.raw.*")).poll(max_records=10, wait_seconds=2)
    accepted = [decode_raw(record.value).accepted for record in records if record.key == key.tenant.id.bytes]
    rows = [[(event.index, str(event.id)) for event in events] for events in accepted]
    assert rows[0] == [(0, str(first)), (2, str(second)), (4, receipt.results[4].id)]
    assert rows[1] == [(4, again.results[4].id)]


async def test_a_signed_request_that_is_sent_again_has_the_same_ids(ingest: Ingest, key: ApiKey) -> None:
    asked = replace(delivery(key, 0, None, uuid4(), None), seed=b"s" * 64, signed_ms=int(time.time() * 1000))
    first, again = await ingest.accept(asked), await ingest.accept(asked)
    assert [result.id for result in again.results] == [result.id for result in first.results]
    assert first.accepted == 3 and again.accepted == 0
