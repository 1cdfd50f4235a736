"""The whole matrix of roles and fields, generated from the schema and run: a caller gets what its role may have and a
refusal for all else; and nobody of another tenant gets, changes or learns anything.

A new field is walked without a word here; a new kind of node needs a line in `MAKERS`, or the test fails.
"""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import pytest
from graphql import (
    GraphQLArgument,
    GraphQLEnumType,
    GraphQLInputObjectType,
    GraphQLInputType,
    GraphQLList,
    GraphQLNonNull,
    GraphQLObjectType,
    GraphQLUnionType,
    get_named_type,
    is_leaf_type,
)

from core.accounts import create_tenant
from core.database import Database, as_owner
from core.permissions import ROLE_PERMISSIONS, SCOPE_PERMISSIONS, Permission, Role, Scope
from core.settings import Settings
from core.tenancy import KeyId, PersonId, Principal, Tenant, Tier
from resolvers.global_ids import global_id, parse_global_id
from resolvers.nodes import KINDS
from schema.build import schema
from schema.guarded import PERMISSION
from tests.acceptance.makers import MAKERS
from tests.conftest import make_key, make_person
from web.auth.callers import Caller
from web.graphql_door import GraphQLDoor
from web.ingest.rest import IngestDoor
from web.services import open_services

pytestmark = pytest.mark.slow
CORE = schema._schema
SAMPLES: dict[str, Any] = {
    "String": "x", "ID": "", "Int": 1, "Float": 1.0, "Boolean": False, "DateTime": "2026-01-31T00:00:00Z", "JSON": {},
    "Date": "2026-01-31",
}  # fmt: skip
GUARDED = re.compile(r"This needs [a-z_]+:[a-z]+: ")
NO_ID = global_id("Nothing", "0")
OTHERS = str.maketrans("0123456789abcdef", "1234567890bcdefa")
_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Operation:
    """One guarded field as a document that asks for it, with variables for its arguments."""

    name: str
    permission: Permission
    text: str
    variables: dict[str, Any]
    is_mutation: bool
    ids: tuple[tuple[str, ...], ...]


def sample(kind: GraphQLInputType) -> Any:
    """A value that the type takes; optional fields are left out, but for ids."""
    if isinstance(kind, GraphQLNonNull):
        return sample(kind.of_type)
    if isinstance(kind, GraphQLList):
        return []
    if isinstance(kind, GraphQLEnumType):
        return next(iter(kind.values))
    if isinstance(kind, GraphQLInputObjectType):
        return {
            name: sample(field.type)
            for name, field in kind.fields.items()
            if isinstance(field.type, GraphQLNonNull) or _is_id(field.type)
        }
    return NO_ID if kind.name == "ID" else SAMPLES.get(kind.name, "x")


def _is_id(kind: GraphQLInputType) -> bool:
    return getattr(kind.of_type if isinstance(kind, GraphQLNonNull) else kind, "name", "") == "ID"


