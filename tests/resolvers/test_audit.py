"""The audit trail over GraphQL: pages, filters, nodes; and what was refused is in it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from core import accounts
from core.audit_trail import AuditFilter, list_entries, verify
from core.database import Database
from core.permissions import Role, Scope
from core.refused_writes import ENTRIES_PER_MINUTE
from core.settings import Settings
from core.tenancy import KeyId, PersonId, Principal, Tenant, Tier
from resolvers.context import Context
from tests.conftest import make_key
from tests.core.members import add_member
from web.auth.callers import Caller
from web.graphql_door import GraphQLDoor
from web.ingest.rest import IngestDoor
from web.services import Services, open_services

LOG = """query($filter: AuditFilter, $first: Int, $after: String) { tenant { auditLog(filter: $filter, first: $first,
  after: $after) { totalCount pageInfo { hasNextPage endCursor }
  edges { node { id sequence at actor action subject diff requestId hash previousHash } } } } }"""
DROP = """mutation($input: DropDeadLetterInput!) { dropDeadLetter(input: $input) {
  __typename ... on Error { code message path } } }"""
EXPORT = """mutation($input: ExportAuditLogInput!) { exportAuditLog(input: $input) { __typename
  ... on ExportAuditLogPayload { job { id kind state progress askedBy file { name } } }
  ... on Error { message path } } }"""
DELETE = """mutation($input: DeleteTenantInput!) { deleteTenant(input: $input) { __typename
  ... on DeleteTenantPayload { endsAt job { id kind state } } ... on Error { message path } } }"""
RESTORE = """mutation($input: RestoreTenantInput!) { restoreTenant(input: $input) { __typename
  ... on RestoreTenantPayload { slug } ... on Error { message path } } }"""


class Asker:
    """Executes operations as some caller of a tenant."""

    def __init__(self, door: GraphQLDoor, services: Services) -> None:
        self.door = door
        self.services = services

    def context(self, principal: Principal) -> Context:
        return self.door.context(Caller(principal, principal.actor), None, "request-1")

    async def ask(self, principal: Principal, query: str, **variables: Any) -> Any:
        result = await self.door.schema.execute(query, variables, context_value=self.context(principal))
        assert result.errors is None, result.errors
        return result.data


@pytest.fixture
async def asker(settings: Settings) -> AsyncIterator[Asker]:
    async with open_services(settings) as services:
        yield Asker(GraphQLDoor(services, IngestDoor(services).ingest), services)


def key_of(tenant: Tenant, scope: Scope = Scope.ADMIN, name: str = "key_admin") -> Principal:
    return Principal.of_key(tenant, KeyId(name), frozenset({scope}))


def person(tenant: Tenant, role: Role) -> Principal:
    return Principal.of_person(tenant, PersonId(tenant.id), role, None)


def nodes(data: Any) -> list[Any]:
    return [edge["node"] for edge in data["tenant"]["auditLog"]["edges"]]


async def test_pages_and_filters_and_nodes(
    asker: Asker, settings: Settings, database: Database, tenant: Tenant
) -> None:
    for _ in range(4):
        await make_key(database, settings, tenant)
    admin = key_of(tenant)
    first = await asker.ask(admin, LOG, first=2)
    page = first["tenant"]["auditLog"]
    assert (page["totalCount"], page["pageInfo"]["hasNextPage"]) == (5, True)
    rest = await asker.ask(admin, LOG, first=10, after=page["pageInfo"]["endCursor"])
    every = nodes(first) + nodes(rest)
    assert [node["sequence"] for node in every] == [5, 4, 3, 2, 1]
    assert [node["previousHash"] for node in every[:-1]] == [node["hash"] for node in every[1:]]
    assert (every[0]["action"], every[0]["actor"]) == ("key.create", "operator") and every[0]["diff"][
        "kind"
    ] == "secret"
    found = await asker.ask(admin, LOG, filter={"action": "tenant.", "actor": "operator", "subject": tenant.slug})
    assert [node["action"] for node in nodes(found)] == ["tenant.create"]
    between = await asker.ask(admin, LOG, filter={"from": every[3]["at"], "to": every[1]["at"]})
    assert [node["sequence"] for node in nodes(between)] == [3, 2]
    node = "query($id: ID!) { node(id: $id) { __typename ... on AuditEntry { sequence } } }"
    assert (await asker.ask(admin, node, id=every[1]["id"]))["node"] == {"__typename": "AuditEntry", "sequence": 4}
    other = await accounts.create_tenant(database, slug=f"other-of-{tenant.slug}", name="", tier=Tier.FREE)
    for stranger in (key_of(other), key_of(tenant, Scope.METRICS_READ), person(tenant, Role.EDITOR)):
        assert (await asker.ask(stranger, node, id=every[1]["id"]))["node"] is None
    result = await asker.door.schema.execute(LOG, {}, context_value=asker.context(person(tenant, Role.EDITOR)))
    assert result.errors is not None and "audit:read" in result.errors[0].message


@pytest.mark.parametrize("filter", [{"actor": "a\0"}, {"action": "x" * 2000}, {"subject": "\ud800"},
                                    {"from": "1999-01-01T00:00:00Z"}, {"to": "2026-01-01T00:00:00"}])  # fmt: skip
async def test_a_filter_that_the_database_could_not_compare_is_refused(
    asker: Asker, tenant: Tenant, filter: dict[str, str]
) -> None:
    result = await asker.door.schema.execute(LOG, {"filter": filter}, context_value=asker.context(key_of(tenant)))
    assert result.errors is not None and "filter." in result.errors[0].message


async def test_a_refused_mutation_is_in_the_trail_and_a_flood_of_them_is_summed_up(
    asker: Asker, database: Database, tenant: Tenant
) -> None:
    reader = key_of(tenant, Scope.METRICS_READ, "key_reader")
    for _ in range(ENTRIES_PER_MINUTE + 15):
        answer = await asker.ask(reader, DROP, input={"id": "x"})
        assert answer["dropDeadLetter"]["__typename"] == "PermissionDenied"
    wanted = AuditFilter(action="write.refused")
    entries = await list_entries(database, tenant.id, wanted, 100, None)
    # The bucket may have got one token back while the others were spent.
    assert ENTRIES_PER_MINUTE <= len(entries) <= ENTRIES_PER_MINUTE + 2
    assert {(entry.actor, entry.subject, entry.request_id) for entry in entries} == {
        ("key_reader", "dropDeadLetter", "request-1")
    }
    assert "dead_letters:write" in entries[0].diff
    # Another actor's refusals are not drowned by those.
    await asker.ask(person(tenant, Role.VIEWER), DROP, input={"id": "x"})
    assert (await list_entries(database, tenant.id, wanted, 1, None))[0].actor.startswith("person:")
    await asker.services.refused.close()
    (summed,) = await list_entries(database, tenant.id, AuditFilter(action="write.refused_more"), 10, None)
    assert (summed.actor, summed.diff) == (
        "key_reader", f'{{"count": {ENTRIES_PER_MINUTE + 15 - len(entries)}, "seconds": 60}}',
    )  # fmt: skip
    assert (await verify(database, tenant.id)).findings == []


async def real_key(settings: Settings, database: Database, tenant: Tenant) -> Principal:
    """One that there is: what it is to write is asked of the database."""
    key, _ = await make_key(database, settings, tenant)
    return Principal.of_key(tenant, key.id, key.scopes)


async def test_an_export_is_a_job_that_its_tenant_alone_sees(
    asker: Asker, settings: Settings, database: Database, tenant: Tenant
) -> None:
    admin = await real_key(settings, database, tenant)
    asked = await asker.ask(admin, EXPORT, input={"format": "CSV", "filter": {"action": "key."}})
    job = asked["exportAuditLog"]["job"]
    assert (job["kind"], job["state"], job["askedBy"], job["file"]) == (
        "EXPORT_AUDIT_LOG",
        "WAITING",
        admin.actor,
        None,
    )
    again = await asker.ask(admin, EXPORT, input={})
    assert again["exportAuditLog"]["__typename"] == "Conflict"
    jobs = "{ tenant { jobs { totalCount edges { node { id doing error } } } } }"
    assert (await asker.ask(admin, jobs))["tenant"]["jobs"]["edges"][0]["node"]["id"] == job["id"]
    link = """mutation($input: CreateExportLinkInput!) { createExportLink(input: $input) { __typename
      ... on Error { message path } } }"""
    answer = (await asker.ask(admin, link, input={"jobId": job["id"]}))["createExportLink"]
    assert (answer["__typename"], answer["path"]) == ("Conflict", ["input", "id"]) and "no file" in answer["message"]
    other = await accounts.create_tenant(database, slug=f"o-{tenant.slug}", name="", tier=Tier.FREE)
    stranger = await real_key(settings, database, other)
    cancel = """mutation($input: CancelJobInput!) { cancelJob(input: $input) { __typename
      ... on Error { message path } ... on CancelJobPayload { job { state } } } }"""
    for mutation, field, value in (
        (link, "createExportLink", {"jobId": job["id"]}),
        (cancel, "cancelJob", {"id": job["id"]}),
    ):
        theirs = (await asker.ask(stranger, mutation, input=value))[field]
        none = (await asker.ask(stranger, mutation, input=dict.fromkeys(value, "nonsense")))[field]
        assert theirs == none and theirs["__typename"] == "NotFound"
    assert (await asker.ask(stranger, jobs))["tenant"]["jobs"] == {"totalCount": 0, "edges": []}
    assert (await asker.ask(admin, cancel, input={"id": job["id"]}))["cancelJob"]["job"]["state"] == "CANCELLED"


async def test_only_an_owner_ends_its_tenant_and_may_then_do_nothing_but_take_it_back(
    asker: Asker, database: Database, tenant: Tenant
) -> None:
    owner = await add_member(database, tenant, Role.OWNER)
    for caller in (key_of(tenant), person(tenant, Role.ADMIN), person(tenant, Role.VIEWER)):
        answer = await asker.ask(caller, DELETE, input={"slug": tenant.slug})
        assert answer["deleteTenant"]["__typename"] == "PermissionDenied"
    wrong = (await asker.ask(owner, DELETE, input={"slug": tenant.slug.upper()}))["deleteTenant"]
    assert (wrong["__typename"], wrong["path"]) == ("ValidationError", ["input", "slug"])
    asked = (await asker.ask(owner, DELETE, input={"slug": tenant.slug}))["deleteTenant"]
    assert asked["job"]["kind"] == "DELETE_TENANT" and asked["endsAt"] > tenant.created_at.isoformat()

    ending = await accounts.find_tenant(database, tenant.slug)
    assert ending.ends_at is not None
    assert owner.person_id is not None
    last = Principal.of_person(ending, owner.person_id, Role.OWNER, None)
    last.refuse_when_ending()
    shown = await asker.ask(last, "{ viewer { tenant { slug endsAt } } }")
    assert shown["viewer"]["tenant"]["endsAt"] == ending.ends_at.isoformat()
    denied = await asker.ask(last, DROP, input={"id": "x"})
    assert denied["dropDeadLetter"]["__typename"] == "PermissionDenied"
    for caller in (key_of(ending), person(ending, Role.ADMIN)):
        with pytest.raises(Exception, match="is to be deleted") as refusal:
            caller.refuse_when_ending()
        assert refusal.value.code == "tenant_ending"  # type: ignore[attr-defined]
    restored = await asker.ask(last, RESTORE, input={"slug": tenant.slug})
    assert restored["restoreTenant"] == {"__typename": "RestoreTenantPayload", "slug": tenant.slug}
    assert (await accounts.find_tenant(database, tenant.slug)).ends_at is None


async def test_a_page_of_entries_is_one_query_and_any_number_of_nodes_too(
    asker: Asker, settings: Settings, database: Database, tenant: Tenant
) -> None:
    for _ in range(3):
        await make_key(database, settings, tenant)
    page = await asker.ask(key_of(tenant), "{ tenant { auditLog { edges { node { id diff hash } } } } }")
    ids = [node["id"] for node in nodes(page)]
    found = await asker.ask(key_of(tenant), "query($ids: [ID!]!) { nodes(ids: $ids) { id } }", ids=ids)
    assert [node["id"] for node in found["nodes"]] == ids
