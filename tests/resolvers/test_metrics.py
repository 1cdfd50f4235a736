"""Metrics over GraphQL: defined, asked by everybody, edited with conflicts, archived, listed; bad input."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import msgspec
import pytest

from core.accounts import create_tenant
from core.database import Database
from core.permissions import Role
from core.settings import Settings
from core.tenancy import Principal, Tenant, Tier
from resolvers.global_ids import global_id
from schema.build import schema
from tests.core.members import add_member
from tests.resolvers.examples_run import CountingDatabase
from web.auth.callers import Caller
from web.graphql_door import GraphQLDoor
from web.ingest.rest import IngestDoor
from web.services import open_services

SELECTION = "types conditions { dimension op values }"
DEFINITION = (
    f"kind property formula rateSeconds dimensions combinations filter {{ {SELECTION} }} matching {{ {SELECTION} }}"
)
FIELDS = f"""id key version revision kind unit description dimensions isBuiltIn state progress owner createdBy
  archivedAt definition {{ {DEFINITION} }} versions {{ version createdBy definition {{ kind }} }}"""
ERROR = "... on Error { __typename code message path }"
CREATE = f"""mutation($input: CreateMetricInput!) {{ createMetric(input: $input) {{ __typename
  ... on CreateMetricPayload {{ metric {{ {FIELDS} }} }} ... on ValidationError {{ reason }}
  ... on Conflict {{ reason }} {ERROR} }} }}"""
UPDATE = f"""mutation($input: UpdateMetricInput!) {{ updateMetric(input: $input) {{ __typename
  ... on UpdateMetricPayload {{ metric {{ {FIELDS} }} }}
  ... on MetricConflict {{ changedFields theirs {{ {FIELDS} }} }} ... on ValidationError {{ reason }} {ERROR} }} }}"""
ARCHIVE = f"""mutation($input: ArchiveMetricInput!) {{ archiveMetric(input: $input) {{ __typename
  ... on ArchiveMetricPayload {{ metric {{ {FIELDS} }} }} ... on Conflict {{ reason }} {ERROR} }} }}"""
UNARCHIVE = f"""mutation($input: UnarchiveMetricInput!) {{ unarchiveMetric(input: $input) {{ __typename
  ... on UnarchiveMetricPayload {{ metric {{ {FIELDS} }} }} {ERROR} }} }}"""
LIST = """query($search: String, $first: Int, $after: String, $archived: Boolean! = false) { tenant {
  metrics(search: $search, first: $first, after: $after, archived: $archived) { totalCount
  pageInfo { hasNextPage endCursor } edges { node { id key isBuiltIn dimensions versions { version } } } } } }"""
ONE = f"query($key: String!) {{ tenant {{ metric(key: $key) {{ {FIELDS} }} }} }}"
NODE = f"query($id: ID!) {{ node(id: $id) {{ id ... on Metric {{ {FIELDS} }} }} }}"
SERIES = "query($q: MetricQuery!) { series(query: $q) { columns warnings { code } } }"
REVENUE = {
    "kind": "SUM", "property": "properties.amount", "dimensions": ["country", "properties.plan"],
    "combinations": [["properties.plan", "country"]],
    "filter": {"types": ["order"], "conditions": [{"dimension": "properties.state", "op": "EQ", "values": ["paid"]}]},
}  # fmt: skip
DAY = {"last": "24h"}


@dataclass(slots=True)
class Asker:
    """Executes operations as whoever it is told."""

    door: GraphQLDoor
    database: CountingDatabase

    async def ask(self, principal: Principal, text: str, **variables: Any) -> Any:
        self.database.begin()
        context = self.door.context(Caller(principal, principal.actor), None, "request-1")
        return await schema.execute(text, variables, context_value=context)

    async def data(self, principal: Principal, text: str, **variables: Any) -> Any:
        result = await self.ask(principal, text, **variables)
        assert result.errors is None, result.errors
        return result.data

    async def do(self, principal: Principal, text: str, **input: Any) -> dict[str, Any]:
        """What a mutation answers."""
        answer: dict[str, Any] = next(iter((await self.data(principal, text, input=input)).values()))
        return answer

    async def make(self, principal: Principal, key: str = "revenue", **changes: Any) -> dict[str, Any]:
        made = await self.do(principal, CREATE, **{"key": key, "definition": REVENUE, **changes})
        assert made["__typename"] == "CreateMetricPayload", made
        metric: dict[str, Any] = made["metric"]
        return metric


@pytest.fixture
async def asker(settings: Settings) -> AsyncIterator[Asker]:
    counting = CountingDatabase(settings)
    async with open_services(settings) as services:
        services = dataclasses.replace(services, database=counting)
        yield Asker(GraphQLDoor(services, IngestDoor(services).ingest), counting)
    await counting.close()


@pytest.fixture
async def maker(database: Database, tenant: Tenant) -> Principal:
    return await add_member(database, tenant)


async def test_a_metric_is_defined_and_shown_as_it_was_given(asker: Asker, maker: Principal) -> None:
    made = await asker.make(maker, unit="EUR", description="What orders are worth.")
    wanted = {
        "key": "revenue", "version": 1, "revision": 1, "kind": "SUM", "unit": "EUR", "isBuiltIn": False,
        "description": "What orders are worth.", "dimensions": ["country", "properties.plan"], "state": "BACKFILLING",
        "progress": 0.0, "owner": maker.actor, "createdBy": maker.actor, "archivedAt": None,
        "versions": [{"version": 1, "createdBy": maker.actor, "definition": {"kind": "SUM"}}],
    }  # fmt: skip
    assert {name: made[name] for name in wanted} == wanted
    assert made["definition"] == {
        **REVENUE, "combinations": [["country", "properties.plan"]], "formula": None, "rateSeconds": None,
        "matching": None,
    }  # fmt: skip
    assert (await asker.data(maker, NODE, id=made["id"]))["node"] == made
    assert (await asker.data(maker, ONE, key="revenue"))["tenant"]["metric"] == made


async def test_a_built_in_metric_is_shown_by_the_same_fields(asker: Asker, maker: Principal) -> None:
    found = (await asker.data(maker, ONE, key="requests"))["tenant"]["metric"]
    assert (found["isBuiltIn"], found["state"], found["progress"], found["definition"]) == (True, "READY", 1.0, None)
    assert found["versions"] == [] and found["revision"] is None and found["id"] == global_id("Metric", "requests")
    assert (await asker.data(maker, ONE, key="gone"))["tenant"]["metric"] is None
    for id in (global_id("Metric", "gone"), global_id("Metric", str(uuid4()))):
        assert (await asker.data(maker, NODE, id=id))["node"] is None


async def lines(asker: Asker, principal: Principal, **question: Any) -> list[dict[str, Any]]:
    """The lines of the formula `share` over a day."""
    data = await asker.data(principal, SERIES, q={"metric": "share", "range": DAY, **question})
    columns = data["series"]["columns"]
    found = msgspec.json.decode(msgspec.json.encode(columns))
    lines: list[dict[str, Any]] = found["series"]
    return lines


async def test_a_formula_is_asked_at_once_with_its_metrics_dimensions(asker: Asker, maker: Principal) -> None:
    definition = {"kind": "FORMULA", "formula": "pageviews / (events + 1) * 100"}
    made = await asker.make(maker, "share", definition=definition, unit="%")
    assert made["state"] == "READY" and "country" in made["dimensions"]
    assert made["definition"]["formula"] == definition["formula"] and made["definition"]["filter"] is None
    assert await lines(asker, maker, groupBy=["country"]) == []
    (line,) = await lines(asker, maker)
    assert line["total"] == 0.0 and set(line["values"]) == {0.0}


async def test_an_edit_makes_a_version_and_another_of_the_same_revision_gets_what_is_stored(
    asker: Asker, maker: Principal
) -> None:
    made = await asker.make(maker)
    edit = {"id": made["id"], "revision": 1, "definition": {"kind": "COUNT", "filter": {"types": ["order"]}}}
    for _ in range(2):
        metric = (await asker.do(maker, UPDATE, **edit))["metric"]
        assert (metric["version"], metric["revision"], metric["kind"], metric["unit"]) == (2, 2, "COUNT", "events")
    assert [version["definition"]["kind"] for version in metric["versions"]] == ["COUNT", "SUM"]
    conflict = await asker.do(maker, UPDATE, id=made["id"], revision=1, description="Mine.")
    assert conflict["__typename"] == "MetricConflict" and conflict["changedFields"] == ["description"]
    assert conflict["theirs"] == metric and conflict["path"] == ["input", "revision"]


async def test_archived_metrics_have_a_list_of_their_own_and_come_back(asker: Asker, maker: Principal) -> None:
    made = await asker.make(maker)
    archived = (await asker.do(maker, ARCHIVE, id=made["id"]))["metric"]
    assert archived["archivedAt"] is not None

    async def keys(**wanted: Any) -> list[str]:
        found = await asker.data(maker, LIST, **wanted)
        return [edge["node"]["key"] for edge in found["tenant"]["metrics"]["edges"]]

    assert "revenue" not in await keys() and await keys(archived=True) == ["revenue"]
    refused = await asker.ask(maker, SERIES, q={"metric": "revenue", "range": DAY})
    assert refused.errors[0].original_error.code == "unknown_metric"
    back = (await asker.do(maker, UNARCHIVE, id=made["id"]))["metric"]
    assert (back["version"], back["archivedAt"]) == (2, None) and "revenue" in await keys()


async def test_the_list_has_built_in_and_own_ones_by_key_in_pages_and_is_one_query_with_all_versions(
    asker: Asker, maker: Principal
) -> None:
    for key in ("a_first", "zz_last", "orders_paid"):
        await asker.make(maker, key, description="Of Shops." if key == "zz_last" else "")
    found: list[str] = []
    after = None
    while True:
        page = (await asker.data(maker, LIST, first=5, after=after))["tenant"]["metrics"]
        # One for the page, one for the versions of all of its metrics.
        assert asker.database.statements <= 2
        found += [edge["node"]["key"] for edge in page["edges"]]
        if not page["pageInfo"]["hasNextPage"]:
            break
        after = page["pageInfo"]["endCursor"]
    assert found == sorted(found) and len(set(found)) == len(found) == page["totalCount"]
    assert {"a_first", "zz_last", "orders_paid", "events"} <= set(found)
    searched = (await asker.data(maker, LIST, search="SHOPS"))["tenant"]["metrics"]
    assert [edge["node"]["key"] for edge in searched["edges"]] == ["zz_last"] and searched["totalCount"] == 1


async def test_viewers_read_and_do_not_define(
    asker: Asker, database: Database, tenant: Tenant, maker: Principal
) -> None:
    viewer = await add_member(database, tenant, Role.VIEWER)
    made = await asker.make(maker)
    assert (await asker.data(viewer, ONE, key="revenue"))["tenant"]["metric"] == made
    for text, input in (
        (CREATE, {"key": "x", "definition": {"kind": "COUNT"}}), (ARCHIVE, {"id": made["id"]}),
        (UPDATE, {"id": made["id"], "revision": 1, "unit": "x"}), (UNARCHIVE, {"id": made["id"]}),
    ):  # fmt: skip
        answer = await asker.do(viewer, text, **input)
        assert answer["__typename"] == "PermissionDenied" and "metrics:write" in answer["message"]


async def test_another_tenants_metric_is_answered_as_a_missing_one(
    asker: Asker, database: Database, maker: Principal
) -> None:
    made = await asker.make(maker)
    other = await create_tenant(database, slug=uuid4().hex, name="Other", tier=Tier.FREE)
    stranger = await add_member(database, other, Role.OWNER)
    assert (await asker.data(stranger, NODE, id=made["id"]))["node"] is None
    assert (await asker.data(stranger, ONE, key="revenue"))["tenant"]["metric"] is None
    told = [
        await asker.do(stranger, text, id=id, **more)
        for id in (made["id"], global_id("Metric", str(uuid4())), global_id("Metric", "events"), "x")
        for text, more in ((ARCHIVE, {}), (UNARCHIVE, {}), (UPDATE, {"revision": 1, "unit": "x"}))
    ]
    assert {answer["__typename"] for answer in told} == {"NotFound"}
    assert len({(answer["message"], *answer["path"]) for answer in told}) == 1


BAD: list[tuple[dict[str, Any], str, list[str]]] = [
    ({"key": "Bad Key"}, "bad_metric", ["input", "key"]),
    ({"key": "events"}, "key_taken", ["input", "key"]),
    ({"definition": {"kind": "SUM"}}, "bad_metric", ["input", "property"]),
    ({"definition": {"kind": "SUM", "property": "properties.a'b"}}, "bad_metric", ["input", "property"]),
    ({"definition": {"kind": "COUNT", "dimensions": ["nothing"]}}, "unknown_dimension", ["input", "dimensions"]),
    ({"definition": {"kind": "COUNT", "rateSeconds": 5}}, "bad_metric", ["input", "rateSeconds"]),
    ({"definition": {"kind": "FORMULA", "formula": "1 +"}}, "bad_formula", ["input", "formula"]),
    ({"definition": {"kind": "FORMULA", "formula": "gone * 2"}}, "unknown_metric", ["input", "formula"]),
    ({"definition": {"kind": "FORMULA", "formula": "new"}}, "unknown_metric", ["input", "formula"]),
    ({"definition": {"kind": "FORMULA", "formula": "p95(request_duration) + events"}}, "unit_mismatch",
     ["input", "formula"]),
    ({"unit": "x" * 33}, "bad_metric", ["input", "unit"]),
    ({"description": "x" * 2001}, "bad_request", ["input", "description"]),
]  # fmt: skip


@pytest.mark.parametrize(("input", "reason", "path"), BAD)
async def test_what_cannot_be_defined_is_refused_with_a_code_and_its_place(
    asker: Asker, maker: Principal, input: dict[str, Any], reason: str, path: list[str]
) -> None:
    answer = await asker.do(maker, CREATE, **{"key": "new", "definition": REVENUE, **input})
    assert (answer["__typename"], answer["reason"], answer["path"]) == ("ValidationError", reason, path)
    assert (await asker.data(maker, ONE, key="new"))["tenant"]["metric"] is None


async def test_a_key_that_is_taken_and_a_metric_in_use_are_conflicts(asker: Asker, maker: Principal) -> None:
    made = await asker.make(maker)
    again = await asker.do(maker, CREATE, key="revenue", definition=REVENUE)
    assert (again["__typename"], again["reason"]) == ("Conflict", "key_taken")
    await asker.make(maker, "twice", definition={"kind": "FORMULA", "formula": "revenue * 2"})
    used = await asker.do(maker, ARCHIVE, id=made["id"])
    assert (used["__typename"], used["reason"]) == ("Conflict", "metric_in_use") and "twice" in used["message"]


async def test_an_owner_is_named_by_a_members_id(
    asker: Asker, database: Database, tenant: Tenant, maker: Principal
) -> None:
    other = await add_member(database, tenant)
    member = global_id("Member", str(other.person_id))
    assert (await asker.make(maker, owner=member))["owner"] == other.actor
    for owner in ("x", global_id("Metric", "events")):
        answer = await asker.do(maker, CREATE, key="new", definition=REVENUE, owner=owner)
        assert (answer["__typename"], answer["path"]) == ("NotFound", ["input", "owner"])
