"""Where jobs come from, and what their tenant may do with them."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from uuid import UUID

from core.audit import audit
from core.errors import Conflict
from core.exports import LINK_LIFE, ExportLinks, Link
from core.jobs import Job, JobKind, ask_export, cancel, count_jobs, find_jobs, list_jobs
from core.permissions import Permission
from core.standing import require_author
from core.tenant_ends import ask_deletion, restore
from resolvers.context import Context
from resolvers.global_ids import missing, uuid_of
from resolvers.pages import Page, asked

KIND = "Job"


async def page_of_jobs(context: Context, first: int | None, after: str | None) -> Page[Job]:
    """A page of jobs, newest first.

    Raises:
        BadInput: `first` or `after` cannot be used.
    """
    page = asked(context, KIND, first, after)
    database, tenant_id = context.backends.database, context.principal.tenant.id
    jobs = await list_jobs(database, tenant_id, page.rows, UUID(page.place) if page.place is not None else None)

    async def count() -> int:
        return await count_jobs(database, tenant_id)

    return page.page(jobs, lambda job: str(job.id), count)


async def cancel_job(context: Context, id: str) -> Job:
    """Ends a job.

    Raises:
        NotFound: the tenant has none with that id.
        Conflict: it has ended, or deletes the tenant.
    """
    return await cancel(context.backends.database, context.author, uuid_of(id, KIND))


async def ask_tenant_export(context: Context, *, include_events: bool) -> Job:
    """Asks for everything of the tenant in a file, its raw events left out where they are not wanted.

    Raises:
        Conflict, TooMany: see `core.jobs.ask_export`.
    """
    arguments = {"include_events": include_events}
    return await ask_export(context.backends.database, context.author, JobKind.EXPORT_TENANT, arguments)


async def link_to_file(context: Context, id: str) -> tuple[str, datetime]:
    """A link to a job's file, and until when it is good.

    Raises:
        NotFound: the tenant has no such job.
        Conflict: it has no file: not yet, or not any more.
        PermissionDenied: the file holds more than the caller may read, or it may no more.
    """
    database, tenant = context.backends.database, context.principal.tenant
    (job,) = await find_jobs(database, tenant.id, [uuid_of(id, KIND)])
    if job is None:
        raise missing(KIND)
    # The audit trail alone is for whoever may read it; an export of all is for whoever may ask for one.
    context.principal.require(
        Permission.AUDIT_READ if job.kind is JobKind.EXPORT_AUDIT_LOG else Permission.EXPORTS_WRITE
    )
    if job.expires_at is None or job.expires_at <= datetime.now(UTC):
        raise Conflict("The job has no file: not yet, or not any more.", code="no_file", field="id")
    ends_at = int(time.time() + LINK_LIFE.total_seconds())
    path = ExportLinks(context.backends.settings.master_key_bytes()).sign(Link(tenant.id, job.id, ends_at))
    async with database.as_tenant(tenant.id, is_write=True) as session:
        await require_author(session, context.author)
        await audit(session, context.author, "export.link", str(job.id), {"minutes": LINK_LIFE.seconds // 60})
    return path, datetime.fromtimestamp(ends_at, UTC)


async def delete_tenant(context: Context, slug: str) -> Job:
    """Ends the tenant, once the grace is over.

    Raises:
        BadInput, Conflict: see `core.tenant_ends.ask_deletion`.
    """
    backends = context.backends
    grace = timedelta(days=backends.settings.deletion_grace_days)
    return await ask_deletion(backends.database, context.principal.tenant, context.author, typed=slug, grace=grace)


async def restore_tenant(context: Context, slug: str) -> None:
    """Takes that back; errors as `core.tenant_ends.restore`."""
    await restore(context.backends.database, context.principal.tenant, context.author, typed=slug)


def job_key(local: str) -> UUID:
    """What `find_jobs` takes. Raises ValueError for what is no job's local id."""
    return UUID(local)
