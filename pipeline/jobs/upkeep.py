"""What is done around jobs once a minute: files past their time go, and so does what came late for tenants that are
gone. Several workers may do it at once; each thing goes once."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from uuid import UUID

from core.queries import named
from pipeline.jobs.erasure import after_the_end, erase_updates
from pipeline.jobs.runner import JobParts

LIST_EXPIRED = named("jobs", "list_expired")
END_FILE = named("jobs", "end_file")
FIND_WANTED = named("jobs", "find_wanted")
FORGET_JOBS = named("jobs", "forget_jobs")
LIST_RECENT = named("tenant_ends", "list_recent")
SWEEP = named("tenant_ends", "sweep_erased")

# Jobs that ended stay to be looked at for so long.
JOB_DAYS = 90
# What is older than the log keeps records cannot come from it any more.
SWEEP_MARGIN = timedelta(days=2)


async def remove_old_files(parts: JobParts) -> int:
    """Files past their time, and those of which no job knows; how many jobs lost theirs."""
    async with parts.database.as_writer() as session:
        expired = [(UUID(int=r["tenant_id"].int), UUID(int=r["id"].int)) for r in await session.fetch(LIST_EXPIRED)]
    for tenant_id, job_id in expired:
        await asyncio.to_thread(parts.folder.remove_job, tenant_id, job_id)
        async with parts.database.as_writer() as session:
            await session.execute(END_FILE, tenant_id, job_id)
    there = await asyncio.to_thread(parts.folder.jobs)
    async with parts.database.as_writer() as session:
        rows = await session.fetch(FIND_WANTED, [job_id for _, job_id in there])
        await session.execute(FORGET_JOBS, datetime.now(UTC) - timedelta(days=JOB_DAYS))
    wanted = {UUID(int=row["id"].int) for row in rows}
    orphans = [(tenant_id, job_id) for tenant_id, job_id in there if job_id not in wanted]
    for tenant_id, job_id in orphans:
        await asyncio.to_thread(parts.folder.remove_job, tenant_id, job_id)
    return len(expired) + len(orphans)


async def sweep_erased(parts: JobParts) -> int:
    """Rows, keys, topics and records that came in after a tenant's end; how many rows."""
    since = datetime.now(UTC) - timedelta(hours=parts.settings.log_retention_hours) - SWEEP_MARGIN
    async with parts.database.as_writer() as session:
        tenants = [UUID(int=row["id"].int) for row in await session.fetch(LIST_RECENT, since)]
    swept = 0
    for tenant_id in tenants:
        async with parts.database.as_writer() as session:
            row = await session.fetchrow(SWEEP, tenant_id)
        swept += int(row["removed"]) if row else 0
        await after_the_end(parts, tenant_id)
    if tenants:
        await erase_updates(parts.database, set(tenants))
    return swept
