"""People for tests, made as the doors make them."""

from __future__ import annotations

import itertools

from core import accounts
from core.database import Database
from core.members import Authority, Member, load_members
from core.passwords import hash_password
from core.people import insert_member, insert_person
from core.permissions import Role
from core.tenancy import PersonId, Principal, Tenant, Tier

PASSWORD = "seven lamps above 4 rivers"
_numbers = itertools.count(1)


async def make_tenant(database: Database, slug: str, tier: Tier = Tier.SELF_HOSTED) -> Tenant:
    return await accounts.create_tenant(database, slug=slug, name=f"The {slug}", tier=tier)


async def make_person(
    database: Database, *, email: str = "", name: str = "Ada", has_password: bool = False
) -> PersonId:
    """A person, member of nothing."""
    email = email or f"person{next(_numbers)}@example.com"
    password_hash = hash_password(PASSWORD) if has_password else None
    async with database.as_doorkeeper(is_write=True) as session:
        return await insert_person(session, email=email, name=name, password_hash=password_hash)


async def join(database: Database, tenant: Tenant, person_id: PersonId, role: Role) -> Member:
    """Makes a person a member."""
    async with database.as_tenant(tenant.id, is_write=True) as session:
        await insert_member(session, tenant.id, person_id, role)
    (member,) = await load_members(database, tenant.id, [person_id])
    assert member is not None
    return member


async def make_member(database: Database, tenant: Tenant, role: Role, **person: object) -> Member:
    """A new person in a tenant."""
    return await join(database, tenant, await make_person(database, **person), role)  # type: ignore[arg-type]


def as_member(tenant: Tenant, member: Member) -> Authority:
    """What a member may, by its own request."""
    return Authority.of(Principal.of_person(tenant, member.person_id, member.role, None), "request-1")
