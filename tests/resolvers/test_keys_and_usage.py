"""Keys, usage and the tenant's name over GraphQL: what is shown, to whom, and in how many statements."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from core import accounts
from core.accounts import find_key
from core.database import Database
from core.permissions import Role, Scope
from core.queries import named
from core.settings import Settings
from core.tenancy import PersonId, Principal, Tenant, Tier
from resolvers.global_ids import global_id
from tests.conftest import make_key
from tests.core.members import QUERIES, add_member
from tests.resolvers.asking import Answers, answers_of
from web.auth.callers import Caller

ADD_USAGE = named("aggregate", "add_usage")
CREATE = """mutation($input: CreateApiKeyInput!) { createApiKey(input: $input) { __typename
  ... on CreateApiKeyPayload { secret apiKey { id keyId name kind scopes origins expiresAt secrets { endsAt } } }
  ... on Error { code message path } } }"""
ROTATE = """mutation($input: RotateApiKeyInput!) { rotateApiKey(input: $input) { __typename
  ... on RotateApiKeyPayload { secret previousEndsAt apiKey { secrets { createdAt endsAt } } }
  ... on Error { code message path } } }"""
UPDATE = """mutation($input: UpdateApiKeyInput!) { updateApiKey(input: $input) { __typename
  ... on UpdateApiKeyPayload { apiKey { name origins expiresAt } } ... on Error { code message path } } }"""
REVOKE = """mutation($input: RevokeApiKeyInput!) { revokeApiKey(input: $input) { __typename
  ... on RevokeApiKeyPayload { apiKey { revokedAt secrets { endsAt } } } ... on Error { code message path } } }"""
LIST = """query($first: Int, $after: String) { tenant { apiKeys(first: $first, after: $after) { totalCount
  pageInfo { hasNextPage endCursor } edges { node { id keyId name secrets { createdAt } lastUsedAt } } } } }"""
USAGE = """query($month: String) { tenant { usage(month: $month) { month accepted duplicates limit remaining resetsAt
  warnings { code message } byKey { keyId accepted duplicates apiKey { name } } byDay { day accepted } } } }"""
BY_DAY = """query($from: Date!, $to: Date!, $key: String) {
  tenant { usageByDay(from: $from, to: $to, keyId: $key) { day accepted duplicates } } }"""


@pytest.fixture
async def asking(settings: Settings, database: Database) -> Any:
    async with answers_of(settings, database) as answers:
        yield answers


@pytest.fixture
async def member(database: Database, tenant: Tenant) -> None:
    """The administrator that asks: what it is to write is asked of the database."""
    async with database.as_doorkeeper(is_write=True) as session:
        await session.execute(QUERIES["insert_person"], tenant.id, f"{tenant.id}@example.org")
    await add_member(database, tenant, Role.ADMIN, PersonId(tenant.id))


def admin(tenant: Tenant, role: Role = Role.ADMIN) -> Caller:
    principal = Principal.of_person(tenant, PersonId(tenant.id), role, None)
    return Caller(principal, principal.actor)


async def make(asking: Answers, tenant: Tenant, **input: Any) -> Any:
    data = await asking.data(admin(tenant), CREATE, input={"name": "k", "scopes": ["METRICS_READ"], **input})
    return data["createApiKey"]


@pytest.mark.usefixtures("member")
async def test_a_key_is_made_shown_once_rotated_changed_and_ended(
    asking: Answers, database: Database, tenant: Tenant
) -> None:
    made = await make(
        asking, tenant, name="shop", kind="PUBLISHABLE", scopes=["EVENTS_WRITE"], origins=["https://a.example"]
    )
    key = made["apiKey"]
    assert made["__typename"] == "CreateApiKeyPayload" and made["secret"].startswith("cm_pk_")
    assert (key["kind"], key["scopes"], key["origins"]) == ("PUBLISHABLE", ["EVENTS_WRITE"], ["https://a.example"])
    assert key["secrets"] == [{"endsAt": None}]
    who = admin(tenant)
    rotated = (await asking.data(who, ROTATE, input={"id": key["id"], "overlapHours": 2}))["rotateApiKey"]
    newest, older = rotated["apiKey"]["secrets"]
    assert newest["endsAt"] is None and older["endsAt"] == rotated["previousEndsAt"]
    assert [await find_key(database, secret=s) is not None for s in (made["secret"], rotated["secret"])] == [True, True]
    updated = (await asking.data(who, UPDATE, input={"id": key["id"], "expiresAt": "2099-01-01T00:00:00Z"}))[
        "updateApiKey"
    ]
    assert updated["apiKey"] == {
        "name": "shop",
        "origins": ["https://a.example"],
        "expiresAt": "2099-01-01T00:00:00+00:00",
    }
    updated = (await asking.data(who, UPDATE, input={"id": key["id"], "name": "x", "expiresAt": None}))["updateApiKey"]
    assert updated["apiKey"]["expiresAt"] is None and updated["apiKey"]["name"] == "x"
    ended = (await asking.data(who, REVOKE, input={"id": key["id"]}))["revokeApiKey"]
    assert ended["apiKey"]["revokedAt"] is not None and ended["apiKey"]["secrets"] == []
    again = (await asking.data(who, REVOKE, input={"id": key["id"]}))["revokeApiKey"]
    assert (again["__typename"], again["code"]) == ("Conflict", "CONFLICT")
    shown = await asking.data(
        who, "query($id: ID!) { node(id: $id) { ... on ApiKey { keyId revokedAt } } }", id=key["id"]
    )
    assert shown["node"]["keyId"] == key["keyId"]


async def test_a_list_of_keys_is_as_many_statements_whatever_its_length(
    asking: Answers, settings: Settings, database: Database, tenant: Tenant
) -> None:
    made = [(await make_key(database, settings, tenant, name=f"k{n}"))[0].id for n in range(7)]
    seen, after = [], None
    for size in (3, 3, 1):
        data = (await asking.data(admin(tenant), LIST, first=3, after=after))["tenant"]["apiKeys"]
        assert asking.statements == 3  # the page, how many there are, their secrets
        assert len(data["edges"]) == size and data["totalCount"] == 7
        assert all(len(edge["node"]["secrets"]) == 1 for edge in data["edges"])
        seen += [edge["node"]["keyId"] for edge in data["edges"]]
        after = data["pageInfo"]["endCursor"]
    assert seen == made[::-1] and not data["pageInfo"]["hasNextPage"]


async def test_an_ending_key_and_a_key_that_only_reads_make_no_other(
    asking: Answers, settings: Settings, database: Database, tenant: Tenant
) -> None:
    soon = datetime.now(UTC) + timedelta(hours=1)
    ending, _ = await make_key(database, settings, tenant, scopes=frozenset({Scope.ADMIN}), expires_at=soon)
    for scopes, expected in ((Scope.ADMIN,), "more time"), ((Scope.METRICS_READ,), "needs keys:write"), (
        (Scope.EVENTS_WRITE,), "needs keys:write"
    ):  # fmt: skip
        principal = Principal.of_key(tenant, ending.id, frozenset(scopes))
        caller = Caller(principal, ending.id, ending)
        refused = (await asking.data(caller, CREATE, input={"name": "", "scopes": ["METRICS_READ"]}))["createApiKey"]
        assert refused["__typename"] == "PermissionDenied" and expected in refused["message"], refused


@pytest.mark.usefixtures("member")
async def test_a_bad_key_names_where_in_the_input(asking: Answers, tenant: Tenant) -> None:
    for input, path in (
        ({"scopes": []}, ["input", "scopes"]),
        ({"expiresAt": "2020-01-01T00:00:00Z"}, ["input", "expiresAt"]),
        ({"kind": "PUBLISHABLE"}, ["input", "scopes"]),
    ):
        refused = await make(asking, tenant, **input)
        assert (refused["__typename"], refused["path"]) == ("ValidationError", path)
    for id in ("", "nonsense", global_id("ApiKey", "key_" + "a" * 20), global_id("Tenant", str(tenant.id))):
        refused = (await asking.data(admin(tenant), ROTATE, input={"id": id}))["rotateApiKey"]
        assert (refused["code"], refused["message"]) == ("NOT_FOUND", "There is no ApiKey with that id.")


async def used(database: Database, tenant: Tenant, day: date, key_id: str, accepted: int, duplicates: int = 0) -> None:
    async with database.as_writer() as session:
        await session.execute(ADD_USAGE, [tenant.id], [day], [key_id], [accepted], [duplicates])


async def test_usage_is_told_by_month_day_and_key(
    asking: Answers, settings: Settings, database: Database, tenant: Tenant
) -> None:
    key, _ = await make_key(database, settings, tenant, name="shop")
    for day, key_id, accepted, duplicates in (
        (date(2026, 2, 1), key.id, 10, 1), (date(2026, 2, 1), "key_gone", 5, 0), (date(2026, 2, 28), key.id, 7, 2),
        (date(2026, 1, 31), key.id, 100, 0), (date(2026, 3, 1), key.id, 100, 0),
    ):  # fmt: skip
        await used(database, tenant, day, key_id, accepted, duplicates)
    usage = (await asking.data(admin(tenant), USAGE, month="2026-02"))["tenant"]["usage"]
    assert (usage["accepted"], usage["duplicates"]) == (22, 3)
    assert (usage["limit"], usage["remaining"], usage["warnings"]) == (None, None, [])
    assert usage["resetsAt"] == "2026-03-01T00:00:00+00:00"
    assert usage["byKey"] == [
        {"keyId": key.id, "accepted": 17, "duplicates": 3, "apiKey": {"name": "shop"}},
        {"keyId": "key_gone", "accepted": 5, "duplicates": 0, "apiKey": None},
    ]
    assert len(usage["byDay"]) == 28 and sum(day["accepted"] for day in usage["byDay"]) == 22
    assert asking.statements == 4
    days = {"from": "2026-01-31", "to": "2026-02-02"}
    found = (await asking.data(admin(tenant), BY_DAY, **days, key=key.id))["tenant"]["usageByDay"]
    assert [(day["day"], day["accepted"]) for day in found] == [("2026-01-31", 100), ("2026-02-01", 10)]
    found = (await asking.data(admin(tenant), BY_DAY, **days))["tenant"]["usageByDay"]
    assert [day["accepted"] for day in found] == [100, 15]


@pytest.mark.parametrize(("from_", "to"), [("2026-02-01", "2026-02-01"), ("2026-02-02", "2026-02-01"),
                                           ("2024-01-01", "2026-01-01")])  # fmt: skip
async def test_days_are_at_most_a_year_of_them(asking: Answers, tenant: Tenant, from_: str, to: str) -> None:
    code, message = await asking.refusal(admin(tenant), BY_DAY, **{"from": from_, "to": to})
    assert code == "bad_range" and "366" in message


@pytest.mark.parametrize(
    ("counted", "remaining", "codes"),
    [(79_999, 20_001, []), (80_000, 20_000, ["quota_80_percent"]), (99_999, 1, ["quota_80_percent"]),
     (100_000, 0, ["quota_used_up"]), (100_060, 0, ["quota_used_up"])],
)  # fmt: skip
async def test_what_is_left_is_told_and_so_are_the_thresholds(
    asking: Answers, database: Database, counted: int, remaining: int, codes: list[str]
) -> None:
    free = await accounts.create_tenant(database, slug=f"free-{counted}", name="", tier=Tier.FREE)
    await used(database, free, datetime.now(UTC).date(), "key_a", counted)
    usage = (await asking.data(admin(free, Role.VIEWER), USAGE.replace(" apiKey { name }", "")))["tenant"]["usage"]
    assert (usage["limit"], usage["remaining"]) == (100_000, remaining)
    assert [warning["code"] for warning in usage["warnings"]] == codes
    for warning in usage["warnings"]:
        assert "100000" in warning["message"] and usage["resetsAt"][:10] in warning["message"]


@pytest.mark.usefixtures("member")
async def test_a_tenant_is_renamed_by_whoever_may(asking: Answers, database: Database, tenant: Tenant) -> None:
    text = """mutation($input: UpdateTenantInput!) { updateTenant(input: $input) { __typename
      ... on UpdateTenantPayload { tenant { name slug } } ... on Error { code message path } } }"""
    data = await asking.data(admin(tenant), text, input={"name": "Ünïcode Ltd"})
    assert data["updateTenant"]["tenant"] == {"name": "Ünïcode Ltd", "slug": tenant.slug}
    assert (await accounts.find_tenant(database, tenant.slug)).name == "Ünïcode Ltd"
    for name in ("", "  ", "a\nb", "x" * 201):
        refused = (await asking.data(admin(tenant), text, input={"name": name}))["updateTenant"]
        assert (refused["__typename"], refused["path"]) == ("ValidationError", ["input", "name"])
    refused = (await asking.data(admin(tenant, Role.EDITOR), text, input={"name": "x"}))["updateTenant"]
    assert refused["__typename"] == "PermissionDenied"
