"""People, and which tenants they are members of. Look-ups are the doorkeeper's: a person belongs to no tenant."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from core.accounts import tenant_of
from core.database import Database, Session
from core.errors import BadInput, Conflict
from core.permissions import Role
from core.queries import named
from core.tenancy import ENCODED_WORD, PersonId, Tenant, TenantId, checked_name

FIND_BY_EMAIL = named("people", "find_person_by_email")
FIND = named("people", "find_person")
LIST_MEMBERSHIPS = named("people", "list_memberships")
LIST_BY_SLUG = named("people", "list_memberships_by_slug")
COUNT_MEMBERSHIPS = named("people", "count_memberships")
INSERT = named("people", "insert_person")
SET_PASSWORD = named("people", "set_password")
INSERT_MEMBER = named("people", "insert_member")
PUT_MEMBER = named("people", "put_member")

MAX_EMAIL_LENGTH = 254
MAX_LOCAL_LENGTH = 64
_LOCAL = re.compile(r"[a-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[a-z0-9!#$%&'*+/=?^_`{|}~-]+)*")
_DOMAIN = re.compile(r"(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody who may sign in. `password_hash` is None where only an identity provider knows the person."""

    id: PersonId
    email: str
    name: str
    password_hash: str | None
    password_changed_at: datetime | None
    created_at: datetime
    disabled_at: datetime | None


@dataclass(frozen=True, slots=True)
class Membership:
    """What a person is in a tenant."""

    tenant: Tenant
    role: Role
    since: datetime


def checked_email(text: str) -> str:
    """An e-mail address as it is kept and compared: in lower case (RFC 5321, a dot-atom and a domain of two labels or
    more, in ASCII: domains with other letters in their xn-- form).

    Raises:
        BadInput: it is none.
    """
    email = text.strip().lower() if len(text) <= 2 * MAX_EMAIL_LENGTH else ""
    local, _, domain = email.rpartition("@")
    is_good = len(email) <= MAX_EMAIL_LENGTH and len(local) <= MAX_LOCAL_LENGTH and ENCODED_WORD not in local
    if not (is_good and email.isascii() and _LOCAL.fullmatch(local) and _DOMAIN.fullmatch(domain)):
        raise BadInput(
            f"The e-mail must be of the form name@host.example, at most 254 ASCII characters, without {ENCODED_WORD}.",
            code="bad_email",
            field="email",
        )
    return email


def checked_person_name(text: str) -> str:
    """A person's name.

    Raises:
        BadInput: empty, too long, or not printable.
    """
    name = checked_name(text.strip())
    if not name:
        raise BadInput("A person has a name; give one.", field="name")
    return name


def person_of(row: Any) -> Person:
    """A person from a row of the look-up queries."""
    return Person(
        PersonId(UUID(int=row["id"].int)),
        row["email"],
        row["name"],
        row["password_hash"],
        row["password_changed_at"],
        row["created_at"],
        row["disabled_at"],
    )


def membership_of(row: Any) -> Membership:
    """A membership from a row with the tenant's columns and `role`, `since`."""
    return Membership(tenant_of(row), Role(row["role"]), row["since"])


async def find_person_by_email(database: Database, email: str) -> Person | None:
    """The person with an e-mail, as `checked_email` gives it."""
    async with database.as_doorkeeper() as session:
        row = await session.fetchrow(FIND_BY_EMAIL, email)
    return person_of(row) if row else None


async def find_person(database: Database, person_id: PersonId) -> Person | None:
    async with database.as_doorkeeper() as session:
        row = await session.fetchrow(FIND, person_id)
    return person_of(row) if row else None


async def list_memberships(database: Database, person_id: PersonId) -> list[Membership]:
    """A person's tenants, the last used first, then the oldest membership."""
    async with database.as_doorkeeper() as session:
        return await memberships_of(session, person_id)


async def memberships_of(session: Session, person_id: PersonId) -> list[Membership]:
    """The same within a transaction of the doorkeeper's."""
    return [membership_of(row) for row in await session.fetch(LIST_MEMBERSHIPS, person_id)]


async def list_memberships_by_slug(
    database: Database, person_id: PersonId, most: int, after: str | None, only: TenantId | None
) -> list[Membership]:
    """A page of a person's tenants by slug; `only`: that one."""
    async with database.as_doorkeeper() as session:
        rows = await session.fetch(LIST_BY_SLUG, person_id, most, after, only)
    return [membership_of(row) for row in rows]


async def count_memberships(database: Database, person_id: PersonId, only: TenantId | None) -> int:
    async with database.as_doorkeeper() as session:
        row = await session.fetchrow(COUNT_MEMBERSHIPS, person_id, only)
    return int(row["count"]) if row else 0


async def insert_person(session: Session, *, email: str, name: str, password_hash: str | None) -> PersonId:
    """A new person, in a transaction of the doorkeeper's; all parts checked before.

    Raises:
        Conflict: somebody has that e-mail.
    """
    person_id = PersonId(uuid4())
    if await session.fetchrow(INSERT, person_id, email, name, password_hash) is None:
        raise Conflict("There is a person with that e-mail.", code="email_taken", field="email")
    return person_id


async def insert_member(session: Session, tenant_id: TenantId, person_id: PersonId, role: Role) -> None:
    """Makes a person a member, in a transaction of the tenant's.

    Raises:
        Conflict: it is one already.
    """
    if await session.fetchrow(INSERT_MEMBER, tenant_id, person_id, role.value) is None:
        raise Conflict("That person is a member already.", code="already_a_member")


async def put_member(session: Session, tenant_id: TenantId, person_id: PersonId, role: Role) -> None:
    """Makes a person a member with that role, whatever it was before; in a transaction of the tenant's."""
    await session.execute(PUT_MEMBER, tenant_id, person_id, role.value)


async def set_password(session: Session, person_id: PersonId, password_hash: str) -> None:
    """Another password, in a transaction of the doorkeeper's; sessions are the caller's to revoke."""
    await session.execute(SET_PASSWORD, person_id, password_hash)
