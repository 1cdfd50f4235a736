"""Runs the examples of `docs/api/examples/` as the caller that each of them names, and counts their SQL statements."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from core import accounts
from core.database import Database, Session, as_owner
from core.permissions import Role, Scope
from core.queries import Query
from core.sessions import open_session
from core.settings import Settings
from core.tenancy import Principal, Tenant, Tier
from schema.examples import Example, answer_named, object_named
from schema.guarded import REFUSALS
from tests.acceptance.makers import MAKERS
from tests.conftest import make_key, make_person
from web.auth.callers import Caller
from web.auth.keys import KnownKey
from web.graphql_door import GraphQLDoor
from web.graphql_operation import prepare
from web.graphql_request import GraphQLRequest

REFUSAL_NAMES = {refusal.__strawberry_definition__.name for refusal in REFUSALS}  # type: ignore[attr-defined]


class CountingDatabase(Database):
    """Counts the transactions that are opened, by whichever door, and the statements within them."""

    transactions = 0
    statements = 0

    @asynccontextmanager
    async def _session(self, *args: Any, **options: Any) -> AsyncIterator[Session]:
        self.transactions += 1
        async with super()._session(*args, **options) as session:
            yield _CountingSession(session, self)

    def begin(self) -> None:
        self.transactions = self.statements = 0


class _CountingSession(Session):
    def __init__(self, session: Session, database: CountingDatabase) -> None:
        super().__init__(session._connection, session._seconds)
        self._database = database

    async def fetch(self, query: Query, *args: object) -> Any:
        self._database.statements += 1
        return await super().fetch(query, *args)

    async def fetchrow(self, query: Query, *args: object) -> Any:
        self._database.statements += 1
        return await super().fetchrow(query, *args)

    async def execute(self, query: Query, *args: object) -> str:
        self._database.statements += 1
        return await super().execute(query, *args)


class Runner:
    """Runs examples in one tenant, one after another."""

    def __init__(self, door: GraphQLDoor, examples: dict[str, Example], callers: dict[str, Caller]) -> None:
        self._door = door
        self._examples = examples
        self._callers = callers

    @property
    def database(self) -> CountingDatabase:
        database = self._door.services.database
        assert isinstance(database, CountingDatabase)
        return database

    async def run(self, name: str) -> Any:
        """An example's data; for a subscription the first that comes. `database.statements` says what it took."""
        example = self._examples[name]
        asked = GraphQLRequest(example.document, await self._given(example.variables))
        caller = self._callers.get(example.caller) or await self._bearer_of_link()
        self.database.begin()
        operation = await prepare(self._door, caller, asked, None, "example-request")
        results = operation.results()
        payload = await anext(results)
        await results.aclose()
        assert "errors" not in payload, payload
        refused = [found for found in payload["data"].values() if isinstance(found, dict)]
        assert not [r for r in refused if r.get("__typename") in REFUSAL_NAMES], payload
        return payload["data"]

    async def _bearer_of_link(self) -> Caller:
        """Whoever has the token of a share link that an example makes."""
        made = await self.run("mutations/createShareLink")
        return await self._door.identify(f"Bearer {made['createShareLink']['token']}", "127.0.0.1")

    async def _given(self, value: Any) -> Any:
        """Variables with what other examples answer put in."""
        if isinstance(value, dict):
            return {key: await self._given(inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [await self._given(inner) for inner in value]
        if not isinstance(value, str):
            return value
        if kind := object_named(value):
            return await self._made(kind)
        named = answer_named(value)
        return at(await self.run(named[0]), named[1]) if named else value

    async def _made(self, kind: str) -> str:
        """The id of a new object of a kind; what no operation can make is made by its owner's hand."""
        owner, settings = self._callers["owner"].principal, self._door.services.settings
        if kind == "TenantThatEnds":
            return str((await self.run("mutations/deleteTenant")) and owner.tenant.slug)
        if kind != "JobWithFile":
            return await MAKERS[kind](self.database, settings, owner)
        id = await MAKERS["Job"](self.database, settings, owner)
        async with as_owner(settings.owner_url) as connection:
            await connection.execute("ALTER TABLE jobs NO FORCE ROW LEVEL SECURITY")
            await connection.execute("UPDATE jobs SET state = 'done', expires_at = now() + interval '1 day'")
            await connection.execute("ALTER TABLE jobs FORCE ROW LEVEL SECURITY")
        return id


def at(data: Any, path: list[str]) -> Any:
    """What stands at a path of an answer."""
    for step in path:
        data = data[int(step)] if isinstance(data, list) else data[step]
    return data


async def callers_of(database: Database, settings: Settings, tenant: Tenant) -> dict[str, Caller]:
    """A caller for each scope, with a key of it, and for each role: a person who has another tenant and has signed in
    twice."""
    other = await accounts.create_tenant(database, slug=f"{tenant.slug}-too", name="Another", tier=Tier.SELF_HOSTED)
    found: dict[str, Caller] = {}
    for scope in Scope:
        key, _ = await make_key(database, settings, tenant, scopes=frozenset({scope}), name=scope.value)
        found[scope.value] = KnownKey(key, (), 0).caller()
    for role in Role:
        name = role.value if role.value not in found else f"role {role.value}"
        person = await make_person(database, tenant, other, role=role)
        for agent in ("a telephone", "a browser"):
            session = await open_session(
                database, settings, person_id=person.id, tenant_id=tenant.id, method="password",
                address="203.0.113.7", agent=agent, locked=False,
            )  # fmt: skip
        principal = Principal.of_person(tenant, person.id, role, session.session_id)
        found[name] = Caller(principal, f"person:{person.id}")
    return found
