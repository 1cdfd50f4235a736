"""The operator's chores on tenants and keys, each with a database of its own for its length."""

from __future__ import annotations

import asyncio

from core import accounts, api_keys, people
from core.api_keys import CreatedKey
from core.audit import Author, audit
from core.database import Database
from core.key_requests import Grantor, KeyRequest
from core.log import open_log
from core.passwords import hash_password
from core.permissions import Role, Scope
from core.settings import Settings
from core.tenancy import KeyKind, Tenant, Tier
from core.topics import raw_topic


async def create_tenant(settings: Settings, *, slug: str, name: str, tier: Tier, is_demo: bool = False) -> Tenant:
    """A new tenant and its topic.

    Raises:
        BadInput: the slug is malformed or taken.
    """
    database = Database(settings, pool_size=1)
    log = open_log(settings)
    try:
        tenant = await accounts.create_tenant(database, slug=slug, name=name, tier=tier, is_demo=is_demo)
        await log.create_topic(raw_topic(tenant.id, settings.tenant_topics))
        return tenant
    finally:
        await log.close()
        await database.close()


async def spread_tenant(settings: Settings, *, slug: str, sub_keys: int) -> None:
    """Spreads a tenant's records over sub-keys.

    Raises:
        NotFound: there is no such tenant.
        BadInput: not so many.
    """
    database = Database(settings, pool_size=1)
    try:
        await accounts.spread_tenant(database, await accounts.find_tenant(database, slug), sub_keys)
    finally:
        await database.close()


async def create_key(
    settings: Settings,
    *,
    tenant: str,
    kind: KeyKind,
    name: str,
    scopes: frozenset[Scope],
    origins: tuple[str, ...] = (),
    is_unsigned: bool = False,
) -> CreatedKey:
    """A new key of the tenant with that slug.

    Raises:
        NotFound: there is no such tenant.
        BadInput: the scopes do not fit the kind.
    """
    database = Database(settings, pool_size=1)
    try:
        owner = await accounts.find_tenant(database, tenant)
        asked = KeyRequest(kind=kind, name=name, scopes=scopes, origins=origins, is_unsigned=is_unsigned)
        grantor = Grantor.operator(owner.id)
        return await api_keys.create_key(database, owner.id, asked, grantor, master_key=settings.master_key_bytes())
    finally:
        await database.close()


async def create_owner(settings: Settings, *, tenant: str, email: str, name: str, password: str) -> None:
    """A person with a password who owns the tenant with that slug. One that is there gets the password and the role.

    Raises:
        NotFound: there is no such tenant.
        BadInput: the e-mail or the name is none.
    """
    email, name = people.checked_email(email), people.checked_person_name(name)
    password_hash = await asyncio.to_thread(hash_password, password)
    database = Database(settings, pool_size=1)
    try:
        found = await accounts.find_tenant(database, tenant)
        known = await people.find_person_by_email(database, email)
        async with database.as_doorkeeper(is_write=True) as session:
            if known is None:
                person_id = await people.insert_person(session, email=email, name=name, password_hash=password_hash)
            else:
                person_id = known.id
                await people.set_password(session, person_id, password_hash)
        async with database.as_tenant(found.id, is_write=True) as session:
            await people.put_member(session, found.id, person_id, Role.OWNER)
            diff = {"role": Role.OWNER.value}
            await audit(session, Author.operator(found.id), "member.add", f"person:{person_id}", diff)
    finally:
        await database.close()
