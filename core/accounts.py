"""Tenants in the database, and look-ups of keys for the doors. Every write leaves an audit row."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

import asyncpg

from core.audit import Author, audit
from core.database import Database
from core.errors import BadInput, DatabaseUnavailable, NotFound
from core.keys import ApiKey, hash_secret
from core.partitioning import MAX_SUB_KEYS
from core.permissions import Scope
from core.queries import named
from core.standing import require_author
from core.tenancy import KeyId, KeyKind, Tenant, TenantId, Tier, checked_name, checked_slug

FIND_BY_SECRET = named("keys", "find_key_by_secret")
FIND_BY_ID = named("keys", "find_key_by_id")
FIND_TENANT = named("keys", "find_tenant")
LIST_TENANTS = named("keys", "list_tenants")
INSERT_TENANT = named("keys", "insert_tenant")
SPREAD_TENANT = named("keys", "spread_tenant")
HOLD_TIER = named("keys", "hold_tier")
CHANGE_TIER = named("keys", "change_tier")
LIST_MOVING = named("moving", "list_moving")
RENAME_TENANT = named("keys", "rename_tenant")


def tenant_of(row: Any) -> Tenant:
    """A tenant from a row with `tenant_id, slug, name, tier, created_at, is_demo, ends_at`."""
    return Tenant(
        TenantId(UUID(str(row["tenant_id"]))),
        row["slug"],
        row["name"],
        Tier(row["tier"]),
        row["created_at"],
        row["is_demo"],
        row["ends_at"],
    )


def key_of(row: Any) -> ApiKey:
    """A key from a row of the look-up queries."""
    return ApiKey(
        id=KeyId(row["id"]),
        tenant=tenant_of(row),
        kind=KeyKind(row["kind"]),
        scopes=frozenset(Scope(scope) for scope in row["scopes"]),
        origins=tuple(row["origins"]),
        is_unsigned=row["is_unsigned"],
        expires_at=row["expires_at"],
        sealed=tuple(row["sealed"]),
    )


async def find_key(database: Database, *, secret: str | None = None, key_id: str | None = None) -> ApiKey | None:
    """The live key of a bearer secret or of an id; None when there is none."""
    query, value = (FIND_BY_ID, key_id) if secret is None else (FIND_BY_SECRET, hash_secret(secret))
    async with database.as_doorkeeper() as session:
        row = await session.fetchrow(query, value)
    return key_of(row) if row else None


async def find_tenant(database: Database, slug: str) -> Tenant:
    """One tenant.

    Raises:
        NotFound: no tenant has that slug.
    """
    async with database.as_doorkeeper() as session:
        row = await session.fetchrow(FIND_TENANT, slug)
    if row is None:
        raise NotFound(f"There is no tenant {slug!r}; `tenant list` shows them.")
    return tenant_of(row)


async def list_tenants(database: Database) -> list[Tenant]:
    async with database.as_doorkeeper() as session:
        return [tenant_of(row) for row in await session.fetch(LIST_TENANTS)]


async def create_tenant(
    database: Database, *, slug: str, name: str, tier: Tier, is_demo: bool = False, actor: str = "operator"
) -> Tenant:
    """A new tenant.

    Raises:
        BadInput: the slug is malformed or taken.
    """
    tenant_id = TenantId(uuid4())
    checked_name(name)
    async with database.as_tenant(tenant_id, is_write=True) as session:
        row = await session.fetchrow(INSERT_TENANT, tenant_id, checked_slug(slug), name or slug, tier.value, is_demo)
        if row is None:
            raise BadInput(f"The tenant slug {slug!r} is taken; choose another.", field="slug")
        await audit(session, Author.operator(tenant_id, actor), "tenant.create", slug, {"tier": tier.value})
    return Tenant(tenant_id, slug, name or slug, tier, row["created_at"], is_demo)


async def spread_tenant(database: Database, tenant: Tenant, sub_keys: int, *, actor: str = "operator") -> None:
    """Lets a large tenant's records go to as many partitions, and be counted by as many workers; 1 takes it back.

    Raises:
        BadInput: not 1 to 256.
    """
    if not 1 <= sub_keys <= MAX_SUB_KEYS:
        raise BadInput(
            f"A tenant is spread over 1 to {MAX_SUB_KEYS} sub-keys, not {sub_keys}; as many as the log has partitions "
            "is enough.",
            field="sub_keys",
        )
    async with database.as_tenant(tenant.id, is_write=True) as session:
        await session.execute(SPREAD_TENANT, tenant.id, sub_keys)
        await audit(session, Author.operator(tenant.id, actor), "tenant.spread", tenant.slug, {"sub_keys": sub_keys})


async def change_tier(database: Database, tenant: Tenant, tier: Tier, author: Author) -> Tenant:
    """The tenant with another tier. Doors and workers know within 5 seconds, and at once where they count; raw events
    follow in the background (`pipeline.moving`).

    Raises:
        BadInput: it has that tier.
        DatabaseUnavailable: workers hold the tier for longer than a statement may wait.
    """
    async with database.as_tenant(tenant.id, is_write=True) as session:
        # Whoever counts under the old tier is waited for; nobody counts under it after.
        try:
            await session.execute(HOLD_TIER, tenant.id)
        except asyncpg.QueryCanceledError as error:
            raise DatabaseUnavailable(
                f"Events of tenant {tenant.slug} are being counted for longer than can be waited for; try again."
            ) from error
        row = await session.fetchrow(CHANGE_TIER, tenant.id, tier.value)
        if row is None:
            raise BadInput(f"Tenant {tenant.slug} has the tier {tier.value} already.", field="tier")
        await audit(session, author, "tenant.tier", tenant.slug, {"tier": [row["old_tier"], tier.value]})
    return replace(tenant, tier=tier)


async def moving_tenants(database: Database) -> set[str]:
    """Slugs of tenants whose events still move to the storage of their tier."""
    async with database.as_doorkeeper() as session:
        return {row["slug"] for row in await session.fetch(LIST_MOVING)}


async def rename_tenant(database: Database, tenant: Tenant, name: str, author: Author) -> Tenant:
    """The tenant under another name.

    Raises:
        BadInput: the name is empty, too long or cannot be printed.
        PermissionDenied: the author may no more.
    """
    if not checked_name(name).strip():
        raise BadInput("A tenant's name has at least one character that can be seen.", field="name")
    async with database.as_tenant(tenant.id, is_write=True) as session:
        # First, as it locks the tenant like whoever changes members does; undone when the author may no more.
        row = await session.fetchrow(RENAME_TENANT, tenant.id, name)
        await require_author(session, author)
        if row is not None:
            await audit(session, author, "tenant.update", tenant.slug, {"name": [row["old_name"], name]})
    return replace(tenant, name=name)
