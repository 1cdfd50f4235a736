"""The bridge: nothing that a tenant calls its events keeps word of them from anybody."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from core.changes import ChangeNotes
from core.database import Database
from core.eventlog import Offset, Partition, Record
from core.events import encode_enriched
from core.hot import HotSets
from core.live import LiveBroadcast
from core.rollups import BucketUpdates, ChangedBucket, decode_notice, encode_updates
from core.settings import Settings
from core.summary import Summary
from core.tenancy import Tenant
from core.topics import ENRICHED, UPDATES, hot_key, live_channel
from core.valkey import open_valkey
from core.valkey_log import ValkeyLog
from pipeline.aggregate import Aggregator
from pipeline.bridge import Bridge
from tests.pipeline.builders import NOW_MS, batch_of, enriched

MINUTE = int(time.time()) // 60 * 60


@pytest.fixture
async def hot(settings: Settings) -> AsyncIterator[HotSets]:
    hot = HotSets(settings.redis_url)
    yield hot
    await hot.close()


@pytest.fixture
async def live(settings: Settings) -> AsyncIterator[LiveBroadcast]:
    async with LiveBroadcast(settings.redis_url) as live:
        yield live


@pytest.fixture
async def notes(settings: Settings) -> AsyncIterator[ChangeNotes]:
    notes = ChangeNotes(settings.redis_url)
    yield notes
    await notes.close()


def record_of(tenant: Tenant, *types: str) -> Record:
    changed = [ChangedBucket(name, False, MINUTE, Summary(count=len(name)).to_row()) for name in types]
    updates = BucketUpdates(tenant.id, 0, "1-0", 0, len(types), changed)
    return Record(Partition(UPDATES), Offset("1-0"), Offset("1-1"), tenant.id.bytes, encode_updates(updates))


async def test_a_type_named_like_a_key_of_another_harms_neither(
    log: ValkeyLog, hot: HotSets, live: LiveBroadcast, notes: ChangeNotes, tenant: Tenant
) -> None:
    types = ("foo", "foo:values", "hot-values:foo")
    await Bridge(log, hot, live, notes)._process([record_of(tenant, *types)], {})
    for name in types:
        (value,) = await hot.read(tenant.id, name, since=MINUTE)
        assert value.summary.count == len(name)


async def test_a_hot_set_that_refuses_does_not_keep_back_the_word(
    log: ValkeyLog, hot: HotSets, live: LiveBroadcast, notes: ChangeNotes, settings: Settings, tenant: Tenant
) -> None:
    client = open_valkey(settings.redis_url, seconds=2.0)
    await client.set(hot_key(tenant.id, "spoilt"), "not a sorted set")
    await client.aclose()
    async with live.subscribe(live_channel(tenant.id)) as reader:
        await asyncio.sleep(0.2)
        await Bridge(log, hot, live, notes)._process([record_of(tenant, "spoilt")], {})
        async with asyncio.timeout(5):
            while not (message := await reader.next()):
                continue
    assert decode_notice(message).events == 1


async def test_an_emptied_valkey_gets_its_minutes_back(
    log: ValkeyLog,
    hot: HotSets,
    live: LiveBroadcast,
    notes: ChangeNotes,
    database: Database,
    settings: Settings,
    tenant: Tenant,
) -> None:
    bridge = Bridge(log, hot, live, notes)
    hour_ago = NOW_MS - 3_600_000
    batch = batch_of(tenant.id, enriched(), enriched(), enriched(timestamp_ms=hour_ago))
    place = Partition(ENRICHED)
    counted = Record(place, Offset("1-0"), Offset("1-1"), tenant.id.bytes, encode_enriched(batch))
    # No word of it reaches the bridge: what is not told again must come back as well.
    await Aggregator(database, log)._process([counted], {place: Offset("1-1")})
    await bridge.rebuild(database)
    assert await bridge.is_whole()
    client = open_valkey(settings.redis_url, seconds=2.0)
    await client.flushall()
    await client.aclose()
    assert not await bridge.is_whole()
    await bridge.rebuild(database)
    assert await bridge.is_whole()
    minutes = [(value.bucket, value.summary.count) for value in await hot.read(tenant.id, "page_view", since=0)]
    assert minutes == [(hour_ago // 60_000 * 60, 1), (NOW_MS // 60_000 * 60, 2)]


async def test_a_valkey_emptied_while_it_is_filled_is_not_whole(
    log: ValkeyLog, hot: HotSets, live: LiveBroadcast, notes: ChangeNotes, database: Database, settings: Settings
) -> None:
    life = await hot.life()
    client = open_valkey(settings.redis_url, seconds=2.0)
    await client.flushall()
    await client.aclose()
    await hot.set_whole(life)
    assert not await hot.is_whole()
    await Bridge(log, hot, live, notes).rebuild(database)
    assert await hot.is_whole()
