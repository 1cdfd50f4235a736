"""Jobs: what is done for a tenant outside of a request, asked for and looked at by the tenant, run by a worker."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

import msgspec

from core.audit import Author, audit
from core.database import Database, Session
from core.errors import Conflict, NotFound, TooMany
from core.queries import named
from core.standing import require_author
from core.tenancy import TenantId

ASK = named("jobs", "ask_job")
LIST = named("jobs", "list_jobs")
COUNT = named("jobs", "count_jobs")
COUNT_FILES = named("jobs", "count_files")
FIND = named("jobs", "find_jobs")
CANCEL = named("jobs", "cancel_job")

# A tenant's files of exports take room that others need too.
MAX_FILES = 10
FILES_RETRY_SECONDS = 3600.0


class JobKind(StrEnum):
    """What a job does."""

    EXPORT_TENANT = "export_tenant"
    EXPORT_AUDIT_LOG = "export_audit_log"
    DELETE_TENANT = "delete_tenant"
    BACKFILL_METRIC = "backfill_metric"


# Those that make a file.
EXPORTS = frozenset({JobKind.EXPORT_TENANT, JobKind.EXPORT_AUDIT_LOG})


class JobState(StrEnum):
    """Where a job is."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Job:
    """One job. `place` is where its worker goes on; `result` what it made: of an export `file`, `bytes`, `sha256` and
    `rows` by name."""

    tenant_id: TenantId
    id: UUID
    kind: JobKind
    state: JobState
    arguments: Mapping[str, Any]
    place: Mapping[str, Any]
    progress: float
    doing: str
    asked_by: str
    asked_at: datetime
    begins_at: datetime
    began_at: datetime | None
    ended_at: datetime | None
    expires_at: datetime | None
    result: Mapping[str, Any]
    error: str | None
    attempts: int
    is_cancel_asked: bool

    @property
    def is_open(self) -> bool:
        return self.state in (JobState.WAITING, JobState.RUNNING)


async def ask(
    session: Session,
    author: Author,
    kind: JobKind,
    arguments: Mapping[str, Any],
    *,
    begins_at: datetime | None = None,
) -> Job:
    """A new job, within the caller's transaction; the caller writes the audit entry.

    Raises:
        Conflict: another of its kind is waiting or running.
    """
    text = msgspec.json.encode(arguments).decode()
    row = await session.fetchrow(ASK, kind.value, text, author.actor, author.request_id, begins_at)
    if row is None:
        what = kind.value.replace("_", " ")
        raise Conflict(f"A job to {what} is under way already; wait for it, or cancel it.", code="job_under_way")
    return job_of(row)


async def ask_export(database: Database, author: Author, kind: JobKind, arguments: Mapping[str, Any]) -> Job:
    """A new export, with its audit entry.

    Raises:
        Conflict: another of its kind is under way.
        TooMany: so many files are kept that there is no room for another.
        PermissionDenied: the author may no more.
    """
    async with database.as_tenant(author.tenant_id, is_write=True) as session:
        await require_author(session, author)
        row = await session.fetchrow(COUNT_FILES)
        if row is not None and row["files"] >= MAX_FILES:
            raise TooMany(
                f"{MAX_FILES} files of exports are kept for this tenant already; each is deleted when its time is up.",
                retry_after=FILES_RETRY_SECONDS,
                code="too_many_exports",
            )
        job = await ask(session, author, kind, arguments)
        await audit(session, author, "export.ask", str(job.id), {"kind": kind.value, **arguments})
        return job


async def list_jobs(database: Database, tenant_id: TenantId, most: int, before: UUID | None) -> list[Job]:
    """The tenant's jobs, newest first."""
    async with database.as_tenant(tenant_id) as session:
        return [job_of(row) for row in await session.fetch(LIST, most, before)]


async def count_jobs(database: Database, tenant_id: TenantId) -> int:
    async with database.as_tenant(tenant_id) as session:
        row = await session.fetchrow(COUNT)
    return int(row["jobs"]) if row else 0


async def find_jobs(database: Database, tenant_id: TenantId, ids: Sequence[UUID]) -> list[Job | None]:
    """Jobs by their ids, in the order of these; None where the tenant has none."""
    async with database.as_tenant(tenant_id) as session:
        found = {job.id: job for job in map(job_of, await session.fetch(FIND, list(ids)))}
    return [found.get(id) for id in ids]


async def cancel(database: Database, author: Author, id: UUID) -> Job:
    """Ends a waiting job; a running one ends at its next step.

    Raises:
        NotFound: the tenant has no such job.
        Conflict: it has ended, or is one that deletes the tenant or counts for a metric.
        PermissionDenied: the author may no more.
    """
    async with database.as_tenant(author.tenant_id, is_write=True) as session:
        await require_author(session, author)
        row = await session.fetchrow(CANCEL, id)
        if row is None:
            rows = await session.fetch(FIND, [id])
            if not rows:
                raise NotFound("There is no Job with that id.", field="id")
            if rows[0]["kind"] == JobKind.DELETE_TENANT and rows[0]["ended_at"] is None:
                raise Conflict(
                    "Deleting the tenant is taken back by restoreTenant.", code="not_cancellable", field="id"
                )
            if rows[0]["kind"] == JobKind.BACKFILL_METRIC and rows[0]["ended_at"] is None:
                raise Conflict(
                    "Counting earlier events ends when the metric is archived.", code="not_cancellable", field="id"
                )
            raise Conflict(f"The job has ended: it is {rows[0]['state']}.", code="job_ended", field="id")
        await audit(session, author, "job.cancel", str(id), {"kind": row["kind"]})
        return job_of(row)


def job_of(row: Any) -> Job:
    """A job from its row."""
    decode = msgspec.json.decode
    return Job(
        TenantId(UUID(int=row["tenant_id"].int)), UUID(int=row["id"].int), JobKind(row["kind"]),
        JobState(row["state"]), decode(row["arguments"]), decode(row["place"]), row["progress"], row["doing"],
        row["asked_by"], row["asked_at"], row["begins_at"], row["began_at"], row["ended_at"], row["expires_at"],
        decode(row["result"]), row["error"] or None, row["attempts"], row["is_cancel_asked"],
    )  # fmt: skip
