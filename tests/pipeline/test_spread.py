"""Several workers at once: on one tenant's records, and one of them killed."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import random
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import msgspec
import pytest

from core import accounts
from core.changes import ChangeNotes
from core.database import Database, as_owner
from core.eventlog import EventLog, Offset, Partition
from core.events import EnrichedEvent, encode_raw
from core.hot import HotSets
from core.live import LiveBroadcast
from core.log import open_log
from core.rollups import encode_updates
from core.settings import Settings
from core.tenancy import Tenant, Tier
from core.topics import ENRICHED, ENRICHED_TOPICS, RAW_TOPICS, UPDATES, raw_topic
from core.valkey_log import ValkeyLog
from pipeline.aggregate import updates_of
from pipeline.bridge import Bridge
from pipeline.prepared import prepare
from pipeline.spread import Spread
from pipeline.store import Store
from tests.conftest import ROOT
from tests.pipeline.builders import NOW_MS, batch_of, enriched, raw_batch
from tests.pipeline.stored import Stored

WORKERS = 3


@pytest.fixture(params=["valkey", "kafka"])
async def any_settings(settings: Settings, request: pytest.FixtureRequest) -> Settings:
    brokers = request.getfixturevalue("kafka_brokers") if request.param == "kafka" else ""
    return dataclasses.replace(settings, kafka_brokers=brokers)


@pytest.fixture
async def any_log(any_settings: Settings) -> AsyncIterator[EventLog]:
    log = open_log(any_settings)
    yield log
    await log.close()


def start_workers(settings: Settings, output: Path, count: int = WORKERS) -> subprocess.Popen[bytes]:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("CLOUDMETRICS_")}
    with output.open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "pipeline", "all", "--workers", str(count)],
            cwd=ROOT, env={**environ, **settings.to_env()}, stdout=log, stderr=log,
        )  # fmt: skip


def children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def is_running(pid: int) -> bool:
    """Whether it is a process still, and not only the note of one that ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.fixture
