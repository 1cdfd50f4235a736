"""Sessions of people: opened, refreshed, moved to another tenant, revoked. Each change leaves its entry in the trail of
the tenant that the session is of, in its own transaction."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from joserfc.jwk import RSAKey

from core.audit import Author, audit
from core.database import Database, Session
from core.errors import NotFound, PermissionDenied, Unauthenticated
from core.people import Membership, membership_of, memberships_of
from core.queries import named
from core.refresh_tokens import RefreshToken
from core.settings import Settings
from core.signing_keys import signing_key
from core.tenancy import PersonId, SessionId, TenantId
from core.tokens import ACCESS_SECONDS, issue

FIND_MEMBERSHIP = named("sessions", "find_membership")
FIND_MEMBERSHIP_BY_SLUG = named("sessions", "find_membership_by_slug")
INSERT = named("sessions", "insert_session")
FORGET = named("sessions", "forget_sessions")
END_OLDEST = named("sessions", "end_oldest_sessions")
LOCK_FAMILY = named("sessions", "lock_session_of_family")
LOCK = named("sessions", "lock_session")
ROTATE = named("sessions", "rotate_token")
MOVE = named("sessions", "move_session")
REVOKE = named("sessions", "revoke_sessions")

LIFE = timedelta(days=30)
IDLE = timedelta(days=14)
# Two tabs, or a request that was sent again, use a token at once; RFC 9700, 4.14.2 leaves the bound to us.
GRACE = timedelta(seconds=5)
MOST_OF_PERSON = 50
MAX_AGENT_LENGTH = 300


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a request for tokens comes from, and which one it is."""

    address: str
    agent: str
    request_id: str = ""


@dataclass(frozen=True, slots=True)
class OpenedSession:
    """A session's tokens, in the clear for the only time."""

    session_id: SessionId
    person_id: PersonId
    tenant_id: TenantId
    refresh_token: str
    access_token: str
    expires_at: datetime
    is_locked: bool
    expires_in: int = ACCESS_SECONDS
    # The person's, from the same moment; read at a refresh alone.
    memberships: tuple[Membership, ...] = ()


async def open_session(
    database: Database,
    settings: Settings,
    *,
    person_id: PersonId,
    tenant_id: TenantId,
    method: str,
    address: str,
    agent: str,
    locked: bool,
) -> OpenedSession:
    """Signs a person in, who has shown who it is by `method` (password, oidc, saml, invitation …). `locked`: it is of
    that tenant for ever, as a session that the tenant's own identity provider vouches for must be.

    Raises:
        PermissionDenied: the person is no member there, or may not sign in any more.
    """
    async with database.as_doorkeeper(is_write=True) as session:
        fresh = await insert_session(
            session, person_id, tenant_id, method=method, origin=Origin(address, agent), is_locked=locked
        )
    return await opened(database, settings, fresh)


@dataclass(frozen=True, slots=True)
class FreshSession:
    """A session that was written, and the one refresh token of it."""

    session_id: SessionId
    person_id: PersonId
    tenant_id: TenantId
    token: RefreshToken
    expires_at: datetime
    is_locked: bool


async def insert_session(
    session: Session, person_id: PersonId, tenant_id: TenantId, *, method: str, origin: Origin, is_locked: bool
) -> FreshSession:
    """The same within a transaction of the doorkeeper's. Of more than `MOST_OF_PERSON` the one that was not used for
    longest is ended."""
    if await session.fetchrow(FIND_MEMBERSHIP, person_id, tenant_id) is None:
        raise PermissionDenied("You are not a member of that tenant.", code="not_a_member")
    session_id, token = SessionId(uuid4()), RefreshToken.new()
    await session.execute(FORGET, person_id)
    oldest = await session.fetch(END_OLDEST, person_id, MOST_OF_PERSON - 1)
    row = await session.fetchrow(
        INSERT,
        session_id,
        tenant_id,
        person_id,
        is_locked,
        method,
        origin.address[:64],
        _printable(origin.agent),
        token.family_hash,
        token.hash,
        LIFE,
    )
    assert row is not None
    diff = {"method": method, "address": origin.address, "locked": is_locked}
    ended = [
        Entry(TenantId(_uuid(old["tenant_id"])), "session.revoke", str(old["id"]), {"reason": "too_many"})
        for old in oldest
    ]
    entries = [*ended, Entry(tenant_id, "session.open", str(session_id), diff)]
    await tell(session, person_id, origin.request_id, entries)
    return FreshSession(session_id, person_id, tenant_id, token, row["expires_at"], is_locked)


