"""A tenant's tier changes: its events follow, each is in one storage class, and an import run again adds nothing."""

from __future__ import annotations

import asyncio
import itertools
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import asyncpg
import msgspec
import pytest

from core import accounts
from core.audit import Author
from core.database import Database, as_owner
from core.errors import BadInput, DatabaseUnavailable
from core.eventlog import Offset, Partition, Record
from core.events import EnrichedEvent, encode_enriched
from core.retention import Retention
from core.settings import Settings
from core.tenancy import Tenant, TenantId, Tier
from core.topics import ENRICHED
from core.valkey_log import ValkeyLog
from pipeline import moving
from pipeline.aggregate import Aggregator
from pipeline.moving import EventMover
from pipeline.prepared import prepare
from pipeline.retention import RetentionKeeper
from pipeline.store import Misplaced, Store
from tests.pipeline.builders import NOW_MS, batch_of, enriched
from tests.pipeline.own_metrics import DEFINITIONS, define
from tests.pipeline.stored import Stored

ON_BOTH_STORES = True

DAY_MS = 86_400_000
_numbers = itertools.count(1)
NOW = datetime.fromtimestamp(NOW_MS / 1000, UTC)
CLASSES = "SELECT retention_class, count(*) FROM events WHERE tenant_id = $1 GROUP BY 1"
# What a month does to the ledger of the last seven days.
FORGET_LEDGER = "DELETE FROM event_ids WHERE tenant_id = $1"
MOVING = "SELECT moving_since IS NOT NULL FROM tenants WHERE id = $1"


@pytest.fixture
async def free(database: Database) -> Tenant:
    return await accounts.create_tenant(database, slug=f"free-{uuid4()}", name="", tier=Tier.FREE)


@pytest.fixture
def mover(database: Database, settings: Settings) -> EventMover:
    return EventMover(database, Retention.of(settings))


def history(*days_ago: int, each: int = 3) -> list[EnrichedEvent]:
    return [enriched(timestamp_ms=NOW_MS - days * DAY_MS - n) for days in days_ago for n in range(each)]


class Import:
    """An import that is sent through a worker of its own, again and again, with the storage class of the day it is
    sent on."""

    def __init__(self, database: Database, log: ValkeyLog, tenant: Tenant, events: list[EnrichedEvent]) -> None:
        self._aggregator = Aggregator(database, log)
        self._partition = Partition(ENRICHED, next(_numbers))
        self._tenant = tenant
        self._events = events
        self._sent = 0

    async def send(self, tier: Tier) -> None:
        batch = msgspec.structs.replace(batch_of(self._tenant.id, *self._events), retention_class=tier.value)
        place, after = Offset(f"{self._sent}-0"), Offset(f"{self._sent + 1}-0")
        record = Record(self._partition, place, after, self._tenant.id.bytes, encode_enriched(batch))
        await self._aggregator._process([record], {self._partition: after})
        self._sent += 1


async def classes(stored: Stored, tenant: Tenant) -> dict[str, int]:
    async with as_owner(stored.url) as connection:
        return dict(await connection.fetch(CLASSES, tenant.id))


async def run(stored: Stored, text: str, tenant: Tenant) -> object:
    async with as_owner(stored.url) as connection:
        return await connection.fetchval(text, tenant.id)


async def change(database: Database, tenant: Tenant, tier: Tier) -> Tenant:
    return await accounts.change_tier(database, tenant, tier, Author.operator(tenant.id))


async def test_an_import_run_again_after_a_change_of_tier_adds_nothing(
    database: Database, log: ValkeyLog, stored: Stored, mover: EventMover, free: Tenant
) -> None:
    work = Import(database, log, free, history(0, 12, 25))
    await work.send(Tier.FREE)
    assert await classes(stored, free) == {"free": 9}
    await change(database, free, Tier.PRO)
    await run(stored, FORGET_LEDGER, free)
    # Before any event has moved, with the class that the door knew then, and with the one it knows now.
    await work.send(Tier.FREE)
    await run(stored, FORGET_LEDGER, free)
    await work.send(Tier.PRO)
    assert await classes(stored, free) == {"free": 9}
    assert await mover.move_all(NOW) == 9
    assert await classes(stored, free) == {"pro": 9}
    await run(stored, FORGET_LEDGER, free)
    await work.send(Tier.FREE)
    counted = await stored.counts(free)
    assert await classes(stored, free) == {"pro": 9}
    assert (counted["events"], counted["accepted"], counted["duplicates"], counted["minutes"]) == (9, 9, 27, 9)
    assert await run(stored, MOVING, free) is False


