"""Members of a tenant, as the tests of what they may need them."""

from __future__ import annotations

from uuid import uuid4

from core.database import Database
from core.permissions import Role
from core.queries import parse_blocks
from core.tenancy import PersonId, Principal, Tenant

TEXT = """-- insert_person(id, email)
-- A new person.
INSERT INTO people (id, email, name) VALUES ($1, $2, 'P');

-- insert_member(tenant_id, person_id, role)
-- A new member.
INSERT INTO members (tenant_id, person_id, role) VALUES ($1, $2, $3);

-- set_role(person_id, role)
-- Another role.
UPDATE members SET role = $2 WHERE person_id = $1;

-- remove_member(person_id)
-- A member less.
DELETE FROM members WHERE person_id = $1;
"""
QUERIES = parse_blocks(TEXT, "members of tests")


async def add_member(
    database: Database, tenant: Tenant, role: Role = Role.EDITOR, person_id: PersonId | None = None
) -> Principal:
    """A person in a role; a new one unless it is named."""
    if person_id is None:
        person_id = PersonId(uuid4())
        async with database.as_doorkeeper(is_write=True) as session:
            await session.execute(QUERIES["insert_person"], person_id, f"{person_id}@example.org")
    async with database.as_tenant(tenant.id, is_write=True) as session:
        await session.execute(QUERIES["insert_member"], tenant.id, person_id, role.value)
    return Principal.of_person(tenant, person_id, role, None)


async def set_role(database: Database, member: Principal, role: Role) -> Principal:
    async with database.as_tenant(member.tenant.id, is_write=True) as session:
        await session.execute(QUERIES["set_role"], member.person_id, role.value)
    assert member.person_id is not None
    return Principal.of_person(member.tenant, member.person_id, role, None)


async def remove_member(database: Database, member: Principal) -> None:
    async with database.as_tenant(member.tenant.id, is_write=True) as session:
        await session.execute(QUERIES["remove_member"], member.person_id)
