"""The end of a tenant: asked for, taken back while nothing has gone, and the proof that stays. `docs/deletion.md`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec

from core.audit import Author, audit
from core.database import Database, Session
from core.errors import BadInput, Conflict, NotFound
from core.jobs import Job, JobKind, ask
from core.members import lock_members
from core.queries import named
from core.standing import require_author
from core.tenancy import Tenant

MARK_ENDING = named("tenant_ends", "mark_ending")
UNMARK_ENDING = named("tenant_ends", "unmark_ending")
READ_ENDING = named("tenant_ends", "read_ending")
CANCEL_DELETION = named("jobs", "cancel_deletion")
LIST_ERASURES = named("tenant_ends", "list_erasures")

# What a door knows of a key or a session is at most 5 s old, and a request is short.
DOORS = timedelta(seconds=10)


@dataclass(frozen=True, slots=True)
class Removed:
    """Rows of a table that went, and those that are left; `left` is None while it goes on."""

    removed: int
    left: int | None


@dataclass(frozen=True, slots=True)
class Erasure:
    """The proof that a tenant is gone. `others` is what else was removed, by name; `late_rows` came in after the end
    and were swept up."""

    id: UUID
    slug: str
    asked_by: str
    asked_at: datetime | None
    began_at: datetime
    ended_at: datetime | None
    tables: Mapping[str, Removed]
    others: Mapping[str, Any]
    late_rows: int
    swept_at: datetime | None
    audit_sequence: int | None
    audit_hash: str | None
    people_removed: int


async def ask_deletion(
    database: Database,
    tenant: Tenant,
    author: Author,
    *,
    typed: str,
    grace: timedelta,
    doors: timedelta = DOORS,
) -> Job:
    """Ends the tenant: its keys and sessions are refused from now on, its rows go when the grace is over, and not
    before every door knows (`doors`).

    Raises:
        BadInput: what was typed is not its slug.
        Conflict: it is ending already.
        PermissionDenied: the author may no more.
    """
    if typed != tenant.slug:
        raise BadInput("Type the tenant's slug exactly, to say that it is this one.", code="wrong_slug", field="slug")
    ends_at = datetime.now(UTC) + max(grace, doors)
    async with database.as_tenant(tenant.id, is_write=True) as session:
        await lock_members(session)
        await require_author(session, author)
        if await session.fetchrow(MARK_ENDING, ends_at) is None and not await _is_going(session):
            raise Conflict("The tenant is to be deleted already; restoreTenant takes it back.", code="tenant_ending")
        job = await ask(session, author, JobKind.DELETE_TENANT, {}, begins_at=ends_at)
        await audit(session, author, "tenant.delete", tenant.slug, {"ends_at": [None, ends_at.isoformat()]})
        return job


async def _is_going(session: Session) -> bool:
    """Whether rows are going already: a job that gave up may be asked for again, and goes on."""
    row = await session.fetchrow(READ_ENDING)
    return row is not None and row["erasing_since"] is not None


async def restore(database: Database, tenant: Tenant, author: Author, *, typed: str) -> None:
    """Takes the end back; keys and sessions work again within 5 s.

    Raises:
        BadInput: what was typed is not its slug.
        Conflict: it is not ending, or its rows are going already.
        PermissionDenied: the author may no more.
    """
    if typed != tenant.slug:
        raise BadInput("Type the tenant's slug exactly, to say that it is this one.", code="wrong_slug", field="slug")
    async with database.as_tenant(tenant.id, is_write=True) as session:
        await lock_members(session)
        await require_author(session, author)
        if await session.fetchrow(UNMARK_ENDING) is None:
            if await _is_going(session):
                raise Conflict("The tenant's rows are being removed; it cannot be restored.", code="tenant_going")
            raise Conflict("The tenant is not to be deleted; there is nothing to take back.", code="tenant_not_ending")
        await session.fetch(CANCEL_DELETION)
        await audit(session, author, "tenant.restore", tenant.slug, {})


async def is_here_to_stay(database: Database, tenant: UUID) -> bool:
    """Whether the tenant is there, and not to be deleted."""
    async with database.as_tenant(tenant) as session:  # type: ignore[arg-type]
        row = await session.fetchrow(READ_ENDING)
    return row is not None and row["ends_at"] is None and row["erasing_since"] is None


async def is_erasing(database: Database, tenant: UUID) -> bool:
    """Whether rows of the tenant are going: nobody can take that back any more."""
    async with database.as_tenant(tenant) as session:  # type: ignore[arg-type]
        return await _is_going(session)


async def list_erasures(database: Database, slug: str | None) -> list[Erasure]:
    """The proofs of tenants that had a slug, or (None) of all; newest first."""
    async with database.as_doorkeeper() as session:
        return [erasure_of(row) for row in await session.fetch(LIST_ERASURES, slug)]


async def find_erasures(database: Database, slug: str) -> list[Erasure]:
    """The proofs of one slug.

    Raises:
        NotFound: no tenant of that slug was deleted.
    """
    found = await list_erasures(database, slug)
    if not found:
        raise NotFound(f"No tenant {slug!r} was deleted; `tenant deleted` lists those that were.")
    return found


def erasure_of(row: Any) -> Erasure:
    tables = msgspec.json.decode(row["tables"])
    return Erasure(
        UUID(int=row["id"].int), row["slug"], row["asked_by"], row["asked_at"], row["began_at"], row["ended_at"],
        {name: Removed(found["removed"], found["left"]) for name, found in sorted(tables.items())},
        msgspec.json.decode(row["others"]), row["late_rows"], row["swept_at"], row["audit_sequence"],
        row["audit_hash"].hex() if row["audit_hash"] else None, row["people_removed"],
    )  # fmt: skip