async def test_an_event_that_moves_keeps_the_metrics_revision_that_it_was_counted_with(
    database: Database, log: ValkeyLog, stored: Stored, mover: EventMover, free: Tenant
) -> None:
    work = Import(database, log, free, history(0, 12))
    await define(stored.url, free, "orders", *DEFINITIONS["orders"])
    await work.send(Tier.FREE)
    await change(database, free, Tier.PRO)
    assert await mover.move_all(NOW) > 0
    async with as_owner(stored.url) as connection:
        kept = await connection.fetch("SELECT DISTINCT metrics_revision FROM events WHERE tenant_id = $1", free.id)
    assert [row["metrics_revision"] for row in kept] == [1]


async def test_what_comes_while_events_move_goes_to_the_new_class_alone(
    database: Database, log: ValkeyLog, stored: Stored, mover: EventMover, free: Tenant
) -> None:
    await Import(database, log, free, history(3, 4)).send(Tier.FREE)
    await change(database, free, Tier.ENTERPRISE)
    # On its way since before the change, and with a day that the new class has no table for.
    await Import(database, log, free, history(29)).send(Tier.FREE)
    assert await classes(stored, free) == {"free": 6, "enterprise": 3}
    await mover.move_all(NOW)
    assert await classes(stored, free) == {"enterprise": 9}
    assert (await stored.counts(free))["accepted"] == 9


async def test_a_tier_may_change_again_before_events_have_moved(
    database: Database, log: ValkeyLog, stored: Stored, mover: EventMover, free: Tenant
) -> None:
    work = Import(database, log, free, history(1, 2))
    await work.send(Tier.FREE)
    await change(database, free, Tier.PRO)
    await Import(database, log, free, history(5)).send(Tier.PRO)
    await change(database, free, Tier.ENTERPRISE)
    await run(stored, FORGET_LEDGER, free)
    await work.send(Tier.ENTERPRISE)
    assert await classes(stored, free) == {"free": 6, "pro": 3}
    assert await mover.move_all(NOW) == 9
    assert await classes(stored, free) == {"enterprise": 9}
    await change(database, free, Tier.FREE)
    assert await mover.move_all(NOW) == 9
    assert await classes(stored, free) == {"free": 9}


async def test_a_higher_tier_keeps_what_the_lower_one_would_have_dropped_and_a_lower_one_drops_it(
    database: Database, log: ValkeyLog, stored: Stored, settings: Settings, mover: EventMover, free: Tenant
) -> None:
    await Import(database, log, free, history(0, 29)).send(Tier.FREE)
    pro = await change(database, free, Tier.PRO)
    await mover.move_all(NOW)
    later = NOW + timedelta(days=20)
    await RetentionKeeper(database, Retention.of(settings)).drop_old(later)
    assert await classes(stored, pro) == {"pro": 6}
    await change(database, pro, Tier.FREE)
    assert await mover.move_all(later) == 6
    assert await classes(stored, pro) == {"free": 3}


