"""One object of each kind of node, made for a tenant as its own people would make it; what is given is its id."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from uuid import UUID, uuid4

from core.database import Database
from core.dead_letters import Place
from core.eventlog import Offset, Partition
from core.queries import named
from core.settings import Settings
from core.tenancy import Tenant
from pipeline.prepared import prepare
from pipeline.store import Store
from resolvers.events import EPOCH
from resolvers.global_ids import global_id
from tests.pipeline.builders import batch_of, enriched

KEEP = named("aggregate", "keep_dead_letter")

Make = Callable[[Database, Settings, Tenant], Awaitable[str]]


async def tenant_itself(database: Database, settings: Settings, tenant: Tenant) -> str:
    return global_id("Tenant", str(tenant.id))


async def metric(database: Database, settings: Settings, tenant: Tenant) -> str:
    return global_id("Metric", "events")


async def event(database: Database, settings: Settings, tenant: Tenant) -> str:
    now_ms = int(datetime.now(UTC).timestamp() * 1000)
    made = enriched(timestamp_ms=now_ms, id=uuid4().bytes)
    batch = batch_of(tenant.id, made)
    store = Store(database, f"maker-{tenant.slug}")
    await store.ensure_partitions([batch])
    await store.transact(Partition("maker"), await prepare([batch]), Offset("1-0"), lambda _: (Offset("2-0"), b""))
    moment = datetime.fromtimestamp(now_ms / 1000, UTC)
    return global_id("Event", f"{round((moment - EPOCH).total_seconds() * 1_000_000)}:{UUID(bytes=made.id)}")


async def dead_letter(database: Database, settings: Settings, tenant: Tenant) -> str:
    offset = str(uuid4().int % 10**9)
    async with database.as_writer() as session:
        await session.execute(KEEP, tenant.id, "events.enriched", 0, offset, "aggregate", "reason", b"bytes")
    return global_id("DeadLetter", str(Place("aggregate", "events.enriched", 0, Offset(offset))))


MAKERS: dict[str, Make] = {
    "Tenant": tenant_itself,
    "Metric": metric,
    "Event": event,
    "DeadLetter": dead_letter,
}
