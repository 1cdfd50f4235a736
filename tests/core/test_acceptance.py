"""Accepting an invitation: who proves what, once, in the one tenant it is of."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import asyncpg
import pytest

from core.acceptance import Accepted, Answer, accept_invitation, find_invitation, invalid_link
from core.database import Database, as_owner
from core.errors import BadInput, Conflict, PermissionDenied, TooMany, Unauthenticated
from core.invitations import InvitationState, invite_member, load_invitations, resend_invitation, revoke_invitation
from core.members import Authority, list_members
from core.outbox import MessageState
from core.passwords import Passwords
from core.people import find_person, find_person_by_email
from core.permissions import Role
from core.settings import Settings
from core.tenancy import Tenant, Tier
from tests.core.people_builder import PASSWORD, join, make_member, make_person, make_tenant
from tests.core.test_invitations import backdate, outbox
from tests.core.test_members import trail

NEW_PASSWORD = "nine herons cross 2 fields"


@pytest.fixture
async def passwords() -> AsyncIterator[Passwords]:
    passwords = Passwords()
    yield passwords
    await passwords.close()


async def token_for(
    database: Database, settings: Settings, tenant: Tenant, email: str, role: Role = Role.EDITOR
) -> str:
    issued = await invite_member(database, settings, Authority.operator(tenant.id), email, role)
    return issued.link.partition("token=")[2]


async def accept(
    database: Database, passwords: Passwords, token: str, name: str = "New", password: str = NEW_PASSWORD
) -> Accepted:
    answer = Answer(token=token, name=name, password=password)
    return await accept_invitation(database, passwords, answer, "request-1")


async def names(database: Database, tenant: Tenant) -> list[tuple[str, Role]]:
    found = await list_members(database, tenant.id, most=100, search="", after=None)
    return [(member.email, member.role) for member in found]


async def set_end(settings: Settings, tenant: Tenant) -> None:
    """As if an owner had asked for the tenant's deletion."""
    async with as_owner(settings.app_url) as connection:
        await connection.execute("SELECT set_config('app.current_tenant', $1, false)", str(tenant.id))
        await connection.execute("UPDATE tenants SET ends_at = now() + interval '7 days'")


async def test_a_new_person_is_made_with_name_and_password_and_it_is_in_the_trail(
    settings: Settings, database: Database, tenant: Tenant, passwords: Passwords
) -> None:
    token = await token_for(database, settings, tenant, "new1@example.com")
    accepted = await accept(database, passwords, token, "Ada L.")
    assert (accepted.tenant.id, accepted.role, accepted.email) == (tenant.id, Role.EDITOR, "new1@example.com")
    person = await find_person_by_email(database, "new1@example.com")
    assert person is not None and (person.id, person.name) == (accepted.person_id, "Ada L.")
    assert (await passwords.verified(NEW_PASSWORD, person.password_hash)).is_good
    assert await names(database, tenant) == [("new1@example.com", Role.EDITOR)]
    (message,) = await outbox(database, settings, tenant)
    assert (message.state, message.last_error) == (MessageState.GIVEN_UP, "the invitation was accepted")
    assert [entry[:2] for entry in await trail(settings, tenant)][-1] == (
        f"person:{person.id}", "invitation.accept",
    )  # fmt: skip


async def test_a_link_is_good_once_even_for_two_at_once(
    settings: Settings, database: Database, tenant: Tenant, passwords: Passwords
) -> None:
    token = await token_for(database, settings, tenant, "new2@example.com")
    done = await asyncio.gather(*(accept(database, passwords, token) for _ in range(4)), return_exceptions=True)
    assert len([outcome for outcome in done if isinstance(outcome, Accepted)]) == 1, done
    refusals = [outcome for outcome in done if not isinstance(outcome, Accepted)]
    assert all(isinstance(r, (BadInput, Conflict)) and r.code in ("invalid_link", "try_again") for r in refusals), done
    with pytest.raises(BadInput) as refusal:
        await accept(database, passwords, token)
    assert refusal.value.code == "invalid_link"


