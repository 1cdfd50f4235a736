"""The way in: duplicates, whatever the workers have counted so far."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from uuid import UUID, uuid4

import pytest

from core import accounts
from core.database import Database
from core.eventlog import Offset, Partition
from core.events import new_event_id
from core.ingest import Delivery, EventStatus, Ingest
from core.keys import ApiKey
from core.quota import MonthQuota
from core.retention import Retention
from core.seen import SeenIds
from core.settings import Settings
from core.tenancy import Tier
from core.topics import ENRICHED
from core.valkey_log import ValkeyLog
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
    counted = batch_of(key.tenant.id, enriched(id=tomorrow))
    store, partition = Store(database, "test"), Partition(ENRICHED, 0)
    await store.ensure_partitions([counted])
    await store.transact(partition, [counted], Offset("0"), lambda _: (Offset("1"), b""))
    receipt = await ingest.accept(delivery(key, 0, tomorrow))
    assert receipt.results[0].status is EventStatus.DUPLICATE