async def opened(database: Database, settings: Settings, fresh: FreshSession) -> OpenedSession:
    """The tokens of a session that was just written."""
    return _opened(await signing_key(database, settings.master_key_bytes()), settings, fresh)


def _opened(key: RSAKey, settings: Settings, fresh: FreshSession) -> OpenedSession:
    access = _signed(key, settings, fresh.session_id, fresh.person_id, fresh.tenant_id)
    return OpenedSession(
        fresh.session_id, fresh.person_id, fresh.tenant_id, fresh.token.text, access, fresh.expires_at, fresh.is_locked
    )


async def access_token(
    database: Database, settings: Settings, session_id: SessionId, person_id: PersonId, tenant_id: TenantId
) -> str:
    """An access token of a session, good for ten minutes in that one tenant."""
    return _signed(await signing_key(database, settings.master_key_bytes()), settings, session_id, person_id, tenant_id)


def _signed(key: RSAKey, settings: Settings, session_id: SessionId, person_id: PersonId, tenant_id: TenantId) -> str:
    return issue(
        key,
        issuer=settings.public_base,
        person_id=person_id,
        session_id=session_id,
        tenant_id=tenant_id,
        now=int(time.time()),
    )


async def refresh_session(database: Database, settings: Settings, text: str, origin: Origin) -> OpenedSession:
    """New tokens for a refresh token, which is good once. Within `GRACE` the one that was just used gives the same
    successor again; any other that was used before ends the session, for two have it.

    Raises:
        Unauthenticated: `invalid_token`, `session_expired` or `session_revoked`.
    """
    token = RefreshToken.parse(text)
    # All that is needed is read before the rotation is committed: who got no answer to it and asks again after the
    # grace is taken for a thief.
    key = await signing_key(database, settings.master_key_bytes())
    memberships: tuple[Membership, ...] = ()
    # A refusal that ends the session is raised once its transaction is committed.
    async with database.as_doorkeeper(is_write=True) as session:
        outcome = await _rotate(session, token, origin)
        if isinstance(outcome, FreshSession):
            memberships = tuple(await memberships_of(session, outcome.person_id))
    if isinstance(outcome, Unauthenticated):
        raise outcome
    return replace(_opened(key, settings, outcome), memberships=memberships)


async def _rotate(session: Session, token: RefreshToken, origin: Origin) -> FreshSession | Unauthenticated:
    row = await session.fetchrow(LOCK_FAMILY, token.family_hash, IDLE, GRACE)
    if row is None:
        return Unauthenticated("The refresh token is not a good one; sign in again.", code="invalid_token")
    if row["revoked_at"] is not None or row["is_disabled"]:
        return revoked()
    if row["has_expired"]:
        return Unauthenticated("The session has ended by its age; sign in again.", code="session_expired")
    session_id, person_id = SessionId(_uuid(row["id"])), PersonId(_uuid(row["person_id"]))
    tenant_id = TenantId(_uuid(row["tenant_id"]))
    author = author_of(tenant_id, person_id, origin.request_id)
    if token.hash == row["token_hash"]:
        if await session.fetchrow(FIND_MEMBERSHIP, person_id, tenant_id) is None:
            await revoke_sessions(session, person_id=person_id, session_id=session_id, reason="not_a_member")
            await audit(session, author, "session.revoke", str(session_id), {"reason": "not_a_member"})
            return revoked()
        successor = token.successor()
        await session.execute(
            ROTATE, session_id, successor.hash, token.seal(successor), origin.address[:64], _printable(origin.agent)
        )
        return FreshSession(session_id, person_id, tenant_id, successor, row["expires_at"], row["is_locked"])
    if token.hash == row["previous_hash"] and row["is_in_grace"]:
        return FreshSession(
            session_id, person_id, tenant_id, token.unseal(row["sealed_token"]), row["expires_at"], row["is_locked"]
        )
    await revoke_sessions(session, person_id=person_id, session_id=session_id, reason="token_reused")
    diff = {"reason": "token_reused", "address": origin.address, "agent": _printable(origin.agent)}
    await audit(session, author, "session.revoke", str(session_id), diff)
    return revoked()


