"""A person's own sessions: seen, and ended by the person."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from core.database import Database
from core.queries import named
from core.sessions import IDLE, EndedSession, Entry, revoke_sessions, tell
from core.tenancy import PersonId, SessionId, TenantId

LIST = named("sessions", "list_sessions")
FIND = named("sessions", "find_sessions")
COUNT = named("sessions", "count_sessions")

BY_PERSON = "by_person"


@dataclass(frozen=True, slots=True)
class SessionRow:
    """A session as its person sees it."""

    id: SessionId
    tenant_id: TenantId
    tenant_slug: str
    method: str
    address: str
    agent: str
    is_locked: bool
    created_at: datetime
    last_used_at: datetime
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Own:
    """Whose sessions are meant: a person's, or those of it that are in one tenant."""

    person_id: PersonId
    tenant_id: TenantId | None = None


async def list_sessions(
    database: Database, own: Own, most: int, before: tuple[datetime, UUID] | None = None
) -> list[SessionRow]:
    """Live sessions, the last used first, from a place on."""
    async with database.as_doorkeeper() as session:
        rows = await session.fetch(LIST, own.person_id, own.tenant_id, IDLE, most, *(before or (None, None)))
    return [session_row_of(row) for row in rows]


async def find_sessions(database: Database, own: Own, ids: Sequence[UUID]) -> list[SessionRow | None]:
    """Live sessions by their ids, in their order; None for what is none of these."""
    async with database.as_doorkeeper() as session:
        rows = await session.fetch(FIND, own.person_id, own.tenant_id, IDLE, list(ids))
    found = {row["id"]: session_row_of(row) for row in rows}
    return [found.get(id) for id in ids]


async def count_sessions(database: Database, own: Own) -> int:
    async with database.as_doorkeeper() as session:
        row = await session.fetchrow(COUNT, own.person_id, own.tenant_id, IDLE)
    return int(row["count"]) if row else 0


def session_row_of(row: Any) -> SessionRow:
    """A session from a row of `list_sessions`."""
    return SessionRow(
        SessionId(UUID(int=row["id"].int)), TenantId(UUID(int=row["tenant_id"].int)), row["slug"], row["method"],
        row["address"], row["agent"], row["is_locked"], row["created_at"], row["last_used_at"], row["expires_at"],
    )  # fmt: skip


async def end_own_sessions(database: Database, own: Own, request_id: str, **which: SessionId) -> list[EndedSession]:
    """Ends those sessions that are meant: `session_id`, or all but `keep`; in a transaction of its own."""
    async with database.as_doorkeeper(is_write=True) as session:
        ended = await revoke_sessions(
            session, person_id=own.person_id, tenant_id=own.tenant_id, reason=BY_PERSON, **which
        )
        await tell(session, own.person_id, request_id, entries_of(ended, BY_PERSON))
    return ended


def entries_of(ended: Sequence[EndedSession], reason: str) -> list[Entry]:
    """What the trails tell of sessions that were ended."""
    return [Entry(one.tenant_id, "session.revoke", str(one.id), {"reason": reason}) for one in ended]
