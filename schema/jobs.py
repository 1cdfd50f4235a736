"""Jobs: exports of a tenant, its deletion, and how far they are."""

from __future__ import annotations

from datetime import datetime
from typing import Any, cast

import strawberry
from strawberry import Info

from core.exports import saved_name
from core.jobs import Job as JobRow
from core.jobs import JobKind, JobState
from core.permissions import Permission
from resolvers.context import Context
from resolvers.global_ids import global_id
from resolvers.jobs import (
    ask_tenant_export,
    cancel_job,
    delete_tenant,
    link_to_file,
    restore_tenant,
)
from schema.described import enum_of
from schema.guarded import mutation, shown_to
from schema.node import Node

JobKindType = enum_of(
    JobKind,
    "What a job does.",
    EXPORT_TENANT="Writes everything of the tenant into a file.",
    EXPORT_AUDIT_LOG="Writes the audit trail into a file.",
    DELETE_TENANT="Ends the tenant and everything of it.",
    BACKFILL_METRIC="Counts earlier events for a new version of a metric.",
)
JobStateType = enum_of(
    JobState,
    "Where a job is.",
    WAITING="No worker has it yet, or its time has not come.",
    RUNNING="A worker is at it.",
    DONE="It has done what it was for.",
    FAILED="It could not; `error` says why.",
    CANCELLED="It was ended before.",
)


@shown_to(Permission.EXPORTS_WRITE)
@strawberry.type(description="How many rows of one kind a file holds.")
class RowCount:
    name: str = strawberry.field(description="What the rows are of, such as events.")
    rows: float = strawberry.field(description="How many; whole, as a Float since it may pass 2^31.")


@shown_to(Permission.EXPORTS_WRITE)
@strawberry.type(description="A file that a job made. `createExportLink` gives a link to it.")
class ExportFile:
    name: str = strawberry.field(description="What it is saved as.")
    bytes: float = strawberry.field(description="Its size; whole, as a Float since it may pass 2^31.")
    sha256: str = strawberry.field(description="Its SHA-256, in hex.")
    rows: list[RowCount] = strawberry.field(description="What it holds.")
    expires_at: datetime = strawberry.field(description="When it is deleted.")


@shown_to(Permission.EXPORTS_WRITE)
@strawberry.type(description="What is done for the tenant outside of a request.")
class Job(Node):
    @strawberry.field(description="Global id.")
    def id(self) -> strawberry.ID:
        return strawberry.ID(global_id("Job", str(cast(JobRow, self).id)))

    kind: JobKindType = strawberry.field(description="What it does.")  # type: ignore[valid-type]
    state: JobStateType = strawberry.field(description="Where it is.")  # type: ignore[valid-type]
    progress: float = strawberry.field(description="How far it is, 0 to 1.")
    doing: str = strawberry.field(description="What it is at, in words.")
    asked_by: str = strawberry.field(description="Who asked for it, as the audit trail names it.")
    asked_at: datetime = strawberry.field(description="When.")
    begins_at: datetime = strawberry.field(description="When it may begin: a deletion waits until its grace is over.")
    began_at: datetime | None = strawberry.field(description="When a worker took it up first.")
    ended_at: datetime | None = strawberry.field(description="When it ended.")
    error: str | None = strawberry.field(description="Why it failed.")

    @strawberry.field(description="The file it made; null while there is none, or none any more.")
    def file(self) -> ExportFile | None:
        job = cast(JobRow, self)
        if job.expires_at is None or not job.result:
            return None
        rows = [RowCount(name=name, rows=float(count)) for name, count in job.result["rows"].items()]
        return ExportFile(
            name=saved_name(job.id, job.result["file"]),
            bytes=float(job.result["bytes"]),
            sha256=job.result["sha256"],
            rows=rows,
            expires_at=job.expires_at,
        )

    @classmethod
    def is_type_of(cls, obj: object, info: object) -> bool:
        return isinstance(obj, JobRow)


@strawberry.input(description="What to export: everything of the tenant.")
class ExportTenantInput:
    include_events: bool = strawberry.field(default=True, description="Also the raw events, which are the most of it.")


@strawberry.input(description="Which job to end.")
class CancelJobInput:
    id: strawberry.ID = strawberry.field(description="Its global id.")