async def close_session(database: Database, text: str, origin: Origin) -> None:
    """Signs out by a refresh token; one that is none, or whose session has ended, is no error."""
    try:
        token = RefreshToken.parse(text)
    except Unauthenticated:
        return
    async with database.as_doorkeeper(is_write=True) as session:
        row = await session.fetchrow(LOCK_FAMILY, token.family_hash, IDLE, GRACE)
        if row is None or row["revoked_at"] is not None:
            return
        session_id, person_id = SessionId(_uuid(row["id"])), PersonId(_uuid(row["person_id"]))
        await revoke_sessions(session, person_id=person_id, session_id=session_id, reason="signed_out")
        author = author_of(TenantId(_uuid(row["tenant_id"])), person_id, origin.request_id)
        await audit(session, author, "session.close", str(session_id), {})


async def switch_session(
    database: Database, settings: Settings, session_id: SessionId, slug: str, request_id: str
) -> tuple[str, Membership]:
    """Moves a session to another of its person's tenants: an access token for there. Those for where it was are refused
    from then on; the refresh token goes on.

    Raises:
        PermissionDenied: the session is locked to its tenant.
        NotFound: the person has no such tenant.
    """
    async with database.as_doorkeeper(is_write=True) as session:
        row = await session.fetchrow(LOCK, session_id)
        if row is None or row["revoked_at"] is not None:
            raise revoked()
        if row["is_locked"]:
            # Said before anything is looked for: not even which tenants its person has is told.
            raise PermissionDenied(
                "This session was opened by the tenant's identity provider and is good there alone; sign in anew.",
                code="session_locked",
            )
        person_id, left = PersonId(_uuid(row["person_id"])), TenantId(_uuid(row["tenant_id"]))
        found = await session.fetchrow(FIND_MEMBERSHIP_BY_SLUG, person_id, slug)
        if found is None:
            raise NotFound("You are a member of no tenant with that slug; viewer.tenants lists yours.", field="slug")
        membership = membership_of(found)
        if membership.tenant.id != left:
            await session.execute(MOVE, session_id, membership.tenant.id)
            # Neither tenant learns from its trail which other ones a person has.
            moves = [
                Entry(left, "session.leave", str(session_id)),
                Entry(membership.tenant.id, "session.enter", str(session_id)),
            ]
            await tell(session, person_id, request_id, moves)
    access = await access_token(database, settings, session_id, person_id, membership.tenant.id)
    return access, membership


@dataclass(frozen=True, slots=True)
class Entry:
    """What the trail of one tenant tells of what a person did with itself."""

    tenant_id: TenantId
    action: str
    subject: str
    diff: Mapping[str, Any] = field(default_factory=dict)


async def tell(session: Session, person_id: PersonId, request_id: str, entries: Sequence[Entry]) -> None:
    """Writes entries, maybe into several trails: always in the order of the tenants and after all other writes, so that
    two who write to the same ones wait for each other and never for ever."""
    for entry in sorted(entries, key=lambda entry: entry.tenant_id):
        author = author_of(entry.tenant_id, person_id, request_id)
        await audit(session, author, entry.action, entry.subject, entry.diff)


@dataclass(frozen=True, slots=True)
class EndedSession:
    """A session that was ended, and the tenant that it was in."""

    id: SessionId
    tenant_id: TenantId


async def revoke_sessions(
    session: Session,
    *,
    person_id: PersonId,
    tenant_id: TenantId | None = None,
    session_id: SessionId | None = None,
    keep: SessionId | None = None,
    reason: str,
) -> list[EndedSession]:
    """Ends a person's live sessions: all, those that are in a tenant now, or one; except `keep`. Which those were.

    Within the caller's transaction, which is the doorkeeper's, or a tenant's for the sessions that are in that tenant;
    the entry in the trail is the caller's. Requests are refused within 5 s, sockets closed within 30 s.
    """
    rows = await session.fetch(REVOKE, person_id, tenant_id, session_id, keep, reason)
    return [EndedSession(SessionId(_uuid(row["id"])), TenantId(_uuid(row["tenant_id"]))) for row in rows]


def author_of(tenant_id: TenantId, person_id: PersonId, request_id: str) -> Author:
    """Who the trail names for what a person does with its own sessions."""
    actor = f"person:{person_id}"
    return Author(tenant_id, actor, request_id) if request_id else Author.operator(tenant_id, actor)


def revoked() -> Unauthenticated:
    return Unauthenticated("The session was ended; sign in again.", code="session_revoked")


def _uuid(value: Any) -> UUID:
    """asyncpg's own kind of UUID as the usual one."""
    return UUID(int=value.int)


def _printable(agent: str) -> str:
    return "".join(character if character.isprintable() else " " for character in agent[:MAX_AGENT_LENGTH])
