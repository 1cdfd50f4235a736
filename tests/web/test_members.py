"""Members and invitations over GraphQL, as each role and as another tenant."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

import pytest

from core.database import Database
from core.outbox import list_messages
from core.permissions import Role, Scope
from core.settings import Settings
from core.tenancy import Tenant
from resolvers.global_ids import global_id
from tests.conftest import make_key, make_person
from tests.core.people_builder import make_tenant
from tests.core.test_invitations import backdate
from tests.core.test_members import trail
from tests.web.conftest import Client, RunningWeb

MEMBERS = """query($first: Int, $after: String, $search: String) { tenant { members(first: $first, after: $after,
  search: $search) { totalCount pageInfo { hasNextPage endCursor }
  edges { node { id personId name email role since lastSeenAt } } } } }"""
INVITATIONS = """query($ended: Boolean!) { tenant { invitations(first: 10, hasEnded: $ended) { totalCount edges { node {
  id email role state mail invitedBy createdAt sentAt expiresAt revokedAt acceptedAt } } } } }"""
ERROR = "... on Error { code message path } ... on Conflict { reason } ... on ValidationError { reason }"
INVITE = f"""mutation($input: InviteMemberInput!) {{ inviteMember(input: $input) {{ __typename
  ... on InviteMemberPayload {{ invitation {{ id email role state mail }} }} {ERROR} }} }}"""
RESEND = f"""mutation($input: ResendInvitationInput!) {{ resendInvitation(input: $input) {{ __typename
  ... on ResendInvitationPayload {{ invitation {{ state }} }} {ERROR} }} }}"""
REVOKE = f"""mutation($input: RevokeInvitationInput!) {{ revokeInvitation(input: $input) {{ __typename
  ... on RevokeInvitationPayload {{ invitation {{ state }} }} {ERROR} }} }}"""
CHANGE = f"""mutation($input: ChangeMemberRoleInput!) {{ changeMemberRole(input: $input) {{ __typename
  ... on ChangeMemberRolePayload {{ member {{ id role }} }} {ERROR} }} }}"""
REMOVE = f"""mutation($input: RemoveMemberInput!) {{ removeMember(input: $input) {{ __typename
  ... on RemoveMemberPayload {{ id }} {ERROR} }} }}"""
LEAVE = f"""mutation($input: LeaveTenantInput!) {{ leaveTenant(input: $input) {{ __typename
  ... on LeaveTenantPayload {{ slug }} {ERROR} }} }}"""
NODE = "query($id: ID!) { node(id: $id) { __typename id } }"


class Team:
    """One of each role in a tenant, and their access tokens."""

    def __init__(self, client: Client, tenant: Tenant) -> None:
        self.client, self.tenant = client, tenant
        self.tokens: dict[Role, str] = {}
        self.ids: dict[Role, str] = {}
        self.emails: dict[Role, str] = {}

    @classmethod
    async def of(cls, client: Client, database: Database, tenant: Tenant) -> Team:
        team = cls(client, tenant)
        for role in (Role.OWNER, Role.ADMIN, Role.EDITOR, Role.VIEWER):
            person = await make_person(database, tenant, role=role)
            team.tokens[role] = (await client.login(person.email))["access_token"]
            team.ids[role] = global_id("Member", str(person.id))
            team.emails[role] = person.email
        return team

    async def act(self, role: Role, mutation: str, /, **given: Any) -> dict[str, Any]:
        (answer,) = (await self.client.data(self.tokens[role], mutation, input=given)).values()
        found: dict[str, Any] = answer
        return found

    async def members(self, role: Role, /, **arguments: Any) -> list[dict[str, Any]]:
        page = (await self.client.data(self.tokens[role], MEMBERS, **arguments))["tenant"]["members"]
        return [edge["node"] for edge in page["edges"]]


@pytest.fixture
async def team(client: Client, database: Database, tenant: Tenant) -> Team:
    return await Team.of(client, database, tenant)


async def test_everybody_sees_names_and_roles_and_addresses_are_for_who_changes_members(team: Team) -> None:
    for role in Role:
        members = await team.members(role)
        assert [member["role"] for member in members] == ["OWNER", "ADMIN", "EDITOR", "VIEWER"]
        assert {member["name"] for member in members} == {"Ada Lovelace"} and all(m["since"] for m in members)
        seen = {member["role"] for member in members if member["email"] and member["lastSeenAt"]}
        assert seen == ({"OWNER", "ADMIN", "EDITOR", "VIEWER"} if role.rank >= Role.ADMIN.rank else {role.name})
        assert {m["email"] for m in members} - {None} <= set(team.emails.values())


async def test_members_come_page_by_page_with_their_number_when_asked(team: Team) -> None:
    page = (await team.client.data(team.tokens[Role.VIEWER], MEMBERS, first=3))["tenant"]["members"]
    assert (page["totalCount"], page["pageInfo"]["hasNextPage"]) == (4, True)
    rest = await team.members(Role.VIEWER, first=3, after=page["pageInfo"]["endCursor"])
    assert [edge["node"]["id"] for edge in page["edges"]] + [m["id"] for m in rest] == list(team.ids.values())
    assert await team.members(Role.VIEWER, search="nobody") == []
    for search in ("x" * 201, "a\u0000"):
        refused = await team.client.ask(team.tokens[Role.VIEWER], MEMBERS, search=search)
        assert refused.json()["errors"][0]["extensions"]["code"] == "BAD_REQUEST"


@pytest.mark.parametrize("role", [Role.VIEWER, Role.EDITOR])
async def test_who_may_not_change_members_may_none_of_it_and_sees_no_invitation(team: Team, role: Role) -> None:
    made = (await team.act(Role.OWNER, INVITE, email="g20@example.com", role="VIEWER"))["invitation"]
    attempts = [
        (INVITE, {"email": "x@example.com", "role": "VIEWER"}),
        (RESEND, {"id": made["id"]}),
        (REVOKE, {"id": made["id"]}),
        (CHANGE, {"id": team.ids[role], "role": "OWNER"}),
        (CHANGE, {"id": team.ids[Role.ADMIN], "role": "VIEWER"}),
        (REMOVE, {"id": team.ids[Role.ADMIN]}),
    ]
    for mutation, given in attempts:
        answer = await team.act(role, mutation, **given)
        assert (answer["__typename"], answer["code"]) == ("PermissionDenied", "PERMISSION_DENIED")
    listed = (await team.client.ask(team.tokens[role], INVITATIONS, ended=True)).json()
    assert listed["errors"][0]["extensions"]["code"] == "PERMISSION_DENIED"
    assert (await team.client.data(team.tokens[role], NODE, id=made["id"]))["node"] is None
    assert [m["role"] for m in await team.members(role)] == ["OWNER", "ADMIN", "EDITOR", "VIEWER"]


async def test_an_administrator_makes_and_unmakes_no_owner(team: Team) -> None:
    for mutation, given in (
        (INVITE, {"email": "x@example.com", "role": "OWNER"}),
        (CHANGE, {"id": team.ids[Role.ADMIN], "role": "OWNER"}),
        (CHANGE, {"id": team.ids[Role.VIEWER], "role": "OWNER"}),
        (CHANGE, {"id": team.ids[Role.OWNER], "role": "VIEWER"}),
        (REMOVE, {"id": team.ids[Role.OWNER]}),
    ):
        assert (await team.act(Role.ADMIN, mutation, **given))["__typename"] == "PermissionDenied", given
    assert (await team.act(Role.ADMIN, CHANGE, id=team.ids[Role.VIEWER], role="ADMIN"))["member"]["role"] == "ADMIN"


async def test_the_last_owner_is_kept(team: Team) -> None:
    for mutation, given in (
        (CHANGE, {"id": team.ids[Role.OWNER], "role": "ADMIN"}),
        (REMOVE, {"id": team.ids[Role.OWNER]}),
        (LEAVE, {"slug": team.tenant.slug}),
    ):
        answer = await team.act(Role.OWNER, mutation, **given)
        assert (answer["__typename"], answer["reason"]) == ("Conflict", "last_owner")


async def test_whoever_is_removed_or_leaves_is_refused_from_then_on(team: Team) -> None:
    wrong = await team.act(Role.EDITOR, LEAVE, slug="another")
    assert (wrong["__typename"], wrong["path"]) == ("ValidationError", ["input", "slug"])
    assert (await team.act(Role.EDITOR, LEAVE, slug=team.tenant.slug))["slug"] == team.tenant.slug
    assert (await team.act(Role.ADMIN, REMOVE, id=team.ids[Role.VIEWER]))["id"] == team.ids[Role.VIEWER]
    end = time.monotonic() + 6
    for role in (Role.EDITOR, Role.VIEWER):
        while (answer := await team.client.ask(team.tokens[role], "{ viewer { actor } }")).status_code == 200:
            assert time.monotonic() < end, "known within five seconds"
        assert answer.status_code in (401, 403)
    assert [m["role"] for m in await team.members(Role.OWNER)] == ["OWNER", "ADMIN"]


async def test_an_invitation_is_made_listed_sent_again_and_revoked(
    team: Team, database: Database, web: RunningWeb
) -> None:
    made = await team.act(Role.ADMIN, INVITE, email="Life@Example.com", role="EDITOR")
    assert made["invitation"] == {
        "id": made["invitation"]["id"], "email": "life@example.com", "role": "EDITOR", "state": "OPEN",
        "mail": "WAITING",
    }  # fmt: skip
    id = made["invitation"]["id"]
    again = await team.act(Role.ADMIN, INVITE, email="life@example.com", role="VIEWER")
    assert (again["__typename"], again["reason"], again["path"]) == ("Conflict", "already_invited", ["input", "email"])
    soon = await team.act(Role.ADMIN, RESEND, id=id)
    assert soon["__typename"] == "LimitReached"
    assert (await team.client.data(team.tokens[Role.ADMIN], NODE, id=id))["node"]["__typename"] == "Invitation"
    await backdate(web.settings, team.tenant, sent_at=timedelta(minutes=2))
    assert (await team.act(Role.OWNER, RESEND, id=id))["invitation"]["state"] == "OPEN"
    assert (await team.act(Role.ADMIN, REVOKE, id=id))["invitation"]["state"] == "REVOKED"
    (ended,) = (await team.client.data(team.tokens[Role.ADMIN], INVITATIONS, ended=True))["tenant"]["invitations"][
        "edges"
    ]
    assert ended["node"]["state"] == "REVOKED" and ended["node"]["mail"] == "GIVEN_UP"
    listed = (await team.client.data(team.tokens[Role.ADMIN], INVITATIONS, ended=False))["tenant"]["invitations"]
    assert (listed["totalCount"], listed["edges"]) == (0, [])
    actions = [action for _, action, _ in await trail(web.settings, team.tenant)]
    assert [a for a in actions if a.startswith("invitation.")] == [
        "invitation.create", "invitation.resend", "invitation.revoke",
    ]  # fmt: skip


async def test_no_answer_holds_a_link(team: Team, database: Database, web: RunningWeb) -> None:
    made = await team.client.ask(
        team.tokens[Role.OWNER], INVITE, input={"email": "secret@example.com", "role": "VIEWER"}
    )
    listed = await team.client.ask(team.tokens[Role.OWNER], INVITATIONS, ended=True)
    assert "cm_inv_" not in made.text + listed.text
    every = await list_messages(
        database, web.settings.master_key_bytes(), tenant_id=team.tenant.id, has_all=True, most=10
    )
    assert "cm_inv_" in every[0].text and "cm_inv_" not in web.log.read_text()


async def test_another_tenants_ids_are_answered_as_missing_ones(team: Team, client: Client, database: Database) -> None:
    other = await Team.of(client, database, await make_tenant(database, f"other-{team.tenant.slug}"))
    theirs = (await other.act(Role.OWNER, INVITE, email="theirs@example.com", role="VIEWER"))["invitation"]["id"]
    nowhere = "00000000-0000-4000-8000-000000000000"
    for member, invitation in (
        (other.ids[Role.VIEWER], theirs),
        (global_id("Member", nowhere), global_id("Invitation", nowhere)),
        (theirs, other.ids[Role.VIEWER]),
        ("-1", "nonsense"),
    ):
        answers = [
            await team.act(Role.OWNER, CHANGE, id=member, role="ADMIN"),
            await team.act(Role.OWNER, REMOVE, id=member),
            await team.act(Role.OWNER, RESEND, id=invitation),
            await team.act(Role.OWNER, REVOKE, id=invitation),
        ]
        words = [f"There is no {kind} with that id." for kind in ("Member", "Member", "Invitation", "Invitation")]
        assert [(a["__typename"], a["message"], a["path"]) for a in answers] == [
            ("NotFound", word, ["input", "id"]) for word in words
        ]
        for id in (member, invitation):
            assert (await client.data(team.tokens[Role.OWNER], NODE, id=id))["node"] is None
    assert len(await other.members(Role.OWNER)) == 4


async def test_keys_with_the_scope_admin_manage_members_and_others_see_none(
    team: Team, database: Database, settings: Settings
) -> None:
    _, admin = await make_key(database, settings, team.tenant, scopes=frozenset({Scope.ADMIN}))
    _, reader = await make_key(database, settings, team.tenant, scopes=frozenset({Scope.METRICS_READ}))
    client = team.client
    made = (await client.data(admin, INVITE, input={"email": "bykey@example.com", "role": "ADMIN"}))["inviteMember"]
    assert made["invitation"]["state"] == "OPEN"
    refused = (await client.data(admin, INVITE, input={"email": "x@example.com", "role": "OWNER"}))["inviteMember"]
    assert refused["__typename"] == "PermissionDenied"
    assert (await client.ask(reader, MEMBERS)).json()["errors"][0]["extensions"]["code"] == "PERMISSION_DENIED"
    left = (await client.data(admin, LEAVE, input={"slug": team.tenant.slug}))["leaveTenant"]
    assert left["__typename"] == "PermissionDenied"


async def test_bad_addresses_are_refused_by_field(team: Team) -> None:
    for email in ("", "x", "a@b.c\r\nBcc: d@e.f", "a" * 5000, "\u0000@b.c", "a@b..c"):
        answer = await team.act(Role.OWNER, INVITE, email=email, role="VIEWER")
        assert (answer["__typename"], answer["reason"], answer["path"]) == (
            "ValidationError", "bad_email", ["input", "email"],
        )  # fmt: skip