@strawberry.input(description="Which job's file to link to.")
class CreateExportLinkInput:
    job_id: strawberry.ID = strawberry.field(description="The job's global id.")


@strawberry.input(description="Which tenant to delete: the caller's own.")
class DeleteTenantInput:
    slug: str = strawberry.field(description="The tenant's slug, typed again.")


@strawberry.input(description="Which tenant to keep after all: the caller's own.")
class RestoreTenantInput:
    slug: str = strawberry.field(description="The tenant's slug, typed again.")


@shown_to(Permission.EXPORTS_WRITE)
@strawberry.type(description="The export is asked for; `job` says how far it is.")
class ExportTenantPayload:
    job: Job = strawberry.field(description="The job that writes the file.")


@shown_to(Permission.EXPORTS_WRITE)
@strawberry.type(description="The job ends: at once if it was waiting, else at its next step.")
class CancelJobPayload:
    job: Job = strawberry.field(description="The job.")


@shown_to(Permission.EXPORTS_WRITE)
@strawberry.type(description="A link that whoever has it may use.")
class CreateExportLinkPayload:
    url: str = strawberry.field(description="The link on this server, such as /exports/…; relative to its address.")
    expires_at: datetime = strawberry.field(description="Until when it is good: ten minutes.")


@shown_to(Permission.TENANT_DELETE)
@strawberry.type(
    description="Keys and sessions of the tenant are refused from now on; its rows go when the grace is over."
)
class DeleteTenantPayload:
    slug: str = strawberry.field(description="As given.")
    job: Job = strawberry.field(description="The job that removes everything.")
    ends_at: datetime = strawberry.field(description="Until when `restoreTenant` takes it back.")


@shown_to(Permission.TENANT_DELETE)
@strawberry.type(description="The tenant stays; its keys and sessions work again within 5 s.")
class RestoreTenantPayload:
    slug: str = strawberry.field(description="As given.")


async def resolve_export_tenant(info: Info[Context, None], input: ExportTenantInput) -> ExportTenantPayload:
    """Asks for everything of the tenant in a file."""
    job: Any = await ask_tenant_export(info.context, include_events=input.include_events)
    return ExportTenantPayload(job=job)


async def resolve_cancel_job(info: Info[Context, None], input: CancelJobInput) -> CancelJobPayload:
    """Ends a job."""
    job: Any = await cancel_job(info.context, input.id)
    return CancelJobPayload(job=job)


async def resolve_create_export_link(
    info: Info[Context, None], input: CreateExportLinkInput
) -> CreateExportLinkPayload:
    """A link to a file."""
    path, expires_at = await link_to_file(info.context, input.job_id)
    return CreateExportLinkPayload(url=path, expires_at=expires_at)


async def resolve_delete_tenant(info: Info[Context, None], input: DeleteTenantInput) -> DeleteTenantPayload:
    """Ends the tenant."""
    job: Any = await delete_tenant(info.context, input.slug)
    return DeleteTenantPayload(slug=input.slug, job=job, ends_at=job.begins_at)


async def resolve_restore_tenant(info: Info[Context, None], input: RestoreTenantInput) -> RestoreTenantPayload:
    """Keeps the tenant after all."""
    await restore_tenant(info.context, input.slug)
    return RestoreTenantPayload(slug=input.slug)


@strawberry.type
class JobMutations:
    export_tenant = mutation(
        Permission.EXPORTS_WRITE,
        resolve_export_tenant,
        ExportTenantPayload,
        "Writes everything of the tenant into a file, as a job; it is deleted after 7 days.",
    )
    cancel_job = mutation(Permission.EXPORTS_WRITE, resolve_cancel_job, CancelJobPayload, "Ends a job.")
    create_export_link = mutation(
        Permission.EXPORTS_WRITE, resolve_create_export_link, CreateExportLinkPayload, "Makes a link to a job's file."
    )
    delete_tenant = mutation(
        Permission.TENANT_DELETE,
        resolve_delete_tenant,
        DeleteTenantPayload,
        "Deletes the tenant and everything of it, once the grace is over.",
    )
    restore_tenant = mutation(
        Permission.TENANT_DELETE,
        resolve_restore_tenant,
        RestoreTenantPayload,
        "Keeps a tenant that is to be deleted, while nothing of it has gone.",
    )