def id_places(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Where a sample holds an id."""
    if value == NO_ID:
        yield path
    elif isinstance(value, dict):
        for name, inner in value.items():
            yield from id_places(inner, (*path, name))


def with_id(value: Any, place: tuple[str, ...], id: str) -> Any:
    """The same sample with another id at one place."""
    if not place:
        return id
    return value | {place[0]: with_id(value[place[0]], place[1:], id)}


def selection(kind: Any, depth: int = 2) -> str:
    """A selection of leaves that need no arguments; of a union, the type that came and what an error says."""
    while isinstance(kind, GraphQLNonNull | GraphQLList):
        kind = kind.of_type
    if is_leaf_type(kind):
        return ""
    if isinstance(kind, GraphQLUnionType):
        return "{ __typename ... on Error { message code path } }"
    # Not by `selection`: a type may lead back to itself.
    leaves = [
        name for name, field in kind.fields.items() if not field.args and is_leaf_type(get_named_type(field.type))
    ]
    return "{ __typename " + " ".join(leaves if isinstance(kind, GraphQLObjectType) and depth else []) + " }"


def operations_of(root: GraphQLObjectType, before: str = "", after: str = "", *, kind: str) -> Iterator[Operation]:
    """Every field of a type that declares a permission of its own."""
    definition = schema.schema_converter.type_map[root.name].definition
    declared = {schema.config.name_converter.from_field(field): field for field in definition.fields}  # type: ignore[union-attr]
    for name, field in root.fields.items():
        permission = declared[name].metadata.get(PERMISSION)
        if permission is None or name in ("tenant", "viewer", "node", "nodes"):
            continue
        given: dict[str, GraphQLArgument] = {
            arg: found for arg, found in field.args.items() if isinstance(found.type, GraphQLNonNull)
        }
        heads = ", ".join(f"${arg}: {found.type}" for arg, found in given.items())
        call = "(" + ", ".join(f"{arg}: ${arg}" for arg in given) + ")" if given else ""
        text = f"{kind} {f'({heads})' if heads else ''} {{ {before} {name}{call} {selection(field.type)} {after} }}"
        variables = {arg: sample(found.type) for arg, found in given.items()}
        yield Operation(
            f"{root.name}.{name}", permission, text, variables, kind == "mutation", tuple(id_places(variables))
        )


def all_operations() -> list[Operation]:
    """Of the roots, and of the two objects that everything else hangs from."""
    assert CORE.query_type and CORE.mutation_type
    tenant, viewer = CORE.type_map["Tenant"], CORE.type_map["Viewer"]
    assert isinstance(tenant, GraphQLObjectType) and isinstance(viewer, GraphQLObjectType)
    return [
        *operations_of(CORE.query_type, kind="query"),
        *operations_of(tenant, "tenant {", "}", kind="query"),
        *operations_of(viewer, "viewer {", "}", kind="query"),
        *operations_of(CORE.mutation_type, kind="mutation"),
    ]


OPERATIONS = all_operations()


def principals(tenant: Tenant, person_id: PersonId) -> dict[str, Principal]:
    """One of each kind: every role, every scope."""
    found = {role.value: Principal.of_person(tenant, person_id, role, None) for role in Role}
    return found | {
        f"key {scope.value}": Principal.of_key(tenant, KeyId("key_walk"), frozenset({scope})) for scope in Scope
    }


def like(id: str) -> str:
    """An id of the same form that names nothing: another end of its local part."""
    kind, local = parse_global_id(id)
    return global_id(kind, local[:-6] + local[-6:].translate(OTHERS))


@dataclass(slots=True)
class Walker:
    """Executes operations as whoever it is told."""

    door: GraphQLDoor
    database: Database
    settings: Settings

    async def ask(self, principal: Principal, text: str, variables: dict[str, Any]) -> Any:
        context = self.door.context(Caller(principal, principal.actor), None, f"request-{next(_numbers)}")
        return await schema.execute(text, variables, context_value=context)

    async def outcome(self, principal: Principal, operation: Operation, variables: dict[str, Any]) -> Any:
        """What came: 'refused' for want of permission, else the whole answer."""
        result = await self.ask(principal, operation.text, variables)
        for error in result.errors or ():
            code = getattr(error.original_error, "code", None)
            assert code is not None, f"{operation.name}: {error.original_error!r}"
            if _is_of_guard(str(error.message)):
                return "refused"
        if result.errors:
            return [(error.original_error.code, str(error.message)) for error in result.errors]
        answer = next(iter(result.data.values()))
        if operation.is_mutation and _is_of_guard(str(answer.get("message"))):
            return "refused"
        return result.data

    async def tenant(self) -> Tenant:
        return await create_tenant(self.database, slug=f"walk-{next(_numbers)}-{uuid4().hex[:6]}", name="Walk",
                                   tier=Tier.SELF_HOSTED)  # fmt: skip

    async def callers_of(self, tenant: Tenant) -> dict[str, Principal]:
        """Real people and real keys of a tenant, since writes ask anew who is still one."""
        found = {}
        for role in Role:
            person = await make_person(self.database, tenant, role=role)
            found[role.value] = Principal.of_person(tenant, person.id, role, None)
        for scope in Scope:
            key, _ = await make_key(self.database, self.settings, tenant, scopes=frozenset({scope}))
            found[f"key {scope.value}"] = Principal.of_key(tenant, key.id, key.scopes)
        return found

    async def rows_of(self, tenant: Tenant) -> dict[str, list[str]]:
        """Everything the database holds of a tenant, as text, table by table."""
        found = {}
        async with as_owner(self.superuser) as connection:
            tables = await connection.fetch(
                "SELECT c.relname FROM pg_class c "
                "JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'tenant_id' "
                "WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition"
            )
            for (name,) in tables:
                rows = await connection.fetch(f"SELECT t::text FROM {name} t WHERE tenant_id = $1", tenant.id)
                found[name] = sorted(row[0] for row in rows)
        return found

    superuser: str = ""


@pytest.fixture
async def walker(settings: Settings, servers_of_store: Any, database: Database) -> AsyncIterator[Walker]:
    async with open_services(settings) as services:
        services = dataclasses.replace(services, database=database)
        walker = Walker(GraphQLDoor(services, IngestDoor(services).ingest), database, settings)
        name = urlsplit(settings.owner_url).path.lstrip("/")
        walker.superuser = str(servers_of_store.folder.database_url("superuser", name))
        yield walker


async def test_each_role_and_scope_gets_what_it_may_and_a_refusal_for_all_else(walker: Walker) -> None:
    wrong, asked = [], 0
    # A tenant a caller: what one may do is not to be what another finds.
    for name in principals(await walker.tenant(), PersonId(uuid4())):
        for operation in OPERATIONS:
            tenant = await walker.tenant()
            principal = principals(tenant, PersonId(uuid4()))[name]
            got = await walker.outcome(principal, operation, operation.variables)
            asked += 1
            if (got == "refused") == may(principal, operation):
                wrong.append((name, operation.name, got))
    assert wrong == []
    assert asked == len(OPERATIONS) * (len(Role) + len(Scope))


def _is_of_guard(message: str) -> bool:
    """Whether the permission of a field was missing; a resolver may have reasons of its own."""
    return GUARDED.match(message) is not None


def may(principal: Principal, operation: Operation) -> bool:
    """A tenant's fields need what the tenant itself needs as well."""
    is_of_tenant = operation.name.startswith("Tenant.")
    return principal.may(operation.permission) and (not is_of_tenant or principal.may(Permission.TENANT_READ))


async def test_every_kind_of_node_has_a_maker_here() -> None:
    assert set(MAKERS) == set(KINDS)


async def test_no_role_of_another_tenant_reads_a_node_or_changes_anything_by_its_id(walker: Walker) -> None:
    ours, theirs = await walker.tenant(), await walker.tenant()
    person = await make_person(walker.database, ours, role=Role.OWNER)
    owner = Principal.of_person(ours, person.id, Role.OWNER, None)
    ids = {kind: await make(walker.database, walker.settings, owner) for kind, make in MAKERS.items()}
    node = "query($id: ID!, $ids: [ID!]!) { node(id: $id) { __typename id } nodes(ids: $ids) { id } }"
    for kind, id in ids.items():
        data = (await walker.ask(owner, node, {"id": id, "ids": [id]})).data
        assert data["node"] == {"__typename": kind, "id": id}, f"the walk would prove nothing of {kind}"
    before = await walker.rows_of(ours)
    leaks, asked = [], 0
    callers = await walker.callers_of(theirs)
    for name, principal in callers.items():
        for kind, id in ids.items():
            if kind == "Metric":
                # Built in: the same for every tenant.
                continue
            answer = await walker.ask(principal, node, {"id": id, "ids": [id]})
            asked += 1
            if answer.errors or answer.data != {"node": None, "nodes": [None]}:
                leaks.append((name, kind, answer))
    for operation, place, (kind, id) in itertools.product(OPERATIONS, range(3), ids.items()):
        if place >= len(operation.ids) or kind == "Metric":
            continue
        missing = like(id)
        for name, principal in callers.items():
            path = operation.ids[place]
            got = await walker.outcome(principal, operation, with_id(operation.variables, path, id))
            told = await walker.outcome(principal, operation, with_id(operation.variables, path, missing))
            asked += 2
            if str(got).replace(id, "ID") != str(told).replace(missing, "ID"):
                leaks.append((name, operation.name, (got, told)))
    assert leaks == []
    assert asked > 100
    assert await walker.rows_of(ours) == before


def test_the_matrix_is_of_every_role_and_scope() -> None:
    assert set(ROLE_PERMISSIONS) == set(Role) and set(SCOPE_PERMISSIONS) == set(Scope)
    assert len(OPERATIONS) >= 8
