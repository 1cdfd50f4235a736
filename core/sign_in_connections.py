"""Tenants' own identity providers in the database. Secrets go in and never come out but for the sign-in itself; every
write leaves an audit entry."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

import msgspec

from core.audit import audit
from core.database import Database, Session
from core.errors import BadInput, Conflict, NotFound, PermissionDenied
from core.keys import seal, unseal
from core.members import Authority, stand
from core.permissions import Permission, Role
from core.queries import named
from core.sign_in_rules import ConnectionKind, Preset, RoleRule
from core.tenancy import Tenant, TenantId

LIST = named("sign_in", "list_connections")
COUNT = named("sign_in", "count_connections")
FIND = named("sign_in", "find_connections")
LOCK = named("sign_in", "lock_connection")
NAME_IS_TAKEN = named("sign_in", "name_is_taken")
INSERT = named("sign_in", "insert_connection")
UPDATE = named("sign_in", "update_connection")
DELETE = named("sign_in", "delete_connection")
OWNERS_OF = named("sign_in", "owners_of_connection")
END_INVITATIONS = named("sign_in", "end_invitations_of_connection")
END_MEMBERS = named("sign_in", "end_members_of_connection")
END_SESSIONS = named("sign_in", "end_sessions_of_connection")
DROP_ATTEMPTS = named("sign_in", "drop_attempts_of_connection")
WHOSE = named("sign_in", "whose_connection")
OFFERED = named("sign_in", "offered_connections")

# A tenant with more has a mistake in its automation.
MAX_CONNECTIONS = 20
KIND = "SignInConnection"


class OidcConfig(msgspec.Struct, frozen=True):
    """An OpenID provider, and who we are to it."""

    issuer: str
    client_id: str


class SamlConfig(msgspec.Struct, frozen=True):
    """A SAML identity provider. `certificates`: DER in base64. An attribute that is empty: the NameID is the subject,
    and the usual names are tried for e-mail and name."""

    entity_id: str
    sso_url: str
    certificates: tuple[str, ...]
    requires_signed_response: bool
    subject_attribute: str = ""
    email_attribute: str = ""
    name_attribute: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SignInConnection:
    """One identity provider of one tenant."""

    tenant_id: TenantId
    id: UUID
    preset: Preset
    name: str
    config: OidcConfig | SamlConfig
    sealed_secret: bytes | None = None
    allowed_domains: tuple[str, ...] = ()
    default_role: Role = Role.VIEWER
    role_rules: tuple[RoleRule, ...] = ()
    is_enabled: bool = True
    created_at: datetime
    updated_at: datetime

    @property
    def kind(self) -> ConnectionKind:
        return self.preset.kind

    def oidc(self) -> OidcConfig:
        assert isinstance(self.config, OidcConfig)
        return self.config

    def saml(self) -> SamlConfig:
        assert isinstance(self.config, SamlConfig)
        return self.config

    def vouches_as(self, before: SignInConnection) -> bool:
        """Whether the word of this one's provider is that of `before`: it is enabled, names the same people, and takes
        all signatures that were taken."""
        if not self.is_enabled or self.kind is not before.kind:
            return False
        if self.kind is ConnectionKind.OIDC:
            return self.oidc() == before.oidc()
        now, then = self.saml(), before.saml()
        is_same = (now.entity_id, now.subject_attribute) == (then.entity_id, then.subject_attribute)
        return is_same and set(then.certificates) <= set(now.certificates)

    def secret(self, master_key: bytes) -> str:
        """The client secret; empty where there is none."""
        return "" if self.sealed_secret is None else unseal(self.sealed_secret, key_id=_seal_id(self.id),
                                                            master_key=master_key)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Offered:
    """A way to sign in, as whoever opens the sign-in page may see it."""

    tenant_id: TenantId
    id: UUID
    kind: ConnectionKind
    name: str
    slug: str


def sealed(secret: str, connection_id: UUID, master_key: bytes) -> bytes:
    """A client secret as it is stored."""
    return seal(secret, key_id=_seal_id(connection_id), master_key=master_key)


def _seal_id(connection_id: UUID) -> str:
    return f"sign_in:{connection_id}"


def connection_of(row: Any) -> SignInConnection:
    """A connection from a row of the queries."""
    preset = Preset(row["preset"])
    kind: type[OidcConfig | SamlConfig] = SamlConfig if preset.kind is ConnectionKind.SAML else OidcConfig
    return SignInConnection(
        tenant_id=TenantId(UUID(str(row["tenant_id"]))),
        id=UUID(str(row["id"])),
        preset=preset,
        name=row["name"],
        config=msgspec.json.decode(row["config"], type=kind),
        sealed_secret=row["sealed_secret"],
        allowed_domains=tuple(row["allowed_domains"]),
        default_role=Role(row["default_role"]),
        role_rules=msgspec.json.decode(row["role_rules"], type=tuple[RoleRule, ...]),
        is_enabled=row["is_enabled"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )


async def list_connections(
    database: Database, tenant_id: TenantId, most: int, after: tuple[datetime, UUID] | None
) -> list[SignInConnection]:
    """A tenant's connections, oldest first, behind a place or from the first on."""
    at, id = after or (None, None)
    async with database.as_tenant(tenant_id) as session:
        return [connection_of(row) for row in await session.fetch(LIST, most, at, id)]


