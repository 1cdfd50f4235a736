"""Members: the rules of changing them, one by one and all at once."""

from __future__ import annotations

import asyncio
import json

import pytest

from core.api_keys import revoke_key
from core.audit import Author
from core.database import Database, as_owner
from core.errors import CloudMetricsError, Conflict, NotFound, PermissionDenied
from core.invitations import InvitationState, invite_member, load_invitations
from core.members import (
    Authority,
    Member,
    change_member_role,
    count_members,
    find_member,
    leave_tenant,
    list_members,
    load_members,
    remove_member,
)
from core.permissions import Role, Scope
from core.sessions import open_session
from core.settings import Settings
from core.tenancy import Principal, Tenant
from tests.conftest import make_key
from tests.core.people_builder import as_member, join, make_member, make_person, make_tenant


async def roles(database: Database, tenant: Tenant) -> dict[str, Role]:
    found = await list_members(database, tenant.id, most=100, search="", after=None)
    return {member.email: member.role for member in found}


async def trail(settings: Settings, tenant: Tenant) -> list[tuple[str, str, str]]:
    """The tenant's audit entries: actor, action, subject."""
    async with as_owner(settings.app_url) as connection:
        await connection.execute("SELECT set_config('app.current_tenant', $1, false)", str(tenant.id))
        return [
            tuple(row) for row in await connection.fetch("SELECT actor, action, subject FROM audit_log ORDER BY id")
        ]


@pytest.mark.parametrize(
    ("actor", "target", "to", "refusal"),
    [
        (Role.OWNER, Role.VIEWER, Role.OWNER, None),
        (Role.OWNER, Role.OWNER, Role.VIEWER, None),
        (Role.OWNER, Role.ADMIN, Role.EDITOR, None),
        (Role.ADMIN, Role.VIEWER, Role.ADMIN, None),
        (Role.ADMIN, Role.ADMIN, Role.VIEWER, None),
        (Role.ADMIN, Role.VIEWER, Role.OWNER, PermissionDenied),
        (Role.ADMIN, Role.OWNER, Role.VIEWER, PermissionDenied),
        (Role.ADMIN, Role.OWNER, None, PermissionDenied),
        (Role.ADMIN, Role.EDITOR, None, None),
        (Role.OWNER, Role.OWNER, None, None),
        (Role.EDITOR, Role.VIEWER, Role.VIEWER, PermissionDenied),
        (Role.EDITOR, Role.VIEWER, None, PermissionDenied),
        (Role.VIEWER, Role.VIEWER, Role.EDITOR, PermissionDenied),
        (Role.VIEWER, Role.VIEWER, None, PermissionDenied),
    ],
)
async def test_who_may_change_and_remove_whom(
    settings: Settings,
    database: Database,
    tenant: Tenant,
    actor: Role,
    target: Role,
    to: Role | None,
    refusal: type[CloudMetricsError] | None,
) -> None:
    """`to` None: removed."""
    await make_member(database, tenant, Role.OWNER)
    who, whom = await make_member(database, tenant, actor), await make_member(database, tenant, target)

    async def act() -> None:
        if to is None:
            await remove_member(database, as_member(tenant, who), whom.person_id)
        else:
            await change_member_role(database, as_member(tenant, who), whom.person_id, to)

    if refusal:
        with pytest.raises(refusal):
            await act()
        assert (await roles(database, tenant))[whom.email] is target
    else:
        await act()
        assert (await roles(database, tenant)).get(whom.email) is to
        action = "member.remove" if to is None else "member.change_role"
        assert (f"person:{who.person_id}", action, f"person:{whom.person_id}") in await trail(settings, tenant)


async def test_nobody_raises_himself_and_an_admin_may_step_down(database: Database, tenant: Tenant) -> None:
    await make_member(database, tenant, Role.OWNER)
    admin = await make_member(database, tenant, Role.ADMIN)
    with pytest.raises(PermissionDenied):
        await change_member_role(database, as_member(tenant, admin), admin.person_id, Role.OWNER)
    lowered = await change_member_role(database, as_member(tenant, admin), admin.person_id, Role.VIEWER)
    assert lowered.role is Role.VIEWER
    with pytest.raises(PermissionDenied):
        await change_member_role(database, as_member(tenant, lowered), admin.person_id, Role.ADMIN)


async def test_what_counts_is_what_a_member_is_now_and_not_when_its_request_began(
    database: Database, tenant: Tenant
) -> None:
    owner, viewer = await make_member(database, tenant, Role.OWNER), await make_member(database, tenant, Role.VIEWER)
    admin = await make_member(database, tenant, Role.ADMIN)
    before = as_member(tenant, admin)
    await change_member_role(database, as_member(tenant, owner), admin.person_id, Role.EDITOR)
    with pytest.raises(PermissionDenied):
        await change_member_role(database, before, viewer.person_id, Role.EDITOR)
    with pytest.raises(PermissionDenied):
        await remove_member(database, before, viewer.person_id)


