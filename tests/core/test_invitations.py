"""Invitations: who may make them, that they are told by mail alone, and how many a tier has."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from core.database import Database, as_owner
from core.errors import BadInput, CloudMetricsError, Conflict, NotFound, PermissionDenied, TooMany
from core.invitations import (
    InvitationState,
    Issued,
    count_invitations,
    invite_member,
    list_invitations,
    load_invitations,
    resend_invitation,
    revoke_invitation,
)
from core.members import Authority, change_member_role
from core.outbox import MessageState, OutboxMessage, list_messages
from core.permissions import Role
from core.settings import Settings
from core.tenancy import Tenant, Tier
from tests.core.people_builder import as_member, make_member, make_person, make_tenant


async def invite(
    database: Database, settings: Settings, tenant: Tenant, email: str = "new@example.com", role: Role = Role.VIEWER
) -> Issued:
    return await invite_member(database, settings, Authority.operator(tenant.id), email, role)


async def outbox(database: Database, settings: Settings, tenant: Tenant) -> list[OutboxMessage]:
    return await list_messages(database, settings.master_key_bytes(), tenant_id=tenant.id, has_all=True, most=100)


async def backdate(settings: Settings, tenant: Tenant, **columns: timedelta) -> None:
    """As if the tenant's invitations were older."""
    async with as_owner(settings.app_url) as connection:
        await connection.execute("SELECT set_config('app.current_tenant', $1, false)", str(tenant.id))
        for column, by in columns.items():
            await connection.execute(f"UPDATE invitations SET {column} = {column} - $1::interval", by)


async def test_an_invitation_goes_by_mail_and_its_token_is_kept_as_a_hash(
    settings: Settings, database: Database, tenant: Tenant
) -> None:
    owner = await make_member(database, tenant, Role.OWNER, name="Zoë")
    issued = await invite_member(database, settings, as_member(tenant, owner), " New@Example.COM ", Role.EDITOR)
    invitation = issued.invitation
    assert (invitation.email, invitation.role, invitation.state) == (
        "new@example.com", Role.EDITOR, InvitationState.OPEN,
    )  # fmt: skip
    assert invitation.invited_by == f"person:{owner.person_id}" and invitation.mail is MessageState.WAITING
    assert timedelta(days=6.9) < invitation.expires_at - datetime.now(UTC) < timedelta(days=7)
    (message,) = await outbox(database, settings, tenant)
    assert issued.link.startswith("http://127.0.0.1:8000/auth/invitation?token=cm_inv_")
    assert issued.link in message.text and message.recipient == "new@example.com"
    assert message.text.startswith("Zoë invites you to Test on CloudMetrics, as editor.")
    token = issued.link.partition("token=")[2].encode()
    async with as_owner(settings.doorkeeper_url) as connection:
        kept = await connection.fetchval("SELECT string_agg(i::text, '') FROM invitations i")
    assert token not in kept.encode()


@pytest.mark.parametrize(
    ("actor", "role", "may"),
    [
        (Role.OWNER, Role.OWNER, True),
        (Role.ADMIN, Role.ADMIN, True),
        (Role.ADMIN, Role.OWNER, False),
        (Role.EDITOR, Role.VIEWER, False),
        (Role.VIEWER, Role.VIEWER, False),
    ],
)
async def test_who_may_invite_whom(
    settings: Settings, database: Database, tenant: Tenant, actor: Role, role: Role, may: bool
) -> None:
    member = await make_member(database, tenant, actor)
    inviting = invite_member(database, settings, as_member(tenant, member), "new@example.com", role)
    if may:
        await inviting
    else:
        with pytest.raises(PermissionDenied):
            await inviting
        assert await outbox(database, settings, tenant) == []


@pytest.mark.parametrize(
    "email", ["", "x", "a@b", "a@b.c\r\nBcc: d@e.f", "a,b@c.example", "ä@b.example", "a" * 300 + "@b.c"]
)
async def test_an_address_that_is_none_is_refused(
    settings: Settings, database: Database, tenant: Tenant, email: str
) -> None:
    with pytest.raises(BadInput) as refusal:
        await invite(database, settings, tenant, email)
    assert refusal.value.field == "email"


async def test_an_address_that_has_an_account_elsewhere_is_answered_as_any_other(
    settings: Settings, database: Database, tenant: Tenant
) -> None:
    await make_person(database, email="known@example.com")
    known = (await invite(database, settings, tenant, "known@example.com")).invitation
    fresh = (await invite(database, settings, tenant, "fresh@example.com")).invitation
    for field in ("role", "state", "mail", "invited_by", "revoked_at", "accepted_at"):
        assert getattr(known, field) == getattr(fresh, field)
    texts = [message.text.partition("cm_inv_")[0] for message in await outbox(database, settings, tenant)]
    assert texts[0] == texts[1]


async def test_members_and_invited_ones_are_not_invited_again_until_the_invitation_has_ended(
    settings: Settings, database: Database, tenant: Tenant
) -> None:
    await make_member(database, tenant, Role.VIEWER, email="member@example.com")
    with pytest.raises(Conflict) as refusal:
        await invite(database, settings, tenant, "member@example.com")
    assert refusal.value.code == "already_a_member"
    first = await invite(database, settings, tenant)
    with pytest.raises(Conflict) as refusal:
        await invite(database, settings, tenant)
    assert refusal.value.code == "already_invited"
    await backdate(settings, tenant, expires_at=timedelta(days=8))
    second = await invite(database, settings, tenant)
    (before,) = await load_invitations(database, tenant.id, [first.invitation.id])
    assert before is not None and before.state is InvitationState.REVOKED
    await revoke_invitation(database, Authority.operator(tenant.id), second.invitation.id)
    await invite(database, settings, tenant)
    assert await count_invitations(database, tenant.id, False) == 1
    assert await count_invitations(database, tenant.id, True) == 3