async def test_events_move_in_bites_and_two_movers_do_not_meet(
    database: Database, log: ValkeyLog, stored: Stored, settings: Settings, free: Tenant, tenant: Tenant,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(moving, "BITE", 4)
    await Import(database, log, free, history(1, 2, 3, each=11)).send(Tier.FREE)
    await Import(database, log, tenant, history(1)).send(Tier.SELF_HOSTED)
    await change(database, free, Tier.PRO)
    movers = [EventMover(database, Retention.of(settings)) for _ in range(3)]
    assert sum(await asyncio.gather(*(mover.move_all(NOW) for mover in movers))) == 33
    # Whoever found it taken left it: the next round finds what is left of it, if anything.
    await movers[0].move_all(NOW)
    assert await classes(stored, free) == {"pro": 33}
    assert await classes(stored, tenant) == {"self_hosted": 3}
    assert await run(stored, MOVING, free) is False


async def test_many_events_of_one_timestamp_move_in_bites_too(
    database: Database, log: ValkeyLog, stored: Stored, mover: EventMover, free: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(moving, "BITE", 4)
    at_once = [enriched(timestamp_ms=NOW_MS - DAY_MS) for _ in range(11)]
    await Import(database, log, free, [*at_once, *history(2)]).send(Tier.FREE)
    changed = await change(database, free, Tier.PRO)
    since = await run(stored, "SELECT moving_since FROM tenants WHERE id = $1", free)
    assert isinstance(since, datetime) and changed.tier is Tier.PRO
    bites = []
    while (bite := await mover._bite(free.id, since, NOW)) is not None:
        bites.append(bite)
    assert bites == [3, 4, 4, 3]
    assert await classes(stored, free) == {"pro": 14}


async def test_what_cannot_be_moved_of_one_tenant_keeps_no_other(
    database: Database, log: ValkeyLog, stored: Stored, settings: Settings, free: Tenant
) -> None:
    class Stuck(EventMover):
        async def _bite(self, tenant_id: UUID, since: datetime, now: datetime) -> int | None:
            if tenant_id == free.id:
                raise asyncpg.QueryCanceledError("canceling statement due to statement timeout")
            return await super()._bite(tenant_id, since, now)

    other = await accounts.create_tenant(database, slug=f"free-{uuid4()}", name="", tier=Tier.FREE)
    for each in (free, other):
        await Import(database, log, each, history(1)).send(Tier.FREE)
        await change(database, each, Tier.PRO)
    assert await Stuck(database, Retention.of(settings)).move_all(NOW) == 3
    assert await classes(stored, free) == {"free": 3} and await classes(stored, other) == {"pro": 3}
    assert await run(stored, MOVING, free) is True


async def test_counting_goes_on_while_tiers_change_and_loses_and_doubles_nothing(
    database: Database, log: ValkeyLog, stored: Stored, mover: EventMover, free: Tenant
) -> None:
    """A worker counts old and new events again and again, the tier changes under it, a mover moves."""
    old = history(8, 9, each=40)
    new = [enriched(timestamp_ms=NOW_MS - 20 * DAY_MS - n) for n in range(200)]
    await Import(database, log, free, old).send(Tier.FREE)
    is_done = False

    async def count() -> None:
        aggregator, partition = Aggregator(database, log), Partition(ENRICHED, next(_numbers))
        for n in range(20):
            batch = batch_of(free.id, *old[n * 4 : n * 4 + 4], *new[n * 10 : n * 10 + 10])
            value = encode_enriched(msgspec.structs.replace(batch, retention_class="free"))
            after = Offset(f"{n + 1}-0")
            record = Record(partition, Offset(f"{n}-0"), after, free.id.bytes, value)
            await aggregator._process([record], {partition: after})
            await run(stored, FORGET_LEDGER, free)

    async def move() -> None:
        while not is_done:
            await mover.move_all(NOW)
            await asyncio.sleep(0.01)

    counting, moving_ = asyncio.create_task(count()), asyncio.create_task(move())
    tier = free
    for wanted in (Tier.PRO, Tier.ENTERPRISE, Tier.FREE, Tier.PRO):
        tier = await change(database, tier, wanted)
        await asyncio.sleep(0.05)
    await counting
    is_done = True
    await moving_
    await mover.move_all(NOW)
    counted = await stored.counts(free)
    assert await classes(stored, free) == {"pro": 280}
    assert (counted["events"], counted["accepted"], counted["minutes"], counted["fives"]) == (280, 280, 280, 280)


async def test_a_batch_of_another_class_is_told_and_writes_nothing(
    database: Database, stored: Stored, free: Tenant
) -> None:
    store = Store(database, f"group-{uuid4()}")
    batch = batch_of(free.id, enriched())
    await store.ensure_partitions([batch])
    with pytest.raises(Misplaced) as told:
        await store.transact(Partition(ENRICHED), await prepare([batch]), Offset("0"), lambda _: (Offset("1"), b""))
    assert told.value.tiers == {free.id: "free"}
    assert (await stored.counts(free))["events"] == 0


async def test_a_change_to_the_same_tier_or_of_no_tenant_is_refused(database: Database, free: Tenant) -> None:
    with pytest.raises(BadInput, match="already"):
        await change(database, free, Tier.FREE)
    nobody = Tenant(TenantId(uuid4()), "x", "x", Tier.FREE, NOW)
    with pytest.raises(BadInput):
        await change(database, nobody, Tier.PRO)


async def test_a_change_waits_for_whoever_counts_under_the_tier_and_not_for_others(
    database: Database, free: Tenant, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with database.as_writer() as counting:
        await counting.fetch(moving.HOLD_TIERS, [free.id])
        await change(database, tenant, Tier.PRO)
        with monkeypatch.context() as patch:
            patch.setattr("core.database.READ_SECONDS", 1.0)
            with pytest.raises(DatabaseUnavailable):
                await change(database, free, Tier.ENTERPRISE)
        waiting = asyncio.create_task(change(database, free, Tier.PRO))
        await asyncio.sleep(0.3)
        assert not waiting.done()
    assert (await waiting).tier is Tier.PRO
