"""Who somebody is in a tenant, by what one of the tenant's identity providers says: (connection, issuer, subject), and
never an e-mail. The first sign-in makes a person of that tenant alone; somebody else with the same e-mail is somebody
else. Every write leaves an audit entry."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from core.audit import Author, audit
from core.database import Database, Session
from core.errors import Conflict, NotFound, PermissionDenied
from core.invitations import members_full
from core.members import END_INVITATIONS, Authority, limits_of, lock_members, stand
from core.permissions import Permission, Role
from core.queries import named
from core.sessions import revoke_sessions
from core.sign_in_connections import SignInConnection, lock_connection
from core.sign_in_rules import Vouched, admit, role_of
from core.tenancy import PersonId, SessionId, TenantId

FIND = named("sign_in", "find_identity")
INSERT_PERSON = named("sign_in", "insert_home_person")
INSERT_IDENTITY = named("sign_in", "insert_identity")
INSERT_MEMBER = named("sign_in", "insert_home_member")
NOTE_SIGN_IN = named("sign_in", "note_sign_in")
NOTE_PERSON = named("sign_in", "note_person")
NOTE_ROLE = named("sign_in", "note_role")
LIST = named("sign_in", "list_identities")
COUNT = named("sign_in", "count_identities")
FIND_MANY = named("sign_in", "find_identities")
LOCK = named("sign_in", "lock_identity")
DELETE = named("sign_in", "delete_identity")
END_MEMBER = named("sign_in", "end_member")
COUNT_SEATS = named("invitations", "count_seats")
KIND = "SignInIdentity"
MAX_NAME = 200
MAX_EMAIL = 254


@dataclass(frozen=True, slots=True)
class SignInIdentity:
    """Who a provider says a person is."""

    id: UUID
    connection_id: UUID
    issuer: str
    subject: str
    person_id: PersonId
    name: str | None
    email: str | None
    created_at: datetime
    last_sign_in_at: datetime


async def recognise(session: Session, author: Author, asked: SignInConnection, vouched: Vouched) -> PersonId:
    """The person whom a provider vouches for, made at its first sign-in; within a write transaction of the tenant.
    `asked`: the connection as it was when the provider's word was checked.

    Members and connection are locked meanwhile: what is decided here is decided by what they are now, and two first
    sign-ins of one identity make one person.

    Raises:
        NotFound: the connection is gone. PermissionDenied: it is disabled or changed, the e-mail's domain is not
            allowed, the membership was ended. TooMany: the tenant has as many members as its tier.
    """
    tenant = await lock_members(session)
    connection = await lock_connection(session, asked.id)
    if not connection.vouches_as(asked):
        raise _changed(connection)
    admit(vouched, connection.allowed_domains)
    row = await session.fetchrow(FIND, connection.id, vouched.issuer, vouched.subject)
    if row is None:
        await _take_seat(session, tenant)
        return await _welcome(session, author, connection, vouched)
    person_id = PersonId(row["person_id"])
    if row["role"] is None:
        raise PermissionDenied(
            "Your membership of this tenant was ended by an administrator; ask one to delete your sign-in identity, "
            "and you can come back.",
            code="membership_ended",
        )
    await session.execute(NOTE_SIGN_IN, row["id"])
    await session.execute(NOTE_PERSON, person_id, shown_name(vouched), shown_email(vouched))
    if connection.role_rules:
        role = role_of(vouched, connection.role_rules, connection.default_role)
        changed = await session.fetchrow(NOTE_ROLE, person_id, role.value)
        if changed:
            if role.rank < Role(row["role"]).rank:
                await session.execute(END_INVITATIONS, f"person:{person_id}")
            diff = {"role": [row["role"], role.value], "by": "role_rules"}
            await audit(session, author, "member.change_role", f"person:{person_id}", diff)
    return person_id


async def confirm_session(
    database: Database, author: Author, asked: SignInConnection, person_id: PersonId, session_id: SessionId
) -> None:
    """Ends a session that was just opened, if its connection is not any more what it was.

    Who changes a connection ends the sessions that there are; one that was committed while that went on is seen here,
    for both lock the connection.

    Raises:
        PermissionDenied: it was ended.
    """
    refusal: PermissionDenied | None = None
    # The refusal is raised once the session's end is committed.
    async with database.as_tenant(author.tenant_id, is_write=True) as session:
        try:
            connection = await lock_connection(session, asked.id)
        except NotFound:
            refusal = _changed(None)
        else:
            refusal = None if connection.vouches_as(asked) else _changed(connection)
        if refusal is not None:
            await revoke_sessions(
                session, person_id=person_id, tenant_id=author.tenant_id, session_id=session_id, reason=refusal.code
            )
            await audit(session, author, "session.revoke", str(session_id), {"reason": refusal.code})
    if refusal is not None:
        raise refusal


def _changed(connection: SignInConnection | None) -> PermissionDenied:
    if connection is not None and not connection.is_enabled:
        return PermissionDenied("This way to sign in is disabled.", code="connection_disabled")
    return PermissionDenied(
        "This way to sign in was changed meanwhile; begin again from the sign-in page.", code="connection_changed"
    )


async def _take_seat(session: Session, tenant: Any) -> None:
    """Raises TooMany where the tenant has as many members as its tier."""
    row, limit = await session.fetchrow(COUNT_SEATS), limits_of(tenant).members
    if row and limit is not None and row["members"] >= limit:
        raise members_full(limit)


async def _welcome(session: Session, author: Author, connection: SignInConnection, vouched: Vouched) -> PersonId:
    person_id = PersonId(uuid4())
    role = role_of(vouched, connection.role_rules, connection.default_role)
    await session.execute(INSERT_PERSON, person_id, shown_name(vouched), shown_email(vouched))
    await session.execute(INSERT_IDENTITY, uuid4(), connection.id, vouched.issuer, vouched.subject, person_id)
    await session.execute(INSERT_MEMBER, person_id, role.value)
    diff = {
        "role": role.value,
        "connection": str(connection.id),
        "issuer": vouched.issuer,
        "subject": vouched.subject,
    }
    await audit(session, author, "member.join", f"person:{person_id}", diff)
    return person_id


def shown_name(vouched: Vouched) -> str:
    """A name for people to read, of whatever the provider sent."""
    for text in (vouched.name, vouched.email or "", vouched.subject):
        name = "".join(c for c in text if c.isprintable()).strip()[:MAX_NAME]
        if name:
            return name
    return "?"


def shown_email(vouched: Vouched) -> str | None:
    """The e-mail to show; None for what is none."""
    email = (vouched.email or "").strip().lower()
    is_one = "@" in email[1:-1] and len(email) <= MAX_EMAIL and email.isprintable() and " " not in email
    return email if is_one else None


async def list_identities(
    database: Database, tenant_id: TenantId, connection_id: UUID, most: int, after: tuple[datetime, UUID] | None
) -> list[SignInIdentity]:
    """Who came by a connection, oldest first, behind a place or from the first on."""
    at, id = after or (None, None)
    async with database.as_tenant(tenant_id) as session:
        return [_identity(row) for row in await session.fetch(LIST, connection_id, most, at, id)]


async def count_identities(database: Database, tenant_id: TenantId, connection_id: UUID) -> int:
    async with database.as_tenant(tenant_id) as session:
        row = await session.fetchrow(COUNT, connection_id)
    return int(row["count"]) if row else 0


async def load_identities(database: Database, tenant_id: TenantId, ids: Sequence[UUID]) -> list[SignInIdentity | None]:
    """Identities by their ids, in their order; None where the tenant has none."""
    async with database.as_tenant(tenant_id) as session:
        found = {row["id"]: _identity(row) for row in await session.fetch(FIND_MANY, list(ids))}
    return [found.get(id) for id in ids]


async def delete_identity(database: Database, authority: Authority, id: UUID) -> None:
    """Forgets who somebody is, with its membership and sessions: the next sign-in by it is a first one.

    Raises:
        NotFound: the tenant has none with that id. Conflict: it is an owner's.
        PermissionDenied: the authority may not, by what it is now.
    """
    author = authority.author
    async with database.as_tenant(author.tenant_id, is_write=True) as session:
        (await stand(session, authority)).require(Permission.SIGN_IN_WRITE)
        row = await session.fetchrow(LOCK, id)
        if row is None:
            raise NotFound(f"There is no {KIND} with that id.", field="id")
        if row["role"] == Role.OWNER:
            raise Conflict("It is the identity of an owner; lower that owner's role first.")
        person_id = PersonId(row["person_id"])
        await session.execute(DELETE, id)
        await session.execute(END_MEMBER, person_id)
        await session.execute(END_INVITATIONS, f"person:{person_id}")
        await revoke_sessions(session, person_id=person_id, tenant_id=author.tenant_id, reason="identity_deleted")
        diff = {key: str(row[key]) for key in ("connection_id", "issuer", "subject", "person_id")}
        await audit(session, author, "sign_in_identity.delete", str(id), diff)


def _identity(row: Any) -> SignInIdentity:
    return SignInIdentity(
        row["id"], row["connection_id"], row["issuer"], row["subject"], PersonId(row["person_id"]), row["name"],
        row["email"], row["created_at"], row["last_sign_in_at"],
    )  # fmt: skip
