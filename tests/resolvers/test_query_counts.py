"""How many times an operation goes to the database: once a field, never once an item."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from core.database import Database, Session
from core.eventlog import Offset, Partition
from core.invitations import invite_member
from core.members import Authority
from core.permissions import Role
from core.queries import named
from core.settings import Settings
from core.tenancy import Tenant, TenantId
from pipeline.prepared import prepare
from pipeline.store import Store
from resolvers.context import Context
from tests.conftest import make_key, make_person
from tests.pipeline.builders import batch_of, enriched
from web.auth.keys import KnownKey
from web.graphql_door import GraphQLDoor
from web.ingest.rest import IngestDoor
from web.services import open_services

ON_BOTH_STORES = True
KEEP = named("aggregate", "keep_dead_letter")


class CountingDatabase(Database):
    """Counts the transactions that are opened for a tenant."""

    count = 0

    @asynccontextmanager
    async def as_tenant(
        self, tenant_id: TenantId, *, is_write: bool = False, grantees: Sequence[str] = ()
    ) -> AsyncIterator[Session]:
        self.count += 1
        async with super().as_tenant(tenant_id, is_write=is_write, grantees=grantees) as session:
            yield session


class Asker:
    """Executes operations and says what they cost."""

    def __init__(self, door: GraphQLDoor, known: KnownKey, database: CountingDatabase) -> None:
        self._door = door
        self._caller = known.caller()
        self._database = database

    def context(self) -> Context:
        return self._door.context(self._caller, None, "request")

    async def ask(self, query: str, **variables: Any) -> tuple[Any, int]:
        self._database.count = 0
        result = await self._door.schema.execute(query, variables, context_value=self.context())
        assert result.errors is None, result.errors
        return result.data, self._database.count


@pytest.fixture
async def asker(settings: Settings, database: Database, tenant: Tenant) -> AsyncIterator[Asker]:
    batch = batch_of(tenant.id, *(enriched(user_id=f"u{n}") for n in range(40)))
    store = Store(database, f"counts-{tenant.slug}")
    await store.ensure_partitions([batch])
    await store.transact(Partition("t"), await prepare([batch]), Offset("1-0"), lambda counted: (Offset("2-0"), b""))
    key, _ = await make_key(database, settings, tenant)
    counting = CountingDatabase(settings)
    async with open_services(settings) as services:
        services = dataclasses.replace(services, database=counting)
        door = GraphQLDoor(services, IngestDoor(services).ingest)
        yield Asker(door, KnownKey(key, (), 0), counting)
    await counting.close()


async def test_a_page_of_events_is_one_query(asker: Asker) -> None:
    data, count = await asker.ask(
        "{ tenant { slug events(first: 40) { edges { cursor node { id type userId properties context status } } } } }"
    )
    assert len(data["tenant"]["events"]["edges"]) == 40
    assert count == 1


async def test_any_number_of_nodes_is_one_query(asker: Asker) -> None:
    page, _ = await asker.ask("{ tenant { events(first: 40) { edges { node { id } } } } }")
    ids = [edge["node"]["id"] for edge in page["tenant"]["events"]["edges"]]
    data, count = await asker.ask("query($ids: [ID!]!) { nodes(ids: $ids) { id } }", ids=ids)
    assert [node["id"] for node in data["nodes"]] == ids
    assert count == 1


async def test_a_series_is_one_query_and_metrics_are_none(asker: Asker) -> None:
    question = {"metric": "visitors", "range": {"last": "1h"}, "groupBy": ["browser"]}
    query = "query($q: MetricQuery!) { series(query: $q) { columns timestamps series { total labels { value } } } }"
    assert (await asker.ask(query, q=question))[1] == 1
    assert (await asker.ask("{ viewer { actor tenant { metrics { edges { node { key } } } } } }"))[1] == 0


async def test_a_page_of_dead_letters_is_one_query_and_so_is_any_number_of_them(
    asker: Asker, database: Database, tenant: Tenant
) -> None:
    async with database.as_writer() as session:
        for n in range(30):
            await session.execute(KEEP, tenant.id, "events.enriched", 0, str(n), "aggregate", "reason", b"")
    page, count = await asker.ask("{ tenant { deadLetters(first: 30) { edges { node { id worker reason } } } } }")
    ids = [edge["node"]["id"] for edge in page["tenant"]["deadLetters"]["edges"]]
    assert (len(ids), count) == (30, 1)
    data, count = await asker.ask("query($ids: [ID!]!) { nodes(ids: $ids) { id } }", ids=ids)
    assert [node["id"] for node in data["nodes"]] == ids
    assert count == 1


async def test_a_page_of_members_or_invitations_is_one_query_and_its_number_another(
    asker: Asker, database: Database, settings: Settings, tenant: Tenant
) -> None:
    for _ in range(20):
        await make_person(database, tenant)
    for n in range(20):
        await invite_member(database, settings, Authority.operator(tenant.id), f"n{n}@example.com", Role.VIEWER)
    members = "members(first: 20) { edges { node { id name email role since lastSeenAt } } }"
    invitations = "invitations(first: 20) { edges { node { id email role state mail invitedBy } } }"
    for field, kind in ((members, "members"), (invitations, "invitations")):
        page, count = await asker.ask(f"{{ tenant {{ {field} }} }}")
        ids = [edge["node"]["id"] for edge in page["tenant"][kind]["edges"]]
        assert (len(ids), count) == (20, 1)
        data, count = await asker.ask("query($ids: [ID!]!) { nodes(ids: $ids) { id } }", ids=ids)
        assert ([node["id"] for node in data["nodes"]], count) == (ids, 1)
    _, count = await asker.ask("{ tenant { members(first: 1) { totalCount } invitations(first: 1) { totalCount } } }")
    assert count == 4
