"""How many times an operation goes to the database: once a field, never once an item; and how many statements each
documented operation takes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from core import invitations
from core.database import Database
from core.eventlog import Offset, Partition
from core.invitations import invite_member
from core.members import Authority
from core.permissions import Role
from core.queries import named
from core.settings import Settings
from core.tenancy import Tenant
from pipeline.prepared import prepare
from pipeline.store import Store
from resolvers.context import Context
from schema.examples import load_examples
from tests.conftest import make_key, make_person
from tests.pipeline.builders import batch_of, enriched
from tests.resolvers.examples_run import CountingDatabase, Runner, callers_of
from web.auth.keys import KnownKey
from web.graphql_door import GraphQLDoor
from web.ingest.rest import IngestDoor
from web.services import open_services

ON_BOTH_STORES = True
KEEP = named("aggregate", "keep_dead_letter")
EXAMPLES = load_examples()


class Asker:
    """Executes operations and says what they cost."""

    def __init__(self, door: GraphQLDoor, known: KnownKey, database: CountingDatabase) -> None:
        self._door = door
        self._caller = known.caller()
        self._database = database

    def context(self) -> Context:
        return self._door.context(self._caller, None, "request")

    async def ask(self, query: str, **variables: Any) -> tuple[Any, int]:
        self._database.begin()
        result = await self._door.schema.execute(query, variables, context_value=self.context())
        assert result.errors is None, result.errors
        return result.data, self._database.transactions


async def count_events(database: Database, tenant: Tenant) -> None:
    """Forty events of a tenant, counted."""
    batch = batch_of(tenant.id, *(enriched(user_id=f"u{n}") for n in range(40)))
    store = Store(database, f"counts-{tenant.slug}")
    await store.ensure_partitions([batch])
    await store.transact(Partition("t"), await prepare([batch]), Offset("1-0"), lambda counted: (Offset("2-0"), b""))


@pytest.fixture
async def door(
    settings: Settings, database: Database, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[GraphQLDoor]:
    await count_events(database, tenant)
    # The one that all services are made with.
    monkeypatch.setattr("web.services.Database", CountingDatabase)
    async with open_services(settings) as services:
        yield GraphQLDoor(services, IngestDoor(services).ingest)


@pytest.fixture
async def asker(door: GraphQLDoor, database: Database, settings: Settings, tenant: Tenant) -> Asker:
    key, _ = await make_key(database, settings, tenant)
    counting = door.services.database
    assert isinstance(counting, CountingDatabase)
    return Asker(door, KnownKey(key, (), 0), counting)


@pytest.fixture
async def runner(
    door: GraphQLDoor, database: Database, settings: Settings, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> Runner:
    # An example that sends again what another has just sent.
    monkeypatch.setattr(invitations, "RESEND_PAUSE", timedelta(0))
    await keep_letters(database, tenant, 5)
    callers = await callers_of(database, settings, tenant)
    return Runner(door, EXAMPLES, callers)


async def keep_letters(database: Database, tenant: Tenant, number: int) -> None:
    async with database.as_writer() as session:
        for n in range(number):
            await session.execute(KEEP, tenant.id, "events.enriched", 0, str(n), "aggregate", "reason", b"")


@pytest.mark.parametrize("name", EXAMPLES)
async def test_a_documented_operation_runs_and_takes_the_statements_that_it_says(runner: Runner, name: str) -> None:
    await runner.run(name)
    assert runner.database.statements == EXAMPLES[name].statements, "its header says another number"


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


async def test_a_series_is_one_query_and_so_are_all_metrics(asker: Asker) -> None:
    question = {"metric": "visitors", "range": {"last": "1h"}, "groupBy": ["browser"]}
    query = "query($q: MetricQuery!) { series(query: $q) { columns timestamps series { total labels { value } } } }"
    assert (await asker.ask(query, q=question))[1] == 1
    assert (await asker.ask("{ viewer { actor tenant { metrics { edges { node { key } } } } } }"))[1] == 1


async def test_a_page_of_dead_letters_is_one_query_and_so_is_any_number_of_them(
    asker: Asker, database: Database, tenant: Tenant
) -> None:
    await keep_letters(database, tenant, 30)
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