def workers(any_settings: Settings, tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    process = start_workers(any_settings, tmp_path / "workers.log")
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait(30)


async def until(condition: Any, seconds: float = 120) -> None:
    async with asyncio.timeout(seconds):
        while not await condition():
            await asyncio.sleep(0.1)


async def test_three_processes_count_exactly_though_one_is_killed_and_every_event_comes_twice(
    workers: subprocess.Popen[bytes], any_log: EventLog, database: Database, stored: Stored, settings: Settings
) -> None:
    tenants = [
        await accounts.create_tenant(database, slug=f"t-{uuid4()}", name="", tier=Tier.SELF_HOSTED) for _ in range(3)
    ]
    large = tenants[0]
    await accounts.spread_tenant(database, large, 4)
    spread = Spread()
    await spread.refresh(database)
    assert len(spread.key_of(large.id, "r")) == 17 and len(spread.key_of(tenants[1].id, "r")) == 16
    sent = {large: 40, tenants[1]: 10, tenants[2]: 10}
    batches = [
        raw_batch(t.id, *({"user_id": f"u{n}"} for n in range(50))) for t, count in sent.items() for _ in range(count)
    ]
    # The same events again, by requests of their own: other sub-keys, other partitions, at about the same time.
    twice = [msgspec.structs.replace(batch, request_id=str(uuid4())) for batch in batches for _ in range(2)]
    random.Random(7).shuffle(twice)

    async def counted(tenant: Tenant) -> int:
        return (await stored.counts(tenant))["accepted"]

    # The workers know whom to spread within 10 s of their start.
    await until(lambda: _are_up(workers, WORKERS))
    await asyncio.sleep(1.0)
    for number, batch in enumerate(twice):
        await any_log.append(raw_topic(batch.tenant_id, "shared"), batch.tenant_id.bytes, encode_raw(batch))
        if number == len(twice) // 3:
            await until(lambda: _is_more(counted(large), 0))
            os.kill(children_of(workers.pid)[0], signal.SIGKILL)

    async def is_done() -> bool:
        lag = [await any_log.lag("enrich", RAW_TOPICS), await any_log.lag("aggregate", ENRICHED_TOPICS)]
        return not any(sum(found.values()) for found in lag)

    await until(is_done)
    for tenant, count in sent.items():
        found = await stored.counts(tenant)
        duplicates = found.pop("duplicates")
        assert found == dict.fromkeys(("events", "minutes", "fives", "hours", "accepted", "ids"), count * 50)
        # A killed worker's batch may have come again; what was sent twice is in it at least.
        assert duplicates >= count * 50
    assert len(await shards_of(stored, large)) > 1
    assert len(await shards_of(stored, tenants[1])) == 1
    await until(lambda: _are_up(workers, WORKERS))
    pids = children_of(workers.pid)
    workers.terminate()
    assert workers.wait(40) == 0
    assert not any(is_running(pid) for pid in pids)


async def _are_up(parent: subprocess.Popen[bytes], count: int) -> bool:
    return len(children_of(parent.pid)) == count


async def _is_more(asked: Any, than: int) -> bool:
    return bool(await asked > than)


async def shards_of(stored: Stored, tenant: Tenant) -> list[int]:
    async with as_owner(stored.url) as connection:
        rows = await connection.fetch("SELECT DISTINCT shard FROM rollup_1m WHERE tenant_id = $1", tenant.id)
    return [row["shard"] for row in rows]


async def test_processes_end_with_a_parent_that_is_killed(settings: Settings, tmp_path: Path) -> None:
    parent = start_workers(settings, tmp_path / "workers.log", 2)
    try:
        await until(lambda: _are_up(parent, 2))
        pids = children_of(parent.pid)
    finally:
        parent.kill()
        parent.wait()

    async def are_gone() -> bool:
        return not any(is_running(pid) for pid in pids)

    await until(are_gone)


@pytest.mark.parametrize("asked", ["0", "65"])
def test_a_number_of_workers_that_cannot_be_is_refused(asked: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pipeline", "enrich", "--workers", asked],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 2 and "--workers must be 1 to 64" in done.stderr


async def count_at(store: Store, number: int, tenant_id: UUID, events: list[EnrichedEvent], at: int) -> int:
    """Counts a batch on a partition; how many were new. A deadlock would raise."""
    batch = batch_of(tenant_id, *events)
    await store.ensure_partitions([batch])
    partition, prepared = Partition(ENRICHED, number), await prepare([batch])
    counted = await store.transact(partition, prepared, Offset(str(at)), lambda c: (Offset(str(at + 1)), b""))
    return counted.new_events[tenant_id]


async def test_the_same_events_on_several_partitions_at_once_count_once(
    settings: Settings, stored: Stored, tenant: Tenant
) -> None:
    database = Database(settings, pool_size=8)
    events = [enriched(status=200 + n % 5, duration_ms=float(n), timestamp_ms=NOW_MS - n * 100) for n in range(1500)]
    rounds = 3
    for at in range(rounds):
        fresh = [msgspec.structs.replace(event, id=uuid4().bytes) for event in events]
        # Each partition has them in an order of its own, and locks must not be taken in it.
        orders = [random.Random(n).sample(fresh, len(fresh)) for n in range(4)]
        # New ones each time, which take all events for new.
        stores = [Store(database, f"group-{uuid4()}") for _ in range(4)]
        new = await asyncio.gather(*(count_at(stores[n], n, tenant.id, orders[n], at) for n in range(4)))
        assert sum(new) == 1500
    found = await stored.counts(tenant)
    total = 1500 * rounds
    assert found == {**dict.fromkeys(("events", "minutes", "fives", "hours", "accepted", "ids"), total),
                     "duplicates": 3 * total}  # fmt: skip
    await database.close()


async def test_a_minute_that_two_partitions_counted_is_the_sum_of_both_in_the_hot_set(
    settings: Settings, database: Database, log: ValkeyLog, tenant: Tenant
) -> None:
    hot, notes = HotSets(settings.redis_url), ChangeNotes(settings.redis_url)
    store = Store(database, f"group-{uuid4()}")
    minute = NOW_MS // 60_000 * 60
    async with LiveBroadcast(settings.redis_url) as live:
        bridge = Bridge(log, hot, live, notes)
        # The second partition's offsets are far behind the first's: each has its own order.
        for number, at, events in ((0, 900, 3), (1, 5, 4), (1, 6, 2)):
            batch = batch_of(tenant.id, *(enriched() for _ in range(events)))
            await store.ensure_partitions([batch])
            partition, after = Partition(ENRICHED, number), Offset(str(at + 1))
            counted = await store.transact(
                partition, await prepare([batch]), Offset(str(at)), lambda c, after=after: (after, b"")
            )
            for update in updates_of(counted, number, after, NOW_MS / 1000):
                await log.append(UPDATES, tenant.id.bytes, encode_updates(update))
                await bridge._put(update)
    values = await hot.read(tenant.id, "page_view", since=minute)
    assert {value.shard: value.summary.count for value in values} == {0: 3, 1: 6}
    await hot.close()
    await notes.close()
