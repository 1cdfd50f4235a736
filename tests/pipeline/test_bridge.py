"""The bridge: nothing that a tenant calls its events keeps word of them from anybody."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from core.eventlog import Offset, Partition, Record
from core.hot import HotSets
from core.live import LiveBroadcast
from core.rollups import BucketUpdates, ChangedBucket, decode_notice, encode_updates
from core.settings import Settings
from core.summary import Summary
from core.tenancy import Tenant
from core.topics import UPDATES, hot_key, live_channel
from core.valkey import open_valkey
from core.valkey_log import ValkeyLog
from pipeline.bridge import Bridge

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


def record_of(tenant: Tenant, *types: str) -> Record:
    changed = [ChangedBucket(name, False, MINUTE, Summary(count=len(name)).to_row()) for name in types]
    updates = BucketUpdates(tenant.id, 0, "1-0", 0, len(types), changed)
    return Record(Partition(UPDATES), Offset("1-0"), Offset("1-1"), tenant.id.bytes, encode_updates(updates))


async def test_a_type_named_like_a_key_of_another_harms_neither(
    log: ValkeyLog, hot: HotSets, live: LiveBroadcast, tenant: Tenant
) -> None:
    types = ("foo", "foo:values", "hot-values:foo")
    await Bridge(log, hot, live)._process([record_of(tenant, *types)], {})
    for name in types:
        (value,) = await hot.read(tenant.id, name, since=MINUTE)
        assert value.summary.count == len(name)


async def test_a_hot_set_that_refuses_does_not_keep_back_the_word(
    log: ValkeyLog, hot: HotSets, live: LiveBroadcast, settings: Settings, tenant: Tenant
) -> None:
    client = open_valkey(settings.redis_url, seconds=2.0)
    await client.set(hot_key(tenant.id, "spoilt"), "not a sorted set")
    await client.aclose()
    async with live.subscribe(live_channel(tenant.id)) as reader:
        await asyncio.sleep(0.2)
        await Bridge(log, hot, live)._process([record_of(tenant, "spoilt")], {})
        async with asyncio.timeout(5):
            while not (message := await reader.next()):
                continue
    assert decode_notice(message).events == 1