async def count_connections(database: Database, tenant_id: TenantId) -> int:
    async with database.as_tenant(tenant_id) as session:
        row = await session.fetchrow(COUNT)
    return int(row["count"]) if row else 0


async def load_connections(
    database: Database, tenant_id: TenantId, ids: Sequence[UUID]
) -> list[SignInConnection | None]:
    """Connections by their ids, in their order; None where the tenant has none."""
    async with database.as_tenant(tenant_id) as session:
        found = {row["id"]: connection_of(row) for row in await session.fetch(FIND, list(ids))}
    return [found.get(id) for id in ids]


async def create_connection(database: Database, authority: Authority, connection: SignInConnection) -> SignInConnection:
    """A new connection.

    Raises:
        PermissionDenied: the authority may not, by what it is now.
        Conflict: the name is taken, or there are 20 already.
    """
    author = authority.author
    async with database.as_tenant(author.tenant_id, is_write=True) as session:
        (await stand(session, authority)).require(Permission.SIGN_IN_WRITE)
        row = await session.fetchrow(COUNT)
        if row and row["count"] >= MAX_CONNECTIONS:
            raise Conflict(f"A tenant has at most {MAX_CONNECTIONS} sign-in connections; delete one.")
        await _refuse_taken(session, connection)
        made = await session.fetchrow(INSERT, *_columns(connection))
        assert made is not None
        await audit(session, author, "sign_in_connection.create", str(connection.id), _told(connection))
    return connection_of(made)


async def update_connection(
    database: Database, authority: Authority, id: UUID, change: Callable[[SignInConnection], SignInConnection]
) -> SignInConnection:
    """Changes a connection. One that is disabled, or whose provider is another or lost a certificate, ends the sessions
    of those who came by it, and the sign-ins that are under way.

    Raises:
        NotFound: the tenant has none with that id. Conflict: the new name is taken.
        PermissionDenied: the authority may not, by what it is now; or an owner comes by it: who says who comes by it
            could come as that owner, or shut it out.
    """
    author = authority.author
    async with database.as_tenant(author.tenant_id, is_write=True) as session:
        standing = await stand(session, authority)
        standing.require(Permission.SIGN_IN_WRITE)
        before = await lock_connection(session, id)
        wanted = change(before)
        if wanted.name != before.name:
            await _refuse_taken(session, wanted)
        is_owner = Permission.OWNERS_WRITE in standing.permissions
        if _admits(wanted) != _admits(before) and not is_owner and await session.fetch(OWNERS_OF, id):
            raise PermissionDenied("An owner signs in by this connection: only an owner changes who comes in by it.")
        row = await session.fetchrow(UPDATE, *_columns(wanted))
        assert row is not None
        old, new = _told(before), _told(wanted)
        diff: dict[str, Any] = {key: [old[key], new[key]] for key in new if old[key] != new[key]}
        if wanted.sealed_secret != before.sealed_secret:
            diff["client_secret"] = "changed"
        if before.is_enabled and not wanted.vouches_as(before):
            reason = "connection_changed" if wanted.is_enabled else "connection_disabled"
            diff["sessions_ended"] = len(await session.fetch(END_SESSIONS, id, reason))
            await session.execute(DROP_ATTEMPTS, id)
        await audit(session, author, "sign_in_connection.update", str(id), diff)
    return connection_of(row)


