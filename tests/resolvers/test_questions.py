"""Saved questions over GraphQL: who may do what with which, generated; conflicts with both versions; pages."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import pytest

from core.accounts import create_tenant
from core.database import Database, as_owner
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

QUERY = {"metric": "events", "range": {"last": "24h"}, "filters": [{"dimension": "country", "values": ["DE"]}]}
FIELDS = "id name description query tags owner myLevel revision accessRevision createdBy updatedBy deletedAt"
ERROR = "... on Error { code message path }"
CREATE = f"""mutation($input: CreateQuestionInput!) {{ createQuestion(input: $input) {{ __typename
  ... on CreateQuestionPayload {{ question {{ {FIELDS} }} }} {ERROR} }} }}"""
UPDATE = f"""mutation($input: UpdateQuestionInput!) {{ updateQuestion(input: $input) {{ __typename
  ... on UpdateQuestionPayload {{ question {{ {FIELDS} }} }}
  ... on QuestionConflict {{ changedFields theirs {{ {FIELDS} }} yours {{ name description query tags }} }}
  {ERROR} }} }}"""
ACCESS = f"""mutation($input: SetQuestionAccessInput!) {{ setQuestionAccess(input: $input) {{ __typename
  ... on SetQuestionAccessPayload {{ question {{ accessRevision
    access {{ level member role everyone }} }} }} {ERROR} }} }}"""
DELETE = f"""mutation($input: DeleteQuestionInput!) {{ deleteQuestion(input: $input) {{ __typename {ERROR} }} }}"""
RESTORE = f"""mutation($input: RestoreQuestionInput!) {{ restoreQuestion(input: $input) {{ __typename {ERROR} }} }}"""
SHARE = f"""mutation($input: CreateShareLinkInput!) {{ createShareLink(input: $input) {{ __typename
  ... on CreateShareLinkPayload {{ token shareLink {{ id objectId lockedFilters {{ dimension op values }} ranges
    filterDimensions costPerMinute rowsPerHour isLive uses createdBy }} }} {ERROR} }} }}"""
REVOKE = f"""mutation($input: RevokeShareLinkInput!) {{ revokeShareLink(input: $input) {{ __typename {ERROR} }} }}"""
LIST = """query($search: String, $tag: String, $first: Int, $after: String, $deleted: Boolean! = false) { tenant {
  questions(search: $search, tag: $tag, first: $first, after: $after, deleted: $deleted) { totalCount
  pageInfo { hasNextPage endCursor } edges { cursor node { id name myLevel access { level }
  shareLinks { id name } } } } } }"""
ONE = "query($id: ID!) { tenant { question(id: $id) { name myLevel series { columns } breakdown { total } } } }"
NODE = "query($id: ID!) { node(id: $id) { __typename id } }"


@dataclass(slots=True)
class Asker:
    """Executes operations as whoever it is told, and counts transactions."""

    door: GraphQLDoor
    database: CountingDatabase

    async def ask(self, principal: Principal, text: str, **variables: Any) -> Any:
        self.database.begin()
        context = self.door.context(Caller(principal, principal.actor), None, "request-1")
        return await schema.execute(text, variables, context_value=context)

    async def do(self, principal: Principal, text: str, **input: Any) -> dict[str, Any]:
        """What a mutation answers."""
        result = await self.ask(principal, text, input=input)
        assert result.errors is None, result.errors
        answer: dict[str, Any] = next(iter(result.data.values()))
        return answer

    async def data(self, principal: Principal, text: str, **variables: Any) -> Any:
        result = await self.ask(principal, text, **variables)
        assert result.errors is None, result.errors
        return result.data

    async def make(self, principal: Principal, **changes: Any) -> dict[str, Any]:
        made = await self.do(principal, CREATE, **{"name": "Orders", "query": QUERY, **changes})
        assert made["__typename"] == "CreateQuestionPayload", made
        question: dict[str, Any] = made["question"]
        return question

    async def code(self, principal: Principal, text: str, **variables: Any) -> str:
        """The code of the one refusal."""
        result = await self.ask(principal, text, **variables)
        assert result.errors and len(result.errors) == 1
        return str(result.errors[0].original_error.code)  # type: ignore[union-attr]


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


def member(principal: Principal) -> str:
    return global_id("Member", str(principal.person_id))


# What an operation needs of a role (none: any), and of the object's list.
NEEDS = {
    "view": (Role.VIEWER, 0), "edit": (Role.EDITOR, 1), "access": (Role.EDITOR, 2), "delete": (Role.EDITOR, 2),
    "share": (Role.EDITOR, 2),
}  # fmt: skip
LEVELS = (None, "VIEW", "EDIT", "MANAGE")


async def outcome(asker: Asker, principal: Principal, operation: str, question: dict[str, Any]) -> str:
    """What comes of an operation on an object: done, denied, or as if it were not there."""
    id = question["id"]
    if operation == "view":
        result = await asker.ask(principal, ONE, id=id)
        found = (await asker.data(principal, NODE, id=id))["node"]
        assert (found is None) == bool(result.errors)
        return "missing" if result.errors else "done"
    text, input = {
        "edit": (UPDATE, {"id": id, "revision": 1, "name": f"by {principal.actor}"}),
        "access": (ACCESS, {"id": id, "accessRevision": question["accessRevision"], "access": [
            {"member": member(principal), "level": "MANAGE"}, {"everyone": True, "level": "VIEW"}]}),
        "delete": (DELETE, {"id": id}),
        "share": (SHARE, {"objectId": id}),
    }[operation]  # fmt: skip
    answer = (await asker.do(principal, text, **input))["__typename"]
    if answer.endswith("Payload"):
        return "done"
    return {"PermissionDenied": "denied", "NotFound": "missing"}[answer]


@pytest.mark.parametrize("operation", NEEDS)
async def test_every_role_and_level_may_exactly_what_both_allow(
    asker: Asker, database: Database, tenant: Tenant, maker: Principal, operation: str
) -> None:
    """Role x level x how the level was given x operation: 4 x 4 x 3 x 5, each on an object of its own."""
    lowest_role, lowest_level = NEEDS[operation]
    callers = {role: await add_member(database, tenant, role) for role in Role}
    walked = 0
    for role, level, way in itertools.product(Role, LEVELS, ("member", "role", "everyone")):
        principal = callers[role]
        question = await asker.make(maker, access="PRIVATE")
        if level is not None:
            grantee = {"member": member(principal), "role": role.name, "everyone": True}[way]
            given = await asker.do(
                maker, ACCESS, id=question["id"], accessRevision=1, access=[{way: grantee, "level": level}]
            )
            question["accessRevision"] = given["question"]["accessRevision"]
        # An owner of the tenant manages everything.
        rank = 2 if role is Role.OWNER else LEVELS.index(level) - 1
        if rank < 0:
            # Who may write no questions at all is told so before anybody looks for one.
            wanted = "missing" if role.rank >= lowest_role.rank else "denied"
        else:
            wanted = "done" if rank >= lowest_level and role.rank >= lowest_role.rank else "denied"
        assert await outcome(asker, principal, operation, question) == wanted, (role, level, way)
        walked += 1
    assert walked == 48


async def test_an_edit_of_an_old_revision_is_answered_with_both_versions(
    asker: Asker, database: Database, tenant: Tenant, maker: Principal
) -> None:
    owner = await add_member(database, tenant, Role.OWNER)
    question = await asker.make(maker)
    await asker.do(owner, UPDATE, id=question["id"], revision=1, name="Theirs", tags=["a"])
    other = {"metric": "visitors", "range": {"last": "7d"}}
    found = await asker.do(
        maker, UPDATE, id=question["id"], revision=1, name="Mine", description="", tags=["a"], query=other
    )
    assert (found["__typename"], found["code"], found["path"]) == (
        "QuestionConflict", "CONFLICT", ["input", "revision"],
    )  # fmt: skip
    # What both say alike is no conflict.
    assert found["changedFields"] == ["name", "query"]
    assert (found["theirs"]["name"], found["theirs"]["revision"], found["theirs"]["updatedBy"]) == (
        "Theirs", 2, owner.actor,
    )  # fmt: skip
    assert (found["yours"]["name"], found["yours"]["tags"], found["yours"]["query"]["metric"]) == (
        "Mine", ["a"], "visitors",
    )  # fmt: skip
    assert "revision 2" in found["message"]
    merged = await asker.do(maker, UPDATE, id=question["id"], revision=2, name="Both")
    assert (merged["question"]["name"], merged["question"]["revision"], merged["question"]["tags"]) == (
        "Both", 3, ["a"],
    )  # fmt: skip


async def test_a_question_shows_the_query_as_series_takes_it(asker: Asker, maker: Principal) -> None:
    question = await asker.make(maker)
    assert question["query"]["filters"] == [{"dimension": "country", "op": "EQ", "values": ["DE"]}]
    again = await asker.make(maker, query=question["query"])
    assert again["query"] == question["query"]
    text = "query($q: MetricQuery!) { series(query: $q) { columns } }"
    assert (await asker.data(maker, text, q=question["query"]))["series"]


@pytest.mark.parametrize(
    ("query", "path"),
    [
        ({**QUERY, "metric": "nonsense"}, ["input", "query.metric"]),
        ({**QUERY, "range": {}}, ["input", "query.range"]),
        ({**QUERY, "groupBy": ["nonsense"]}, ["input", "query.groupBy"]),
        ({**QUERY, "range": {"last": "5000w"}, "interval": "MINUTE"}, ["input", "query.range"]),
    ],
)
async def test_a_query_that_could_not_be_asked_is_refused_when_it_is_saved(
    asker: Asker, maker: Principal, query: dict[str, Any], path: list[str]
) -> None:
    found = await asker.do(maker, CREATE, name="x", query=query)
    assert (found["__typename"], found["path"]) == ("ValidationError", path)


async def test_a_stored_query_that_fits_no_more_says_so_and_can_still_be_read_and_mended(
    asker: Asker, superuser_url: str, maker: Principal
) -> None:
    question = await asker.make(maker)
    await spoil(superuser_url, '{"metric": "gone", "range": {"last": "24h"}}')
    text = "query($id: ID!) { tenant { question(id: $id) { query warnings { code message } } } }"
    found = (await asker.data(maker, text, id=question["id"]))["tenant"]["question"]
    assert found["warnings"][0]["code"] == "query_no_longer_fits" and "gone" in found["warnings"][0]["message"]
    assert found["query"]["metric"] == "gone"
    assert await asker.code(maker, "query($id: ID!) { tenant { question(id: $id) { series { columns } } } }",
                            id=question["id"]) == "unknown_metric"  # fmt: skip
    await spoil(superuser_url, '{"of": "another version"}')
    found = (await asker.data(maker, text, id=question["id"]))["tenant"]["question"]
    assert found["query"] == {"of": "another version"} and found["warnings"]
    mended = await asker.do(maker, UPDATE, id=question["id"], revision=1, query=QUERY)
    assert mended["question"]["query"]["metric"] == "events"


async def spoil(superuser_url: str, query: str) -> None:
    async with as_owner(superuser_url) as connection:
        await connection.execute("UPDATE questions SET query = $1", query)


async def test_a_range_may_be_given_in_place_of_the_questions_own(asker: Asker, maker: Principal) -> None:
    question = await asker.make(maker)
    text = """query($id: ID!, $r: TimeRange) { tenant { question(id: $id) {
      series(range: $r) { from to interval } breakdown(range: $r) { from } } } }"""
    own = (await asker.data(maker, text, id=question["id"]))["tenant"]["question"]["series"]
    found = (await asker.data(maker, text, id=question["id"], r={"last": "4w"}))["tenant"]["question"]
    assert found["series"]["from"] < own["from"] and found["series"]["interval"] == "DAY"
    assert await asker.code(
        maker, "query($id: ID!) { tenant { question(id: $id) { series(range: {last: \"x\"}) { from } } } }",
        id=question["id"],
    ) == "bad_range"  # fmt: skip


async def test_a_list_with_its_links_is_two_transactions_however_long_it_is(
    asker: Asker, database: Database, tenant: Tenant, maker: Principal
) -> None:
    for n in range(12):
        question = await asker.make(maker, name=f"q{n}")
        await asker.do(maker, SHARE, objectId=question["id"], name=f"l{n}")
    text = LIST.replace("totalCount", "")
    page = (await asker.data(maker, text, first=100))["tenant"]["questions"]
    assert (asker.database.transactions, asker.database.statements) == (2, 2)
    assert [edge["node"]["name"] for edge in page["edges"]] == [f"q{n}" for n in reversed(range(12))]
    assert [edge["node"]["shareLinks"][0]["name"] for edge in page["edges"]] == [f"l{n}" for n in reversed(range(12))]
    ids = [edge["node"]["id"] for edge in page["edges"]]
    nodes = await asker.data(maker, "query($ids: [ID!]!) { nodes(ids: $ids) { id } }", ids=ids)
    assert [node["id"] for node in nodes["nodes"]] == ids and asker.database.transactions == 1
    viewer = await add_member(database, tenant)
    seen = (await asker.data(viewer, text, first=5))["tenant"]["questions"]["edges"]
    assert [edge["node"]["myLevel"] for edge in seen] == ["VIEW"] * 5
    assert all(edge["node"]["access"] is None and edge["node"]["shareLinks"] == [] for edge in seen)


async def test_pages_are_counted_and_followed_by_signed_cursors_of_this_list_and_tenant_alone(
    asker: Asker, database: Database, tenant: Tenant, maker: Principal
) -> None:
    reader = await add_member(database, tenant, Role.VIEWER)
    for n in range(7):
        await asker.make(maker, name=f"q{n}", access="EVERYONE_VIEWS" if n % 2 else "PRIVATE")
    seen: list[str] = []
    after = None
    while True:
        page = (await asker.data(reader, LIST.replace("shareLinks { id name }", ""), first=2, after=after))["tenant"][
            "questions"
        ]
        assert page["totalCount"] == 3
        seen += [edge["node"]["name"] for edge in page["edges"]]
        after = page["pageInfo"]["endCursor"]
        if not page["pageInfo"]["hasNextPage"]:
            break
    assert seen == ["q5", "q3", "q1"]
    elsewhere = await create_tenant(database, slug=f"e-{uuid4()}", name="", tier=Tier.FREE)
    stranger = await add_member(database, elsewhere)
    assert after is not None
    for principal, cursor in ((stranger, after), (maker, after[:-4] + "AAAA"), (maker, ""), (maker, "x" * 10_000)):
        assert await asker.code(principal, LIST, after=cursor) == "invalid_cursor"


async def test_a_link_is_told_once_and_its_terms_are_shown(asker: Asker, maker: Principal) -> None:
    question = await asker.make(maker, query={**QUERY, "groupBy": ["browser"]})
    made = await asker.do(
        maker, SHARE, objectId=question["id"], lockedFilters=[{"dimension": "device", "values": ["mobile"]}],
        ranges=["7d"], filterDimensions=["browser", "os"], costPerMinute=500, rowsPerHour=5000,
    )  # fmt: skip
    assert made["token"].startswith("cm_sl_")
    assert made["shareLink"] == {
        "id": made["shareLink"]["id"], "objectId": question["id"], "ranges": ["7d"], "costPerMinute": 500,
        "lockedFilters": [{"dimension": "device", "op": "EQ", "values": ["mobile"]}], "rowsPerHour": 5000,
        "filterDimensions": ["browser", "os"], "isLive": True, "uses": 0.0, "createdBy": maker.actor,
    }  # fmt: skip
    again = await asker.data(maker, "query($id: ID!) { node(id: $id) { ... on ShareLink { isLive uses } } }",
                             id=made["shareLink"]["id"])  # fmt: skip
    assert made["token"] not in str(again)
    assert (await asker.do(maker, REVOKE, id=made["shareLink"]["id"]))["__typename"] == "RevokeShareLinkPayload"


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({"lockedFilters": [{"dimension": "nonsense", "values": ["x"]}]}, "lockedFilters"),
        ({"lockedFilters": [{"dimension": "os", "op": "GT", "values": ["x"]}]}, "lockedFilters"),
        ({"lockedFilters": [{"dimension": "os", "values": ["x"]}] * 20}, "lockedFilters"),
        ({"ranges": ["yesterday"]}, "ranges"),
        ({"ranges": ["1h"] * 21}, "ranges"),
        ({"filterDimensions": ["nonsense"]}, "filterDimensions"),
        ({"expiresAt": "2020-01-01T00:00:00Z"}, "expiresAt"),
        ({"costPerMinute": 0}, "costPerMinute"),
    ],
)
async def test_terms_with_which_nobody_could_ask_are_refused_by_name(
    asker: Asker, maker: Principal, asked: dict[str, Any], field: str
) -> None:
    question = await asker.make(maker)
    found = await asker.do(maker, SHARE, objectId=question["id"], **asked)
    assert (found["__typename"], found["path"]) == ("ValidationError", ["input", field])


@pytest.mark.parametrize(
    "line",
    [{"level": "VIEW"}, {"level": "VIEW", "everyone": True, "role": "VIEWER"}, {"level": "VIEW", "everyone": False}],
)
async def test_a_line_of_a_list_names_exactly_one_grantee(asker: Asker, maker: Principal, line: dict[str, Any]) -> None:
    question = await asker.make(maker)
    found = await asker.do(maker, ACCESS, id=question["id"], accessRevision=1, access=[line])
    assert found["__typename"] == "ValidationError"


async def test_ids_of_other_kinds_tenants_and_of_nothing_are_answered_alike(
    asker: Asker, database: Database, tenant: Tenant, maker: Principal
) -> None:
    elsewhere = await create_tenant(database, slug=f"e-{uuid4()}", name="", tier=Tier.FREE)
    theirs = await asker.make(await add_member(database, elsewhere))
    gone = await asker.make(maker)
    await asker.do(maker, DELETE, id=gone["id"])
    ids = [theirs["id"], gone["id"], global_id("SavedQuestion", str(uuid4())), global_id("SavedQuestion", "x"),
           global_id("Tenant", str(tenant.id)), "", "-1", "x" * 5000]  # fmt: skip
    for text, more in ((UPDATE, {"revision": 1, "name": "x"}), (ACCESS, {"accessRevision": 1, "access": []}),
                       (DELETE, {})):  # fmt: skip
        answers = [await asker.do(maker, text, id=id, **more) for id in ids]
        assert {answer["__typename"] for answer in answers} == {"NotFound"}
        assert len({answer["message"] for answer in answers}) == 1
    assert {await asker.code(maker, ONE, id=id) for id in ids} == {"not_found"}
    shared = [(await asker.do(maker, SHARE, objectId=id))["__typename"] for id in ids]
    assert set(shared) == {"NotFound"}
    assert (await asker.do(maker, RESTORE, id=gone["id"]))["__typename"] == "RestoreQuestionPayload"
    assert (await asker.do(maker, RESTORE, id=theirs["id"]))["__typename"] == "NotFound"