async def test_the_last_owner_stays_whatever_it_tries(database: Database, tenant: Tenant) -> None:
    owner = await make_member(database, tenant, Role.OWNER)
    authority = as_member(tenant, owner)
    for attempt in (
        change_member_role(database, authority, owner.person_id, Role.ADMIN),
        remove_member(database, authority, owner.person_id),
        leave_tenant(database, authority),
        remove_member(database, Authority.operator(tenant.id), owner.person_id),
    ):
        with pytest.raises(Conflict) as refusal:
            await attempt
        assert refusal.value.code == "last_owner"


async def test_an_owner_who_cannot_sign_in_is_no_reason_to_let_the_last_one_go(
    settings: Settings, database: Database, tenant: Tenant
) -> None:
    owner, disabled = await make_member(database, tenant, Role.OWNER), await make_member(database, tenant, Role.OWNER)
    async with as_owner(settings.doorkeeper_url) as connection:
        await connection.execute("UPDATE people SET disabled_at = now() WHERE id = $1", disabled.person_id)
    with pytest.raises(Conflict):
        await leave_tenant(database, as_member(tenant, owner))
    await remove_member(database, as_member(tenant, owner), disabled.person_id)


@pytest.mark.parametrize("action", ["demote", "remove", "leave"])
async def test_owners_who_end_each_other_at_once_leave_one(database: Database, tenant: Tenant, action: str) -> None:
    for n in range(8):
        arena = await make_tenant(database, f"{tenant.slug}-{n}")
        first, second = await make_member(database, arena, Role.OWNER), await make_member(database, arena, Role.OWNER)

        async def act(who: Member, whom: Member) -> None:
            authority = as_member(arena, who)  # noqa: B023
            if action == "demote":
                await change_member_role(database, authority, whom.person_id, Role.VIEWER)
            elif action == "remove":
                await remove_member(database, authority, whom.person_id)
            else:
                await leave_tenant(database, authority)

        done = await asyncio.gather(act(first, second), act(second, first), return_exceptions=True)
        (refusal,) = [outcome for outcome in done if outcome is not None]
        assert isinstance(refusal, (PermissionDenied, Conflict)), refusal
        assert [role for role in (await roles(database, arena)).values() if role is Role.OWNER] == [Role.OWNER]


async def test_a_removed_member_loses_its_sessions_here_and_no_others_and_its_invitations(
    settings: Settings, database: Database, tenant: Tenant
) -> None:
    other = await make_tenant(database, f"other-{tenant.slug}")
    owner = await make_member(database, tenant, Role.OWNER)
    admin = await make_member(database, tenant, Role.ADMIN)
    await join(database, other, admin.person_id, Role.OWNER)
    opened = [
        await open_session(
            database, settings, person_id=admin.person_id, tenant_id=where.id, method="password", address="", agent="",
            locked=False,
        )
        for where in (tenant, tenant, other)
    ]  # fmt: skip
    issued = await invite_member(database, settings, as_member(tenant, admin), "friend@example.com", Role.ADMIN)
    (seen,) = await load_members(database, tenant.id, [admin.person_id])
    assert seen is not None and seen.last_seen_at is not None

    await remove_member(database, as_member(tenant, owner), admin.person_id)
    async with as_owner(settings.doorkeeper_url) as connection:
        live = await connection.fetch(
            "SELECT tenant_id FROM sessions WHERE person_id = $1 AND revoked_at IS NULL", admin.person_id
        )
    assert [row["tenant_id"] for row in live] == [other.id]
    assert (f"person:{owner.person_id}", "member.remove", f"person:{admin.person_id}") in await trail(settings, tenant)
    async with as_owner(settings.app_url) as connection:
        await connection.execute("SELECT set_config('app.current_tenant', $1, false)", str(tenant.id))
        diff = await connection.fetchval("SELECT diff FROM audit_log WHERE action = 'member.remove'")
    assert set(json.loads(diff)["sessions"]) == {str(one.session_id) for one in opened[:2]}
    (invitation,) = await load_invitations(database, tenant.id, [issued.invitation.id])
    assert invitation is not None and invitation.state is InvitationState.REVOKED
    with pytest.raises(PermissionDenied):
        await invite_member(database, settings, as_member(tenant, admin), "again@example.com", Role.VIEWER)


async def test_a_tenant_that_is_to_be_deleted_changes_no_more(
    settings: Settings, database: Database, tenant: Tenant
) -> None:
    owner, viewer = await make_member(database, tenant, Role.OWNER), await make_member(database, tenant, Role.VIEWER)
    async with as_owner(settings.app_url) as connection:
        await connection.execute("SELECT set_config('app.current_tenant', $1, false)", str(tenant.id))
        await connection.execute("UPDATE tenants SET ends_at = now() + interval '7 days'")
    for attempt in (
        change_member_role(database, as_member(tenant, owner), viewer.person_id, Role.ADMIN),
        remove_member(database, as_member(tenant, owner), viewer.person_id),
        invite_member(database, settings, as_member(tenant, owner), "new@example.com", Role.VIEWER),
    ):
        with pytest.raises(PermissionDenied, match="to be deleted"):
            await attempt
    await remove_member(database, Authority.operator(tenant.id), viewer.person_id)