async def delete_connection(database: Database, authority: Authority, id: UUID) -> None:
    """Ends a connection, and the sessions, memberships and open invitations of all who came by it.

    Raises:
        NotFound: the tenant has none with that id. PermissionDenied: the authority may not, by what it is now.
        Conflict: an owner comes by it; the tenant could be left without one.
    """
    author = authority.author
    async with database.as_tenant(author.tenant_id, is_write=True) as session:
        (await stand(session, authority)).require(Permission.SIGN_IN_WRITE)
        before = await lock_connection(session, id)
        if await session.fetch(OWNERS_OF, id):
            raise Conflict("An owner signs in by this connection; lower that owner's role first.")
        sessions = await session.fetch(END_SESSIONS, id, "connection_deleted")
        await session.execute(END_INVITATIONS, id)
        members = await session.fetch(END_MEMBERS, id)
        await session.execute(DELETE, id)
        diff = {**_told(before), "members_ended": len(members), "sessions_ended": len(sessions)}
        await audit(session, author, "sign_in_connection.delete", str(id), diff)


async def lock_connection(session: Session, id: UUID) -> SignInConnection:
    """A connection that nobody else changes until this transaction ends.

    Raises:
        NotFound: the tenant has none with that id.
    """
    row = await session.fetchrow(LOCK, id)
    if row is None:
        raise NotFound(f"There is no {KIND} with that id.", field="id")
    return connection_of(row)


async def connection_by_id(database: Database, id: UUID, kind: ConnectionKind) -> SignInConnection | None:
    """An enabled connection whose tenant is not known yet."""
    async with database.as_doorkeeper() as session:
        row = await session.fetchrow(WHOSE, id)
    if row is None:
        return None
    (found,) = await load_connections(database, TenantId(row["tenant_id"]), [id])
    return found if found and found.is_enabled and found.kind is kind else None


async def offered_connections(database: Database, slug: str) -> list[Offered]:
    """The ways to sign in that a tenant offers besides passwords; none of a tenant that there is not."""
    async with database.as_doorkeeper() as session:
        rows = await session.fetch(OFFERED, slug)
    return [
        Offered(TenantId(row["tenant_id"]), row["id"], ConnectionKind(row["kind"]), row["name"], slug) for row in rows
    ]


def new_connection(tenant: Tenant, *, preset: Preset, name: str, config: OidcConfig | SamlConfig,
                   now: datetime) -> SignInConnection:  # fmt: skip
    """A connection with a random id and what is usual."""
    return SignInConnection(
        tenant_id=tenant.id, id=uuid4(), preset=preset, name=checked_connection_name(name), config=config,
        created_at=now, updated_at=now,
    )  # fmt: skip


def checked_connection_name(name: str) -> str:
    """What the sign-in page shows.

    Raises:
        BadInput: empty, longer than 100 characters, or with some that cannot be printed.
    """
    if not 1 <= len(name) <= 100 or not name.isprintable() or name != name.strip():
        raise BadInput("A connection's name has 1 to 100 printable characters.", field="name")
    return name


def _admits(connection: SignInConnection) -> tuple[Any, ...]:
    """What decides who comes in by a connection."""
    return connection.config, connection.sealed_secret, connection.allowed_domains, connection.is_enabled


async def _refuse_taken(session: Session, connection: SignInConnection) -> None:
    if await session.fetchrow(NAME_IS_TAKEN, connection.name, connection.id):
        raise Conflict(f"There is a connection named {connection.name!r} already.", code="name_taken", field="name")


def _columns(connection: SignInConnection) -> tuple[Any, ...]:
    return (
        connection.tenant_id,
        connection.id,
        connection.kind.value,
        connection.preset.value,
        connection.name,
        msgspec.json.encode(connection.config).decode(),
        connection.sealed_secret,
        list(connection.allowed_domains),
        connection.default_role.value,
        msgspec.json.encode(connection.role_rules).decode(),
        connection.is_enabled,
    )


def _told(connection: SignInConnection) -> dict[str, Any]:
    """What the audit trail tells of a connection: no secret."""
    return {
        "preset": connection.preset.value,
        "name": connection.name,
        "config": msgspec.to_builtins(connection.config),
        "allowed_domains": list(connection.allowed_domains),
        "default_role": connection.default_role.value,
        "role_rules": msgspec.to_builtins(connection.role_rules),
        "is_enabled": connection.is_enabled,
    }
