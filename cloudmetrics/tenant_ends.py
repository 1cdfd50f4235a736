"""The operator's part in exports and ends of tenants: asked for here, done by the workers of jobs, waited for here."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

from core.accounts import find_tenant
from core.audit import Author
from core.database import Database
from core.errors import CloudMetricsError, NotFound
from core.exports import ExportFolder
from core.jobs import Job, JobKind, JobState, ask_export, find_jobs
from core.settings import Settings
from core.tenant_ends import Erasure, ask_deletion, list_erasures, restore

POLL_SECONDS = 0.5


class JobNotDone(CloudMetricsError):
    """The job did not end well."""

    default_code = "job_failed"


async def delete(settings: Settings, *, slug: str, typed: str, grace: timedelta) -> Job:
    """Asks for a tenant's deletion.

    Raises:
        NotFound, BadInput, Conflict: see `core.tenant_ends.ask_deletion`.
    """
    database = Database(settings, pool_size=1)
    try:
        tenant = await find_tenant(database, slug)
        return await ask_deletion(database, tenant, Author.operator(tenant.id), typed=typed, grace=grace)
    finally:
        await database.close()


async def wait_until_deleted(settings: Settings, job: Job, say: Callable[[str], None]) -> Erasure:
    """The proof, once it is closed.

    Raises:
        JobNotDone: the deletion was taken back, or gave up.
    """
    database = Database(settings, pool_size=1)
    try:
        while True:
            found = [erasure for erasure in await list_erasures(database, None) if erasure.id == job.tenant_id]
            if found and found[0].ended_at is not None and "valkey_keys_left" in found[0].others:
                return found[0]
            (now,) = await find_jobs(database, job.tenant_id, [job.id])
            if now is not None:
                _check(now)
                say(f"{now.progress:.0%}  {now.doing or now.state.value}")
            await asyncio.sleep(POLL_SECONDS)
    finally:
        await database.close()


async def take_back(settings: Settings, *, slug: str) -> None:
    """Keeps a tenant after all.

    Raises:
        NotFound, Conflict: see `core.tenant_ends.restore`.
    """
    database = Database(settings, pool_size=1)
    try:
        tenant = await find_tenant(database, slug)
        await restore(database, tenant, Author.operator(tenant.id), typed=slug)
    finally:
        await database.close()


async def export(settings: Settings, *, slug: str, include_events: bool, say: Callable[[str], None]) -> Path:
    """Everything of a tenant in a file; where it is.

    Raises:
        NotFound, Conflict, TooMany: see `core.jobs.ask_export`.
        JobNotDone: it failed, or was cancelled.
    """
    database = Database(settings, pool_size=1)
    try:
        tenant = await find_tenant(database, slug)
        arguments = {"include_events": include_events}
        job = await ask_export(database, Author.operator(tenant.id), JobKind.EXPORT_TENANT, arguments)
        while job.state is not JobState.DONE:
            await asyncio.sleep(POLL_SECONDS)
            (now,) = await find_jobs(database, tenant.id, [job.id])
            if now is None:
                raise NotFound(f"The export is gone; was tenant {slug!r} deleted meanwhile?")
            job = now
            _check(job)
            say(f"{job.progress:.0%}  {job.doing or job.state.value}")
        return ExportFolder(settings.export_folder).of_tenant(tenant.id) / str(job.result["file"])
    finally:
        await database.close()


def _check(job: Job) -> None:
    if job.state in (JobState.FAILED, JobState.CANCELLED):
        raise JobNotDone(f"the job is {job.state.value}: {job.error or 'somebody ended it'}")


def as_text(erasure: Erasure) -> str:
    """A proof for people."""
    ended = f"{erasure.ended_at:%Y-%m-%d %H:%M:%S} UTC" if erasure.ended_at else "not yet"
    asked = f" on {erasure.asked_at:%Y-%m-%d %H:%M:%S} UTC" if erasure.asked_at else ""
    lines = [
        f"{erasure.slug}  {erasure.id}",
        f"    asked for by {erasure.asked_by}{asked}; begun {erasure.began_at:%Y-%m-%d %H:%M:%S} UTC; gone {ended}",
        f"    {'table':24} {'removed':>12} {'left':>6}",
    ]
    for name, found in erasure.tables.items():
        lines.append(f"    {name:24} {found.removed:>12} {'?' if found.left is None else found.left:>6}")
    lines += [f"    {name.replace('_', ' ')}: {count}" for name, count in sorted(erasure.others.items())]
    lines.append(f"    people of this tenant alone: {erasure.people_removed} removed")
    if erasure.late_rows:
        lines.append(f"    rows that came late and were swept up: {erasure.late_rows}")
    if erasure.audit_hash:
        lines.append(f"    its audit trail ended at {erasure.audit_sequence}:{erasure.audit_hash}")
    lines.append("    not reached by this: backups that were made before, and exports that were downloaded")
    return "\n".join(lines)
