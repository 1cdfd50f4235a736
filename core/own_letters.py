"""A tenant's own dead letters, for its administrator: row-level security shows no others. Every write is audited."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from core.audit import Author, audit
from core.database import Database, Session
from core.dead_letters import Place
from core.errors import NotFound
from core.eventlog import EventLog
from core.queries import named
from core.standing import require_standing
from core.tenancy import Principal, TenantId

LIST = named("dead_letters", "list_own_letters")
FIND = named("dead_letters", "find_own_letters")
BYTES = named("dead_letters", "own_letter_bytes")
DROP = named("dead_letters", "drop_own_letter")

PREVIEW_BYTES = 2048
PREVIEW_CHARACTERS = 500
# What a letter may hold that its reader has no business with: keys, and whole addresses of visitors.
_KEY = re.compile(r"cm_(sk|pk)_[0-9A-Za-z_-]*")
_IPV4 = re.compile(r"\b(\d{1,3}\.\d{1,3}\.\d{1,3})\.\d{1,3}\b")
_IPV6 = re.compile(r"\b([0-9A-Fa-f]{1,4}:[0-9A-Fa-f]{1,4}:[0-9A-Fa-f]{0,4}):[0-9A-Fa-f:]+")


@dataclass(frozen=True, slots=True)
class OwnLetter:
    """A dead letter as its tenant sees it."""

    place: Place
    reason: str
    created_at: datetime
    size: int
    preview: str


async def list_own(
    database: Database, tenant_id: TenantId, most: int, after: tuple[datetime, Place] | None
) -> list[OwnLetter]:
    """The tenant's letters, newest first, behind a place or from the newest on."""
    at, place = after or (None, None)
    key = (place.topic, place.partition, place.offset, place.worker) if place else (None, None, None, None)
    async with database.as_tenant(tenant_id) as session:
        return [_letter(row) for row in await session.fetch(LIST, most, at, *key, PREVIEW_BYTES)]


async def find_own(database: Database, tenant_id: TenantId, places: Sequence[Place]) -> list[OwnLetter | None]:
    """Letters at these places, in their order; None where the tenant has none."""
    columns = [[p.topic for p in places], [p.partition for p in places], [p.offset for p in places],
               [p.worker for p in places]]  # fmt: skip
    async with database.as_tenant(tenant_id) as session:
        found = {letter.place: letter for letter in map(_letter, await session.fetch(FIND, *columns, PREVIEW_BYTES))}
    return [found.get(place) for place in places]


async def replay_own(database: Database, log: EventLog, principal: Principal, place: Place, request_id: str) -> None:
    """Appends a letter's bytes to the topic that they were read from, then drops it. Killed in between it is replayed
    twice, and its events still count once: by their ids. The trail has it from before the append on, so that none is
    missing there.

    Raises:
        NotFound: the tenant has none there.
        PermissionDenied: the caller may no more.
        LogUnavailable, LogFull: it is kept.
    """
    key = (place.topic, place.partition, place.offset, place.worker)
    async with database.as_tenant(principal.tenant.id, is_write=True) as session:
        await require_standing(session, principal)
        row = await session.fetchrow(BYTES, *key)
        if row is None:
            raise _missing()
        await _note(session, principal, place, "dead_letter.replay", request_id)
    await log.append(place.topic, principal.tenant.id.bytes, row["value"])
    async with database.as_tenant(principal.tenant.id, is_write=True) as session:
        await session.fetchrow(DROP, *key)


async def drop_own(database: Database, principal: Principal, place: Place, request_id: str) -> None:
    """Ends a letter.

    Raises:
        NotFound: the tenant has none there.
        PermissionDenied: the caller may no more.
    """
    async with database.as_tenant(principal.tenant.id, is_write=True) as session:
        await require_standing(session, principal)
        if await session.fetchrow(DROP, place.topic, place.partition, place.offset, place.worker) is None:
            raise _missing()
        await _note(session, principal, place, "dead_letter.drop", request_id)


async def _note(session: Session, principal: Principal, place: Place, action: str, request_id: str) -> None:
    author = Author.of(principal, request_id)
    await audit(session, author, action, str(place), {"topic": place.topic, "offset": place.offset})


def _missing() -> NotFound:
    return NotFound("There is no DeadLetter with that id.", field="id")


def preview_of(beginning: bytes) -> str:
    """The beginning of a record as text: what cannot be printed is a dot, keys and visitors' addresses are masked."""
    text = "".join(c if c.isprintable() and c != "\ufffd" else "." for c in beginning.decode(errors="replace"))
    masked = _IPV6.sub(r"\1::", _IPV4.sub(r"\1.0", _KEY.sub(r"cm_\1_…", text)))
    return masked[:PREVIEW_CHARACTERS]


def _letter(row: Any) -> OwnLetter:
    place = Place(row["worker"], row["topic"], row["partition"], row["offset"])
    return OwnLetter(place, row["reason"], row["created_at"], row["size"], preview_of(row["beginning"]))
