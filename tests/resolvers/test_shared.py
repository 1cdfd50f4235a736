"""What the bearer of a share link can make of it: less than is shared, never more, whatever is asked."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest

from core.database import Database
from core.errors import TooMany
from core.eventlog import Offset, Partition
from core.permissions import SHARE_LINK_PERMISSIONS, Role
from core.settings import Settings
from core.shares import ShareGrant, find_grant, rows_budget
from core.tenancy import Principal, Tenant
from pipeline.prepared import prepare
from pipeline.store import Store
from resolvers import shared
from resolvers.global_ids import global_id
from schema.build import schema
from tests.acceptance.test_role_matrix import OPERATIONS
from tests.core.members import add_member
from tests.pipeline.builders import batch_of, enriched
from tests.resolvers.test_questions import CREATE, SHARE, UPDATE
from web.auth.callers import Caller
from web.graphql_door import GraphQLDoor
from web.ingest.rest import IngestDoor
from web.services import open_services

SHARED = """query($r: TimeRange, $f: [Filter!]) { sharedQuestion { name metric groupBy ranges filterDimensions
  series(range: $r, filters: $f) { columns from to } breakdown(range: $r, filters: $f) { total
  rows { value labels { value } } } } }"""
DE = {"dimension": "country", "values": ["DE"]}


@dataclass(slots=True)
class Bearer:
    """Somebody with a link, and the one who made it."""

    door: GraphQLDoor
    maker: Principal
    question_id: str
    grant: ShareGrant
    database: Database

    async def ask(self, text: str, **variables: Any) -> Any:
        caller = Caller(self.grant.principal(), "bucket", share=self.grant)
        return await schema.execute(text, variables, context_value=self.door.context(caller, None, "request-1"))

    async def total(self, **variables: Any) -> float:
        result = await self.ask(SHARED, **variables)
        assert result.errors is None, result.errors
        shared = result.data["sharedQuestion"]
        assert shared["breakdown"]["total"] == sum(row["value"] for row in shared["breakdown"]["rows"])
        return float(shared["breakdown"]["total"])

    async def refusal(self, text: str, **variables: Any) -> str:
        result = await self.ask(text, **variables)
        assert result.errors, result.data
        assert not (result.data or {}).get("sharedQuestion")
        return str(result.errors[0].original_error.code)  # type: ignore[union-attr]

    async def as_maker(self, text: str, **input: Any) -> dict[str, Any]:
        context = self.door.context(Caller(self.maker, "bucket"), None, "request-1")
        result = await schema.execute(text, {"input": input}, context_value=context)
        assert result.errors is None, result.errors
        answer: dict[str, Any] = next(iter(result.data.values()))  # type: ignore[union-attr]
        return answer

    async def share(self, query: dict[str, Any], **terms: Any) -> Bearer:
        """Another question and a link to it."""
        made = await self.as_maker(CREATE, name="Shared", query=query, access="PRIVATE")
        return await self.link(made["question"]["id"], **terms)

    async def link(self, question_id: str, **terms: Any) -> Bearer:
        token = (await self.as_maker(SHARE, objectId=question_id, **terms))["token"]
        grant = await find_grant(self.database, token)
        assert grant is not None
        return dataclasses.replace(self, question_id=question_id, grant=grant)


QUERY = {"metric": "events", "range": {"last": "24h"}, "groupBy": ["browser"]}


@pytest.fixture
async def bearer(settings: Settings, database: Database, tenant: Tenant) -> AsyncIterator[Bearer]:
    """Of a link to 6 events of Germany, 4 of Firefox and 2 of Chrome, out of 10 of the tenant."""
    events = [enriched(country="DE", browser="Firefox", os="Linux") for _ in range(4)]
    events += [enriched(country="DE", browser="Chrome", os="Windows") for _ in range(2)]
    events += [enriched(country="FR", browser="Firefox") for _ in range(4)]
    batch = batch_of(tenant.id, *events)
    store = Store(database, f"shared-{tenant.slug}")
    await store.ensure_partitions([batch])
    await store.transact(Partition("t"), await prepare([batch]), Offset("1-0"), lambda counted: (Offset("2-0"), b""))
    maker = await add_member(database, tenant)
    async with open_services(settings) as services:
        door = GraphQLDoor(services, IngestDoor(services).ingest)
        first = Bearer(door, maker, "", None, database)  # type: ignore[arg-type]
        yield await first.share(QUERY, lockedFilters=[DE])


async def test_the_bearer_sees_the_question_with_its_locked_conditions(bearer: Bearer) -> None:
    result = await bearer.ask(SHARED)
    assert result.errors is None
    shared = result.data["sharedQuestion"]
    assert (shared["name"], shared["metric"], shared["filterDimensions"]) == ("Shared", "events", ["browser"])
    assert [(row["labels"][0]["value"], row["value"]) for row in shared["breakdown"]["rows"]] == [
        ("Firefox", 4), ("Chrome", 2),
    ]  # fmt: skip
    assert sum(line["total"] for line in _columns(shared)["series"]) == 6
    same = await bearer.ask("{ sharedObject { __typename name ... on SharedQuestion { series { columns } } } }")
    assert same.data["sharedObject"]["__typename"] == "SharedQuestion"


def _columns(shared: dict[str, Any]) -> Any:
    return msgspec.json.decode(msgspec.json.encode(shared["series"]["columns"]))


async def test_it_can_be_narrowed(bearer: Bearer) -> None:
    assert await bearer.total(f=[{"dimension": "browser", "values": ["Chrome"]}]) == 2
    assert await bearer.total(f=[{"dimension": "browser", "op": "NOT_IN", "values": ["Chrome"]}]) == 4
    assert await bearer.total(r={"last": "2h"}) == 6


@pytest.mark.parametrize(
    "variables",
    [
        # Other conditions on what is locked, or on what it is not grouped by: values could be tried one by one.
        {"f": [{"dimension": "country", "values": ["FR"]}]},
        {"f": [{"dimension": "country", "op": "NE", "values": ["DE"]}]},
        {"f": [{"dimension": "os", "values": ["Linux"]}]},
        {"f": [{"dimension": "browser", "values": ["Firefox"]}, {"dimension": "os", "values": ["Linux"]}]},
        # Longer, earlier, later.
        {"r": {"last": "25h"}}, {"r": {"last": "4w"}},
        {"r": {"from": "2020-01-01T00:00:00Z", "to": "2020-01-02T00:00:00Z"}},
        {"r": {"from": "2020-01-01T00:00:00Z", "to": "2199-01-02T00:00:00Z"}},
    ],
)  # fmt: skip
async def test_it_cannot_be_widened_by_its_arguments(bearer: Bearer, variables: dict[str, Any]) -> None:
    assert await bearer.refusal(SHARED, **variables) == "not_shared"
    aliased = """query($r: TimeRange, $f: [Filter!]) { sharedQuestion { ...x } }
      fragment x on SharedQuestion { a: series { columns } b: series(range: $r, filters: $f) { columns } ...y }
      fragment y on SharedQuestion { c: breakdown(range: $r, filters: $f) { total } }"""
    assert await bearer.refusal(aliased, **variables) == "not_shared"


@pytest.mark.parametrize(
    "selection",
    [
        'series(query: {metric: "visitors", range: {last: "1h"}}) { columns }',
        'series(metric: "visitors") { columns }',
        'series(groupBy: ["country"]) { columns }', "series(interval: MINUTE) { columns }",
        'series(timezone: "Asia/Tokyo") { columns }', "series(limit: 100) { columns }",
        "series(includeBots: true) { columns }", "query", "owner", "access { level }", "lockedFilters { values }", "id",
        "tags", "createdBy", "shareLinks { id }",
    ],
)  # fmt: skip
async def test_there_is_nothing_else_to_ask_for(bearer: Bearer, selection: str) -> None:
    result = await bearer.ask(f"{{ sharedQuestion {{ {selection} }} }}")
    assert result.errors and result.data is None


async def test_no_other_field_of_the_schema_is_given_to_a_link(bearer: Bearer, tenant: Tenant) -> None:
    """Every guarded field of the roots, the tenant and the viewer, as the schema has them."""
    secrets = [tenant.slug, str(tenant.id), str(bearer.maker.person_id)]
    refused = given = 0
    for operation in OPERATIONS:
        result = await bearer.ask(operation.text, **operation.variables)
        codes = {getattr(error.original_error, "code", None) for error in result.errors or ()}
        answer = next(iter((result.data or {}).values()), None)
        is_refused = codes == {"permission_denied"} or (
            isinstance(answer, dict) and answer.get("__typename") == "PermissionDenied"
        )
        if operation.permission in SHARE_LINK_PERMISSIONS:
            given += 1
        else:
            refused += 1
            assert is_refused, (operation.name, result)
        assert not any(secret in str(result) for secret in secrets), operation.name
    assert refused >= 20 and given >= 2


async def test_nodes_are_not_there_for_a_link_not_even_its_own(bearer: Bearer, tenant: Tenant) -> None:
    ids = [bearer.question_id, global_id("Tenant", str(tenant.id)), global_id("Metric", "events"),
           global_id("ShareLink", str(bearer.grant.link_id))]  # fmt: skip
    result = await bearer.ask("query($ids: [ID!]!) { nodes(ids: $ids) { id } }", ids=ids)
    assert result.data == {"nodes": [None] * len(ids)}
    for id in ids:
        assert (await bearer.ask("query($id: ID!) { node(id: $id) { id } }", id=id)).data == {"node": None}


async def test_a_link_is_told_who_it_is_and_not_whose(bearer: Bearer) -> None:
    result = await bearer.ask("{ viewer { actor kind role permissions scopes } }")
    assert result.data["viewer"] == {
        "actor": f"share_link:{bearer.grant.link_id}", "kind": "SHARE_LINK", "role": None,
        "permissions": ["identity:read", "shared:read"], "scopes": [],
    }  # fmt: skip
    assert await bearer.refusal("{ viewer { tenant { slug } } }") == "permission_denied"


async def test_people_and_keys_have_no_shared_object(bearer: Bearer, database: Database, tenant: Tenant) -> None:
    owner = await add_member(database, tenant, Role.OWNER)
    context = bearer.door.context(Caller(owner, "bucket"), None, "request-1")
    result = await schema.execute("{ sharedObject { name } }", context_value=context)
    assert result.errors and result.errors[0].original_error.code == "permission_denied"  # type: ignore[union-attr]


async def test_ranges_and_dimensions_that_the_link_allows_are_given_and_no_others(bearer: Bearer) -> None:
    wider = await bearer.link(bearer.question_id, lockedFilters=[DE], ranges=["7d"], filterDimensions=["os"])
    assert await wider.total(r={"last": "7d"}) == 6
    assert await wider.total(f=[{"dimension": "os", "values": ["Linux"]}]) == 4
    assert await wider.refusal(SHARED, r={"last": "8d"}) == "not_shared"
    assert await wider.refusal(SHARED, f=[{"dimension": "browser", "values": ["Chrome"]}]) == "not_shared"


async def test_an_edit_of_the_question_changes_what_is_shown_and_locked_conditions_stay(bearer: Bearer) -> None:
    await bearer.as_maker(UPDATE, id=bearer.question_id, revision=1, query={**QUERY, "groupBy": ["os"]})
    assert await bearer.total() == 6
    assert await bearer.refusal(SHARED, f=[{"dimension": "browser", "values": ["Chrome"]}]) == "not_shared"
    # Conditions that the question cannot bear any more show nothing rather than everything.
    edited = {"metric": "ingest_accepted", "range": {"last": "24h"}}
    await bearer.as_maker(UPDATE, id=bearer.question_id, revision=2, query=edited)
    assert await bearer.refusal(SHARED) == "unknown_dimension"


async def test_rows_that_were_read_are_taken_from_the_links_budget_until_it_is_spent(bearer: Bearer) -> None:
    poor = await bearer.share({**QUERY, "filters": [{"dimension": "os", "values": ["Linux"]}]}, rowsPerHour=1000)
    # Raw events, as two dimensions are used: four rows for each question; asked again, it is kept and costs nothing.
    own = "{ sharedQuestion { series { rowsRead } } }"
    read = [(await poor.ask(asked)).data["sharedQuestion"]["series"]["rowsRead"] for asked in (own, own)]
    assert read == [4, 0]
    budgets = poor.door.services.budgets
    await budgets.spend(rows_budget(poor.grant), 996)
    result = await poor.ask(own)
    assert isinstance(result.errors[0].original_error, TooMany)
    assert result.errors[0].original_error.retry_after > 1
    # Another link to the same question has a budget of its own.
    assert (await (await poor.link(poor.question_id)).ask(own)).errors is None


async def test_a_link_reads_by_its_one_object_only_whatever_its_grant_says(
    bearer: Bearer, database: Database, tenant: Tenant
) -> None:
    """As if a resolver were given another object's id: the database shows it nothing."""
    other = await bearer.share(QUERY)
    principal = bearer.grant.principal()

    class Forged:
        """A grant whose principal is another link's."""

        def __getattr__(self, name: str) -> Any:
            return (lambda: principal) if name == "principal" else getattr(other.grant, name)

    assert await dataclasses.replace(bearer, grant=Forged()).refusal(SHARED) == "not_found"  # type: ignore[arg-type]