async def test_a_person_who_is_there_proves_it_by_its_password(
    settings: Settings, database: Database, tenant: Tenant, passwords: Passwords
) -> None:
    person_id = await make_person(database, email="known3@example.com", name="Known", has_password=True)
    token = await token_for(database, settings, tenant, "known3@example.com")
    with pytest.raises(Unauthenticated) as refusal:
        await accept(database, passwords, token, "Mallory", NEW_PASSWORD)
    assert refusal.value.code == "wrong_password"
    assert (await accept(database, passwords, token, "Mallory", PASSWORD)).person_id == person_id
    person = await find_person(database, person_id)
    assert person is not None and person.name == "Known"


async def test_or_by_being_signed_in_with_that_address_and_no_other(
    settings: Settings, database: Database, tenant: Tenant, passwords: Passwords
) -> None:
    known, other = await make_person(database, email="known4@example.com"), await make_person(database)
    token = await token_for(database, settings, tenant, "known4@example.com")
    for person_id, is_good in ((other, False), (known, True)):
        answer = Answer(token=token, signed_in=await find_person(database, person_id))
        if is_good:
            assert (await accept_invitation(database, passwords, answer, "request-1")).person_id == known
        else:
            with pytest.raises(PermissionDenied) as refusal:
                await accept_invitation(database, passwords, answer, "request-1")
            assert refusal.value.code == "other_address"


async def test_a_person_without_a_password_or_disabled_is_not_let_in_by_any(
    settings: Settings, database: Database, tenant: Tenant, passwords: Passwords
) -> None:
    await make_person(database, email="sso5@example.com")
    disabled = await make_person(database, email="off5@example.com", has_password=True)
    async with as_owner(settings.doorkeeper_url) as connection:
        await connection.execute("UPDATE people SET disabled_at = now() WHERE id = $1", disabled)
    for email in ("sso5@example.com", "off5@example.com"):
        token = await token_for(database, settings, tenant, email)
        with pytest.raises(Unauthenticated):
            await accept(database, passwords, token, "X", PASSWORD)
    assert await names(database, tenant) == []


@pytest.mark.parametrize("end", ["revoked", "expired", "resent", "unknown", "malformed", "of another kind", "ending"])
async def test_a_link_that_is_not_good_is_told_apart_from_no_other(
    settings: Settings, database: Database, tenant: Tenant, passwords: Passwords, end: str
) -> None:
    email, authority = f"{end.replace(' ', '')}6@example.com", Authority.operator(tenant.id)
    issued = await invite_member(database, settings, authority, email, Role.VIEWER)
    token = issued.link.partition("token=")[2]
    match end:
        case "revoked":
            await revoke_invitation(database, authority, issued.invitation.id)
        case "expired":
            await backdate(settings, tenant, expires_at=timedelta(days=7))
        case "resent":
            await backdate(settings, tenant, sent_at=timedelta(minutes=2))
            await resend_invitation(database, settings, authority, issued.invitation.id)
        case "ending":
            await set_end(settings, tenant)
        case "unknown":
            token = token[:-5] + "AAAAA"
        case "malformed":
            token = "cm_inv_\x00' OR 1=1"
        case _:
            token = token.replace("cm_inv_", "cm_rst_")
    for attempt in (accept(database, passwords, token), find_invitation(database, token)):
        with pytest.raises(BadInput) as refusal:
            await attempt
        assert refusal.value.code == "invalid_link" and refusal.value.message == invalid_link().message
    assert await find_person_by_email(database, email) is None


@pytest.mark.parametrize(
    ("name", "password", "field"),
    [("", NEW_PASSWORD, "name"), ("a\x00b", NEW_PASSWORD, "name"), ("New", "short", "password"),
     ("New", "password1234567", "password")],
)  # fmt: skip
async def test_what_a_new_person_cannot_have_is_refused_and_the_link_stays_good(
    settings: Settings, database: Database, tenant: Tenant, passwords: Passwords, name: str, password: str, field: str
) -> None:
    token = await token_for(database, settings, tenant, f"n{len(name)}{len(password)}@example.com")
    with pytest.raises(BadInput) as refusal:
        await accept(database, passwords, token, name, password)
    assert refusal.value.field == field
    await find_invitation(database, token)


