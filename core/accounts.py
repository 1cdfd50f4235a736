"""Tenants and keys in the database: look-ups for the doors, the operator's chores. Every write leaves an audit row."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from core.audit import Author, audit
from core.database import Database, Session
from core.errors import BadInput, NotFound
from core.keys import ApiKey, hash_secret, new_key_id, new_secret, seal
from core.partitioning import MAX_SUB_KEYS
from core.permissions import Scope
from core.queries import named
from core.tenancy import KeyId, KeyKind, Tenant, TenantId, Tier, checked_name, checked_slug

FIND_BY_SECRET = named("keys", "find_key_by_secret")
FIND_BY_ID = named("keys", "find_key_by_id")
FIND_TENANT = named("keys", "find_tenant")
LIST_TENANTS = named("keys", "list_tenants")
INSERT_TENANT = named("keys", "insert_tenant")
SPREAD_TENANT = named("keys", "spread_tenant")
INSERT_KEY = named("keys", "insert_key")
INSERT_SECRET = named("keys", "insert_secret")
EXPIRE_SECRETS = named("keys", "expire_secrets")
REVOKE_KEY = named("keys", "revoke_key")
LIST_KEYS = named("keys", "list_keys")
# The ASCII serialisation of an origin (RFC 6454, 6.2): lower case, no path, the port only where it is not the usual.
ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://(?:[a-z0-9.-]+|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?")
ROTATION_OVERLAP = timedelta(hours=24)


@dataclass(frozen=True, slots=True)
class CreatedKey:
    """A new key, and the only moment at which its secret is known."""

    key_id: KeyId
    secret: str


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRequest:
    """What an operator asks of a new key."""

    kind: KeyKind
    name: str
    scopes: frozenset[Scope]
    origins: tuple[str, ...] = ()
    is_unsigned: bool = False
    expires_at: datetime | None = None


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


async def create_key(
    database: Database, tenant: Tenant, asked: KeyRequest, *, master_key: bytes, actor: str = "operator"
) -> CreatedKey:
    """A new key with one secret, which only the answer holds.

    Raises:
        BadInput: what was asked for does not go together; see `check_key_request`.
    """
    check_key_request(asked)
    key_id = new_key_id()
    async with database.as_tenant(tenant.id, is_write=True) as session:
        await session.execute(
            INSERT_KEY,
            tenant.id,
            key_id,
            asked.kind.value,
            asked.name,
            sorted(asked.scopes),
            list(asked.origins),
            asked.is_unsigned,
            asked.expires_at,
        )
        secret = await _add_secret(session, tenant.id, key_id, asked.kind, master_key)
        diff = {"kind": asked.kind.value, "scopes": sorted(asked.scopes)}
        await audit(session, Author.operator(tenant.id, actor), "key.create", key_id, diff)
    return CreatedKey(key_id, secret)


def check_key_request(asked: KeyRequest) -> None:
    """Refuses a key that could never do what it was asked for.

    Raises:
        BadInput: names the field and the remedy.
    """
    checked_name(asked.name)
    is_publishable = asked.kind is KeyKind.PUBLISHABLE
    if is_publishable and asked.scopes != {Scope.EVENTS_WRITE}:
        raise BadInput("A publishable key can only have the scope events:write; make a secret key.", field="scopes")
    if is_publishable and asked.is_unsigned:
        raise BadInput("A publishable key never signs; leave --unsigned to secret keys.", field="unsigned")
    if asked.origins and not is_publishable:
        raise BadInput("Only publishable keys have origins; make one, or leave --origin out.", field="origins")
    for origin in asked.origins:
        if origin != "*" and not ORIGIN.fullmatch(origin):
            raise BadInput(
                f"The origin {origin[:200]!r} must be * or scheme, host and port as browsers send it, such as "
                "https://shop.example or http://localhost:3000, without a path.",
                field="origins",
            )


async def rotate_key(
    database: Database, tenant: Tenant, key_id: str, *, master_key: bytes, actor: str = "operator"
) -> CreatedKey:
    """A second live secret; the one before it ends after 24 hours.

    Raises:
        NotFound: the tenant has no live key with that id.
    """
    key = await find_key(database, key_id=key_id)
    if key is None or key.tenant.id != tenant.id:
        raise NotFound(f"Tenant {tenant.slug} has no live key {key_id!r}; `key list` shows them.")
    async with database.as_tenant(tenant.id, is_write=True) as session:
        await session.execute(EXPIRE_SECRETS, tenant.id, key_id, datetime.now(UTC) + ROTATION_OVERLAP)
        secret = await _add_secret(session, tenant.id, key.id, key.kind, master_key)
        await audit(session, Author.operator(tenant.id, actor), "key.rotate", key_id, {})
    return CreatedKey(key.id, secret)


async def revoke_key(database: Database, tenant: Tenant, key_id: str, *, actor: str = "operator") -> None:
    """Ends a key; the doors refuse it within 5 seconds.

    Raises:
        NotFound: the tenant has no live key with that id.
    """
    async with database.as_tenant(tenant.id, is_write=True) as session:
        if await session.fetchrow(REVOKE_KEY, tenant.id, key_id) is None:
            raise NotFound(f"Tenant {tenant.slug} has no live key {key_id!r}; `key list` shows them.")
        await audit(session, Author.operator(tenant.id, actor), "key.revoke", key_id, {})


async def list_keys(database: Database, tenant: Tenant) -> list[dict[str, Any]]:
    """Rows of a tenant's keys, newest first; never a secret."""
    async with database.as_tenant(tenant.id) as session:
        return [dict(row) for row in await session.fetch(LIST_KEYS, tenant.id)]


async def _add_secret(session: Session, tenant_id: TenantId, key_id: str, kind: KeyKind, master_key: bytes) -> str:
    secret = new_secret(kind)
    sealed = seal(secret, key_id=key_id, master_key=master_key) if kind is KeyKind.SECRET else None
    await session.execute(INSERT_SECRET, tenant_id, key_id, hash_secret(secret), sealed)
    return secret