async def test_a_stream_is_narrowed_likewise_and_an_edit_begins_it_anew(
    bearer: Bearer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared, "RELOAD_SECONDS", 0.0)
    text = "subscription($f: [Filter!], $r: TimeRange) { sharedSeries(filters: $f, range: $r) { kind columns } }"

    async def listen(**variables: Any) -> Any:
        caller = Caller(bearer.grant.principal(), "bucket", share=bearer.grant)
        context = dataclasses.replace(
            bearer.door.context(caller, None, "request-1"),
            backends=dataclasses.replace(bearer.door._backends, heartbeat_seconds=0.2),
        )
        return await schema.subscribe(text, variables, context_value=context)

    async with asyncio.timeout(30):
        frames = await listen(f=[{"dimension": "browser", "values": ["Chrome"]}])
        first = await anext(frames)
        assert first.errors is None, first.errors[0].original_error
        assert total_of(first) == 2
        await bearer.as_maker(UPDATE, id=bearer.question_id, revision=1, query={**QUERY, "groupBy": ["browser", "os"]})
        kinds = []
        async for frame in frames:
            kinds.append(frame.data["sharedSeries"]["kind"])
            if kinds[-1] == "SNAPSHOT":
                break
        assert kinds[-2:] == ["GAP", "SNAPSHOT"] and total_of(frame) == 2
        await frames.aclose()
        for variables in ({"f": [{"dimension": "country", "values": ["FR"]}]}, {"r": {"last": "25h"}}):
            refused = await anext(await listen(**variables))
            assert refused.errors[0].original_error.code == "not_shared"
        await bearer.door.services.budgets.owe(rows_budget(bearer.grant), 2_000_000)
        spent = await anext(await listen())
        assert spent.errors[0].original_error.code == "budget_spent"


def total_of(frame: Any) -> float:
    columns = msgspec.json.decode(msgspec.json.encode(frame.data["sharedSeries"]["columns"]))
    return float(sum(line["total"] for line in columns["series"]))