async def test_another_tenants_member_is_nobody(database: Database, tenant: Tenant) -> None:
    other = await make_tenant(database, f"far-{tenant.slug}")
    owner, stranger = await make_member(database, tenant, Role.OWNER), await make_member(database, other, Role.VIEWER)
    nobody = await make_person(database)
    words = set()
    for person_id in (stranger.person_id, nobody):
        with pytest.raises(NotFound) as refusal:
            await remove_member(database, as_member(tenant, owner), person_id)
        words.add(refusal.value.message)
        with pytest.raises(NotFound) as refusal:
            await change_member_role(database, as_member(tenant, owner), person_id, Role.ADMIN)
        words.add(refusal.value.message)
    assert words == {"There is no Member with that id."}
    assert await load_members(database, tenant.id, [stranger.person_id]) == [None]


async def test_a_key_changes_members_but_makes_no_owner_and_cannot_leave_and_not_once_it_is_revoked(
    settings: Settings, database: Database, tenant: Tenant
) -> None:
    owner, viewer = await make_member(database, tenant, Role.OWNER), await make_member(database, tenant, Role.VIEWER)
    made, _ = await make_key(database, settings, tenant, scopes=frozenset({Scope.ADMIN}))
    key = Authority.of(Principal.of_key(tenant, made.id, made.scopes), "request-1")
    assert (await change_member_role(database, key, viewer.person_id, Role.ADMIN)).role is Role.ADMIN
    for attempt in (
        change_member_role(database, key, viewer.person_id, Role.OWNER),
        remove_member(database, key, owner.person_id),
        leave_tenant(database, key),
    ):
        with pytest.raises(PermissionDenied):
            await attempt
    await revoke_key(database, tenant.id, made.id, Authority.operator(tenant.id).author)
    with pytest.raises(PermissionDenied):
        await change_member_role(database, key, viewer.person_id, Role.VIEWER)


async def test_the_operator_names_a_member_by_its_address_or_its_id(
    settings: Settings, database: Database, tenant: Tenant
) -> None:
    ada = await make_member(database, tenant, Role.VIEWER, email="ada-named@example.com")
    for name in (ada.email, str(ada.person_id)):
        assert (await find_member(database, tenant.id, name)).person_id == ada.person_id
    with pytest.raises(NotFound):
        await find_member(database, tenant.id, "nobody")
    # Two whose identity provider says the same of them.
    async with as_owner(settings.app_url) as connection:
        await connection.execute("SELECT set_config('app.current_tenant', $1, false)", str(tenant.id))
        for _ in range(2):
            await connection.execute(
                "INSERT INTO people (id, name, home_tenant_id, asserted_email) "
                "VALUES (gen_random_uuid(), 'Twin', $1, 'twin@example.com')",
                tenant.id,
            )
        async with as_owner(settings.doorkeeper_url) as doorkeeper:
            twins = await doorkeeper.fetch("SELECT id FROM people WHERE asserted_email = 'twin@example.com'")
        for twin in twins:
            await connection.execute(
                "INSERT INTO members (tenant_id, person_id, role) VALUES ($1, $2, 'viewer')", tenant.id, twin["id"]
            )
    with pytest.raises(Conflict, match="by its id"):
        await find_member(database, tenant.id, "twin@example.com")


async def test_a_key_that_was_revoked_leaves_no_open_invitations_and_makes_none(
    database: Database, settings: Settings, tenant: Tenant
) -> None:
    made, _ = await make_key(database, settings, tenant, scopes=frozenset({Scope.ADMIN}))
    other, _ = await make_key(database, settings, tenant, scopes=frozenset({Scope.ADMIN}))
    issued = []
    for key in (made, other):
        authority = Authority.of(Principal.of_key(tenant, key.id, key.scopes), "request-1")
        issued.append(await invite_member(database, settings, authority, f"{key.id}@example.com".lower(), Role.ADMIN))
    await revoke_key(database, tenant.id, made.id, Author.operator(tenant.id))
    found = await load_invitations(database, tenant.id, [one.invitation.id for one in issued])
    assert [one and one.state for one in found] == [InvitationState.REVOKED, InvitationState.OPEN]
    # The door may know the key for some seconds more.
    late = Authority.of(Principal.of_key(tenant, made.id, made.scopes), "request-2")
    with pytest.raises(PermissionDenied):
        await invite_member(database, settings, late, "late@example.com", Role.ADMIN)


async def test_members_come_page_by_page_and_by_a_part_of_the_name(database: Database, tenant: Tenant) -> None:
    made = [await make_member(database, tenant, Role.VIEWER, name=f"Zoë {n}") for n in range(5)]
    await make_member(database, tenant, Role.OWNER, name="100% Bob_")
    page = await list_members(database, tenant.id, most=3, search="zoË", after=None)
    rest = await list_members(database, tenant.id, most=3, search="zoË", after=(page[-1].since, page[-1].person_id))
    assert [m.person_id for m in page + rest] == [m.person_id for m in made]
    assert await count_members(database, tenant.id, "%") == await count_members(database, tenant.id, "b_") == 1
