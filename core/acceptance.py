"""Accepting an invitation: by a password, which makes the person or proves to be the one who is there, or by the access
token of the person with that address. The tenant is the invitation's alone, whatever else a request says."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

import asyncpg

from core.accounts import tenant_of
from core.audit import Author, audit
from core.database import Database, Session
from core.errors import BadInput, Conflict, PermissionDenied, Unauthenticated
from core.invitations import members_full
from core.link_tokens import LinkKind, hash_of
from core.members import limits_of, lock_members
from core.passwords import Passwords, checked_password
from core.people import Person, checked_person_name, insert_member
from core.permissions import Role
from core.queries import named
from core.tenancy import PersonId, Tenant

FIND_BY_TOKEN = named("invitations", "find_invitation_by_token")
LOCK_OPEN = named("invitations", "lock_open_invitation")
ACCEPT = named("invitations", "accept_invitation")
CANCEL_MESSAGE = named("outbox", "cancel_message")
COUNT_SEATS = named("invitations", "count_seats")
INSERT_PERSON = named("invitations", "insert_invited_person")


@dataclass(frozen=True, slots=True)
class OpenInvitation:
    """What a link offers, and who has its address already (None: nobody)."""

    id: UUID
    email: str
    role: Role
    tenant: Tenant
    token_hash: bytes
    person_id: PersonId | None
    password_hash: str | None
    is_disabled: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What comes with a link: a name and a password, or the person whose access token came along."""

    token: str = field(repr=False)
    name: str = ""
    password: str = field(default="", repr=False)
    signed_in: Person | None = None


@dataclass(frozen=True, slots=True)
class Accepted:
    """A membership that was just made."""

    tenant: Tenant
    role: Role
    person_id: PersonId
    email: str


@dataclass(frozen=True, slots=True)
class _NewPerson:
    id: PersonId
    name: str
    password_hash: str


async def find_invitation(database: Database, token: str) -> OpenInvitation:
    """What the link with this token offers.

    Raises:
        BadInput: `invalid_link`: unknown, revoked, accepted and expired are told apart nowhere.
    """
    token_hash = hash_of(token, LinkKind.INVITATION)
    if token_hash is None:
        raise invalid_link()
    async with database.as_doorkeeper() as session:
        row = await session.fetchrow(FIND_BY_TOKEN, token_hash)
    if row is None:
        raise invalid_link()
    return OpenInvitation(
        id=UUID(int=row["id"].int),
        email=row["email"],
        role=Role(row["role"]),
        tenant=tenant_of(row),
        token_hash=token_hash,
        person_id=PersonId(UUID(int=row["person_id"].int)) if row["person_id"] else None,
        password_hash=row["password_hash"],
        is_disabled=row["disabled_at"] is not None,
    )


async def accept_invitation(database: Database, passwords: Passwords, answer: Answer, request_id: str) -> Accepted:
    """Makes the member that an invitation offers, and the person where there is none, in one transaction.

    Raises:
        BadInput: `invalid_link`; a name or password that a new person cannot have.
        Unauthenticated: not the password of the person who has the address.
        PermissionDenied: `other_address`: signed in with another one.
        Conflict: `already_a_member`; `try_again`: the person was made by somebody else meanwhile.
        TooMany: the tier's members are used up; the invitation stays open.
    """
    invitation = await find_invitation(database, answer.token)
    who = await _proved(passwords, invitation, answer)
    person_id = who.id if isinstance(who, _NewPerson) else who
    try:
        async with database.as_tenant(invitation.tenant.id, is_write=True) as session:
            tenant = await lock_members(session)
            row = await session.fetchrow(LOCK_OPEN, invitation.token_hash)
            if row is None or tenant["ends_at"] is not None:
                raise invalid_link()
            await _take_seat(session, tenant)
            if isinstance(who, _NewPerson):
                await session.execute(INSERT_PERSON, who.id, row["email"], who.name, who.password_hash)
            await insert_member(session, invitation.tenant.id, person_id, Role(row["role"]))
            await session.execute(ACCEPT, row["id"], person_id)
            # The link was handed over; it need not be sent as well.
            await session.execute(CANCEL_MESSAGE, row["message_id"], "the invitation was accepted")
            author = Author(invitation.tenant.id, f"person:{person_id}", request_id)
            # Not whether the person is new: that would tell of other tenants.
            diff = {"email": row["email"], "role": row["role"]}
            await audit(session, author, "invitation.accept", str(row["id"]), diff)
    except asyncpg.UniqueViolationError:
        raise Conflict(
            "An account with that e-mail was made this moment; send the same again, with its password.",
            code="try_again",
        ) from None
    return Accepted(invitation.tenant, Role(row["role"]), person_id, row["email"])


async def _proved(passwords: Passwords, invitation: OpenInvitation, answer: Answer) -> PersonId | _NewPerson:
    """The person who answers: proved to be the one that has the address, or one to be made. By a password it costs one
    hash either way."""
    if answer.signed_in is not None:
        if answer.signed_in.email != invitation.email:
            raise PermissionDenied(
                "The invitation is for another e-mail than the one you are signed in with; sign out, or ask for one to "
                "your address.",
                code="other_address",
            )
        return answer.signed_in.id
    if invitation.person_id is None:
        name = checked_person_name(answer.name)
        password = checked_password(answer.password, email=invitation.email, name=name)
        return _NewPerson(PersonId(uuid4()), name, await passwords.hashed(password))
    verified = await passwords.verified(answer.password, invitation.password_hash)
    if not verified.is_good or invitation.is_disabled:
        raise Unauthenticated(
            "The password is not right. Whoever has an account with the invited e-mail answers with its password, or "
            "with its access token.",
            code="wrong_password",
        )
    return invitation.person_id


async def _take_seat(session: Session, tenant: Any) -> None:
    """Raises TooMany where the tenant is full, whatever it was when it invited."""
    row = await session.fetchrow(COUNT_SEATS)
    assert row is not None
    limit = limits_of(tenant).members
    if limit is not None and row["members"] >= limit:
        raise members_full(limit)


def invalid_link() -> BadInput:
    return BadInput(
        "The link is not good, or not any more: it works once, and for a few days. Ask for another.",
        code="invalid_link",
        field="token",
    )