async def test_sent_again_it_has_another_link_and_seven_days_more(
    settings: Settings, database: Database, tenant: Tenant
) -> None:
    authority = Authority.operator(tenant.id)
    first = await invite(database, settings, tenant)
    with pytest.raises(TooMany):
        await resend_invitation(database, settings, authority, first.invitation.id)
    await backdate(settings, tenant, sent_at=timedelta(minutes=2), expires_at=timedelta(days=8))
    again = await resend_invitation(database, settings, authority, first.invitation.id)
    assert again.link != first.link and again.invitation.state is InvitationState.OPEN
    newest, before = await outbox(database, settings, tenant)
    assert again.link in newest.text and newest.state is MessageState.WAITING
    assert before.state is MessageState.GIVEN_UP and "another link" in before.last_error


async def test_what_has_ended_is_neither_sent_nor_revoked_again(
    settings: Settings, database: Database, tenant: Tenant
) -> None:
    authority = Authority.operator(tenant.id)
    issued = await invite(database, settings, tenant)
    assert (await revoke_invitation(database, authority, issued.invitation.id)).state is InvitationState.REVOKED
    assert (await outbox(database, settings, tenant))[0].state is MessageState.GIVEN_UP
    for attempt in (
        revoke_invitation(database, authority, issued.invitation.id),
        resend_invitation(database, settings, authority, issued.invitation.id),
    ):
        with pytest.raises(Conflict) as refusal:
            await attempt
        assert refusal.value.code == "invitation_ended"


async def test_an_owners_invitation_is_sent_again_by_owners_alone(
    settings: Settings, database: Database, tenant: Tenant
) -> None:
    await make_member(database, tenant, Role.OWNER)
    admin = await make_member(database, tenant, Role.ADMIN)
    issued = await invite(database, settings, tenant, role=Role.OWNER)
    await backdate(settings, tenant, sent_at=timedelta(minutes=2))
    with pytest.raises(PermissionDenied):
        await resend_invitation(database, settings, as_member(tenant, admin), issued.invitation.id)


async def test_whoever_comes_down_has_no_open_invitations_left(
    settings: Settings, database: Database, tenant: Tenant
) -> None:
    owner, admin = await make_member(database, tenant, Role.OWNER), await make_member(database, tenant, Role.ADMIN)
    issued = await invite_member(database, settings, as_member(tenant, admin), "crony@example.com", Role.ADMIN)
    await change_member_role(database, as_member(tenant, owner), admin.person_id, Role.EDITOR)
    (invitation,) = await load_invitations(database, tenant.id, [issued.invitation.id])
    assert invitation is not None and invitation.state is InvitationState.REVOKED
    (message,) = await outbox(database, settings, tenant)
    assert (message.state, invitation.mail) == (MessageState.GIVEN_UP, MessageState.GIVEN_UP)


async def test_another_tenants_invitation_is_answered_as_none(
    settings: Settings, database: Database, tenant: Tenant
) -> None:
    other = await make_tenant(database, f"other-{tenant.slug}")
    issued = await invite(database, settings, other)
    authority = Authority.operator(tenant.id)
    for attempt in (
        revoke_invitation(database, authority, issued.invitation.id),
        resend_invitation(database, settings, authority, issued.invitation.id),
    ):
        with pytest.raises(NotFound, match="There is no Invitation with that id"):
            await attempt
    assert await load_invitations(database, tenant.id, [issued.invitation.id]) == [None]
    assert await list_invitations(database, tenant.id, most=10, has_all=True, before=None) == []


async def test_a_tier_has_so_many_members_open_invitations_included_however_many_come_at_once(
    settings: Settings, database: Database, tenant: Tenant
) -> None:
    free = await make_tenant(database, f"free-{tenant.slug}", Tier.FREE)
    await make_member(database, free, Role.OWNER)
    done = await asyncio.gather(
        *(invite(database, settings, free, f"n{n}@example.com") for n in range(6)), return_exceptions=True
    )
    made = [outcome for outcome in done if isinstance(outcome, Issued)]
    refused = [outcome for outcome in done if isinstance(outcome, TooMany)]
    assert (len(made), len(refused)) == (2, 4) and {error.code for error in refused} == {"member_limit"}
    await revoke_invitation(database, Authority.operator(free.id), made[0].invitation.id)
    await invite(database, settings, free, "late@example.com")


async def test_a_tenant_fills_no_mailboxes(
    settings: Settings, database: Database, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("core.invitations.MOST_A_DAY", 2)
    for n in range(2):
        await invite(database, settings, tenant, f"n{n}@example.com")
    with pytest.raises(CloudMetricsError) as refusal:
        await invite(database, settings, tenant, "third@example.com")
    assert refusal.value.code == "invitation_limit"


async def test_invitations_come_page_by_page_newest_first(
    settings: Settings, database: Database, tenant: Tenant
) -> None:
    made = [(await invite(database, settings, tenant, f"n{n}@example.com")).invitation.id for n in range(5)]
    page = await list_invitations(database, tenant.id, most=3, has_all=False, before=None)
    rest = await list_invitations(database, tenant.id, most=3, has_all=False, before=(page[-1].created_at, page[-1].id))
    assert [invitation.id for invitation in page + rest] == made[::-1]
