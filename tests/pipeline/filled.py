"""A tenant that has something everywhere, and what there is of a tenant: counted by the catalogue, past all doors."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import urlsplit
from uuid import UUID, uuid4

from core import accounts
from core.database import Database, as_owner
from core.errors import LogUnavailable
from core.eventlog import EventLog, Offset, Partition
from core.queries import named
from core.seen import SeenIds
from core.settings import Settings
from core.tenancy import Tenant, Tier
from core.topics import ENRICHED, raw_topic
from core.valkey import open_valkey
from pipeline.prepared import prepare
from pipeline.store import Store
from tests.architecture.test_table_walk import tables_of
from tests.conftest import Servers, make_key
from tests.pipeline.builders import batch_of, enriched

KEEP = named("aggregate", "keep_dead_letter")


@dataclass(frozen=True, slots=True)
class Everything:
    """Counts what there is of tenants, as the database's superuser."""

    superuser: str
    redis_url: str

    @classmethod
    def of(cls, servers: Servers, settings: Settings) -> Everything:
        database = urlsplit(settings.owner_url).path.removeprefix("/")
        return cls(servers.folder.database_url("superuser", database), settings.redis_url)

    async def rows(self, tenant_id: UUID) -> dict[str, int]:
        """By table: every one that has a column tenant_id, and the tenants' own."""
        async with as_owner(self.superuser) as connection:
            tables = await connection.fetch(
                "SELECT c.relname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND attname = 'tenant_id' "
                "WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relnamespace = 'public'::regnamespace"
            )
            counts = {
                table: await connection.fetchval(f"SELECT count(*) FROM {table} WHERE tenant_id = $1", tenant_id)
                for (table,) in tables
            }
            counts["tenants"] = await connection.fetchval("SELECT count(*) FROM tenants WHERE id = $1", tenant_id)
        return counts

    async def fill_the_rest(self, tenant_id: UUID) -> None:
        """A row in every table that has none of the tenant yet, made up by the types of its columns."""
        there = await self.rows(tenant_id)
        async with as_owner(self.superuser) as connection:
            await connection.execute("SET session_replication_role = replica")
            for table in await tables_of(connection):
                if not there[table.name]:
                    await connection.execute(table.insert(), *table.row(tenant_id))

    async def keys(self, tenant_id: UUID) -> list[str]:
        client = open_valkey(self.redis_url, seconds=2.0, connections=1)
        try:
            return sorted([name.decode() async for name in client.scan_iter(f"*{tenant_id}*")])
        finally:
            await client.aclose()

    async def people(self) -> int:
        async with as_owner(self.superuser) as connection:
            return int(await connection.fetchval("SELECT count(*) FROM people"))

    async def come_home(self, tenant: Tenant) -> UUID:
        """A person whom the tenant's own identity provider made, member of it."""
        person = uuid4()
        async with as_owner(self.superuser) as connection:
            await connection.execute(
                "INSERT INTO people (id, name, home_tenant_id, asserted_email) VALUES ($1, 'Grace', $2, 'g@x.test')",
                person, tenant.id,
            )  # fmt: skip
            await connection.execute(
                "INSERT INTO members (tenant_id, person_id, role) VALUES ($1, $2, 'viewer')", tenant.id, person
            )
        return person

    async def join(self, tenant: Tenant, *others: Tenant) -> UUID:
        """A new person, member of these tenants."""
        person = uuid4()
        async with as_owner(self.superuser) as connection:
            await connection.execute(
                "INSERT INTO people (id, email, name, password_hash) VALUES ($1, $2, 'Ada', 'argon2-secret')",
                person, f"{person}@example.test",
            )  # fmt: skip
            for each in (tenant, *others):
                await connection.execute(
                    "INSERT INTO members (tenant_id, person_id, role) VALUES ($1, $2, 'viewer')", each.id, person
                )
            await connection.execute(
                "INSERT INTO password_resets (id, person_id, token_hash, expires_at) "
                "VALUES (gen_random_uuid(), $1, sha256(convert_to(gen_random_uuid()::text, 'UTF8')), now())", person,
            )  # fmt: skip
        return person


async def filled(
    database: Database, settings: Settings, log: EventLog, everything: Everything, *, events: int = 50
) -> Tenant:
    """A tenant with keys, members, events, rollups, ledger, usage, dead letters, hints in Valkey and records in the
    log."""
    tenant = await accounts.create_tenant(database, slug=f"full-{uuid4()}"[:40], name="Full", tier=Tier.SELF_HOSTED)
    await make_key(database, settings, tenant)
    await everything.join(tenant)
    batch = batch_of(tenant.id, *(enriched(user_id=f"=u{n}", visitor=n) for n in range(events)))
    store = Store(database, f"fill-{tenant.slug}")
    await store.ensure_partitions([batch])
    await store.transact(Partition("t"), await prepare([batch]), Offset("1-0"), lambda counted: (Offset("2-0"), b""))
    async with database.as_writer() as session:
        await session.execute(KEEP, tenant.id, "events.enriched", 0, "9-9", "aggregate", "bad", b"bytes of a letter")
    seen = SeenIds(settings.redis_url)
    await seen.note(tenant.id, [str(uuid4())])
    await seen.close()
    await _append(log, raw_topic(tenant.id, "each"), tenant, b"raw")
    await _append(log, ENRICHED, tenant, b"enriched")
    return tenant


async def _append(log: EventLog, topic: str, tenant: Tenant, value: bytes) -> None:
    """A broker that has just started may need a moment for a topic that is new."""
    async with asyncio.timeout(60):
        while True:
            with suppress(LogUnavailable):
                await log.append(topic, tenant.id.bytes, value)
                return
            await asyncio.sleep(0.5)
