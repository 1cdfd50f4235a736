"""What a person asks about itself: how many transactions that is, and pages that come out whole."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import pytest

from core.accounts import create_tenant
from core.database import Database, Session
from core.permissions import Role
from core.sessions import open_session
from core.settings import Settings
from core.tenancy import Principal, Tenant, TenantId, Tier
from tests.conftest import make_person
from web.auth.callers import Caller
from web.graphql_door import GraphQLDoor
from web.ingest.rest import IngestDoor
from web.services import open_services


class Counting(Database):
    """Counts the transactions that are opened."""

    count = 0

    @asynccontextmanager
    async def as_tenant(
        self, tenant_id: TenantId, *, is_write: bool = False, grantees: Sequence[str] = ()
    ) -> AsyncIterator[Session]:
        self.count += 1
        async with super().as_tenant(tenant_id, is_write=is_write, grantees=grantees) as session:
            yield session

    @asynccontextmanager
    async def as_doorkeeper(self, *, is_write: bool = False) -> AsyncIterator[Session]:
        self.count += 1
        async with super().as_doorkeeper(is_write=is_write) as session:
            yield session


class Asker:
    """A person with many sessions and tenants, and what its operations cost."""

    def __init__(self, door: GraphQLDoor, caller: Caller, database: Counting) -> None:
        self._door, self._caller, self._database = door, caller, database

    async def ask(self, query: str, **variables: Any) -> tuple[Any, int]:
        self._database.count = 0
        context = self._door.context(self._caller, None, "request-1")
        result = await self._door.schema.execute(query, variables, context_value=context)
        assert result.errors is None, result.errors
        return result.data, self._database.count


@pytest.fixture
async def asker(settings: Settings, database: Database, tenant: Tenant) -> AsyncIterator[Asker]:
    others = [await create_tenant(database, slug=f"t{n}-{uuid4().hex[:8]}", name="", tier=Tier.FREE) for n in range(6)]
    person = await make_person(database, tenant, *others, role=Role.OWNER)
    opened = [
        await open_session(
            database, settings, person_id=person.id, tenant_id=tenant.id, method="password", address="", agent="",
            locked=False,
        )
        for _ in range(7)
    ]  # fmt: skip
    principal = Principal.of_person(tenant, person.id, Role.OWNER, opened[0].session_id)
    counting = Counting(settings)
    async with open_services(settings) as services:
        services = dataclasses.replace(services, database=counting)
        door = GraphQLDoor(services, IngestDoor(services).ingest)
        yield Asker(door, Caller(principal, "bucket"), counting)
    await counting.close()


@pytest.mark.parametrize(("field", "node"), [("sessions", "id createdAt"), ("tenants", "slug role since")])
async def test_a_page_is_one_transaction_a_count_another_and_pages_make_the_whole(
    asker: Asker, field: str, node: str
) -> None:
    query = (
        f"query($after: String) {{ viewer {{ {field}(first: 3, after: $after) "
        f"{{ edges {{ node {{ {node} }} }} pageInfo {{ hasNextPage endCursor }} }} }} }}"
    )
    nodes, after = [], None
    while True:
        data, count = await asker.ask(query, after=after)
        assert count == 1
        page = data["viewer"][field]
        nodes += [str(edge["node"]) for edge in page["edges"]]
        after = page["pageInfo"]["endCursor"]
        if not page["pageInfo"]["hasNextPage"]:
            break
    assert len(nodes) == len(set(nodes)) == 7
    data, count = await asker.ask(f"{{ viewer {{ {field}(first: 1) {{ totalCount edges {{ cursor }} }} }} }}")
    assert (data["viewer"][field]["totalCount"], count) == (7, 2)


async def test_who_asks_is_one_transaction_and_any_number_of_sessions_is_one(asker: Asker) -> None:
    assert (await asker.ask("{ viewer { role actor person { name email } } }"))[1] == 1
    data, _ = await asker.ask("{ viewer { sessions { edges { node { id } } } } }")
    ids = [edge["node"]["id"] for edge in data["viewer"]["sessions"]["edges"]]
    found, count = await asker.ask("query($ids: [ID!]!) { nodes(ids: $ids) { id } }", ids=ids)
    assert ([node["id"] for node in found["nodes"]], count) == (ids, 1)


@pytest.mark.parametrize(
    "mutation",
    [
        'updateProfile(input: {name: "Grace"}) { __typename }',
        "revokeOtherSessions(input: {}) { __typename }",
        'switchTenant(input: {slug: "none"}) { __typename }',
    ],
)
async def test_a_mutation_is_one_transaction(asker: Asker, mutation: str) -> None:
    assert (await asker.ask(f"mutation {{ {mutation} }}"))[1] == 1