async def test_an_invitation_of_one_tenant_makes_members_of_no_other(
    settings: Settings, database: Database, tenant: Tenant, passwords: Passwords
) -> None:
    other = await make_tenant(database, f"other-{tenant.slug}")
    person_id = await make_person(database, email="both8@example.com", has_password=True)
    await join(database, other, person_id, Role.VIEWER)
    before = await names(database, other)
    token = await token_for(database, settings, tenant, "both8@example.com", Role.ADMIN)
    await accept(database, passwords, token, "", PASSWORD)
    assert await names(database, tenant) == [("both8@example.com", Role.ADMIN)]
    assert await names(database, other) == before
    assert [action for _, action, _ in await trail(settings, other)] == ["tenant.create"]


async def test_the_tiers_limit_holds_however_many_accept_at_once_and_the_others_links_stay_good(
    settings: Settings, database: Database, tenant: Tenant, passwords: Passwords
) -> None:
    small = await make_tenant(database, f"small-{tenant.slug}", Tier.PRO)
    await make_member(database, small, Role.OWNER)
    emails = [f"many{n}@example.com" for n in range(6)]
    tokens = [await token_for(database, settings, small, email) for email in emails]
    # What the tenant pays for comes down while invitations are open.
    async with as_owner(settings.app_url) as connection:
        await connection.execute("SELECT set_config('app.current_tenant', $1, false)", str(small.id))
        await connection.execute("UPDATE tenants SET tier = 'free'")
    done = await asyncio.gather(*(accept(database, passwords, token) for token in tokens), return_exceptions=True)
    made = [outcome for outcome in done if isinstance(outcome, Accepted)]
    refused = [outcome for outcome in done if isinstance(outcome, TooMany)]
    assert (len(made), len(refused)) == (2, 4), done
    assert len(await names(database, small)) == 3
    for token, outcome in zip(tokens, done, strict=True):
        if isinstance(outcome, TooMany):
            assert outcome.code == "member_limit"
            await find_invitation(database, token)
    left = set(emails) - {outcome.email for outcome in made}
    assert [await find_person_by_email(database, email) for email in left] == [None] * 4, "nobody half made"


async def test_a_member_is_not_made_twice(
    settings: Settings, database: Database, tenant: Tenant, passwords: Passwords
) -> None:
    token = await token_for(database, settings, tenant, "late9@example.com")
    person_id = await make_person(database, email="late9@example.com", has_password=True)
    await join(database, tenant, person_id, Role.VIEWER)
    with pytest.raises(Conflict) as refusal:
        await accept(database, passwords, token, "", PASSWORD)
    assert refusal.value.code == "already_a_member"
    assert await names(database, tenant) == [("late9@example.com", Role.VIEWER)]


async def test_the_application_makes_nobody_who_is_not_invited_to_its_tenant(
    settings: Settings, database: Database, tenant: Tenant
) -> None:
    other = await make_tenant(database, f"elsewhere-{tenant.slug}")
    await token_for(database, settings, other, "elsewhere10@example.com")
    await token_for(database, settings, tenant, "open10@example.com")
    issued = await invite_member(database, settings, Authority.operator(tenant.id), "gone10@example.com", Role.VIEWER)
    await revoke_invitation(database, Authority.operator(tenant.id), issued.invitation.id)
    (ended,) = await load_invitations(database, tenant.id, [issued.invitation.id])
    assert ended is not None and ended.state is InvitationState.REVOKED
    async with as_owner(settings.app_url) as connection:
        await connection.execute("SELECT set_config('app.current_tenant', $1, false)", str(tenant.id))
        for email in ("elsewhere10@example.com", "gone10@example.com", "nobody10@example.com"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(
                    "INSERT INTO people (id, email, name) VALUES (gen_random_uuid(), $1, 'X')", email
                )
