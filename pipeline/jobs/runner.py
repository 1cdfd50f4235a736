"""`jobs`: takes jobs up one after the other, and sees each to its end, whoever began it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from core.audit import Author, audit
from core.database import Database
from core.errors import CloudMetricsError, Misconfigured, Unavailable
from core.eventlog import EventLog
from core.exports import KEPT, ExportFolder
from core.jobs import EXPORTS, Job, JobKind, JobState
from core.settings import Settings
from core.tenant_ends import is_erasing
from core.tenant_keys import TenantKeys
from pipeline.jobs.lease import Cancelled, Lease, LeaseLost, TurnOver

log = logging.getLogger("pipeline")

POLL_SECONDS = 1.0
# So long a deletion and an export do not wait for each other.
AT_ONCE = 2
RETRY_SECONDS = 5.0
# Begun so often without getting any further, it is given up.
MAX_ATTEMPTS = 5
# A deletion that has begun is never given up: its tenant can neither be restored nor used.
LONGEST_RETRY_SECONDS = 600.0


class JobFailed(CloudMetricsError):
    """The job cannot be done."""

    default_code = "job_failed"


@dataclass(frozen=True, slots=True)
class JobParts:
    """What jobs are done with."""

    settings: Settings
    database: Database
    log: EventLog
    keys: TenantKeys
    folder: ExportFolder


# Does a job; answers its result, or None where the job's own row is gone with the rest.
Handler = Callable[[Lease, JobParts], Awaitable[Mapping[str, Any] | None]]


class JobRunner:
    """Several loops of one process; other processes have theirs."""

    def __init__(self, parts: JobParts, handlers: Mapping[JobKind, Handler]) -> None:
        self._parts = parts
        self._handlers = handlers

    async def run(self, stop: asyncio.Event) -> None:
        """Runs until told to stop; what is under way then is given back."""
        await asyncio.gather(*(self._loop(stop) for _ in range(AT_ONCE)))

    async def _loop(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            has_worked = False
            try:
                lease = await Lease.claim(self._parts.database)
                if lease is not None:
                    has_worked = True
                    await self._see_through(lease, stop)
            except Unavailable as error:
                log.warning("jobs wait", extra={"action": "worker_retry", "worker": "jobs", "code": error.code})
                has_worked = False
            if not has_worked:
                with suppress(TimeoutError):
                    async with asyncio.timeout(POLL_SECONDS):
                        await stop.wait()

    async def _see_through(self, lease: Lease, stop: asyncio.Event) -> None:
        """One attempt at one job. An error of one tenant's job stops nobody else's, so it ends here."""
        job, extra = lease.job, {"action": "job", "tenant": str(lease.job.tenant_id), "job": str(lease.job.id)}
        if job.attempts > MAX_ATTEMPTS and not await self._must_go_on(job):
            await self._end(lease, JobState.FAILED, error=f"given up after {MAX_ATTEMPTS} attempts without progress")
            return
        log.info("job begins", extra={**extra, "kind": job.kind, "attempt": job.attempts})
        try:
            result = await self._held(lease, stop)
        except LeaseLost:
            log.warning("job is another's", extra=extra)
        except TurnOver:
            await lease.give_back(datetime.now(UTC), is_counted=False)
        except Cancelled:
            await self._end(lease, JobState.CANCELLED)
        except asyncio.CancelledError:
            await lease.give_back(datetime.now(UTC), is_counted=False)
            if not stop.is_set():
                raise
        except Unavailable as error:
            log.warning("job waits", extra={**extra, "code": error.code})
            await lease.give_back(_later(0), is_counted=False)
        except (JobFailed, Misconfigured) as error:
            if await self._must_go_on(job):
                log.error("a deletion cannot go on, and is tried again", extra={**extra, "error": error.message})
                await lease.give_back(_later(job.attempts), is_counted=True)
            else:
                await self._end(lease, JobState.FAILED, error=error.message)
        except Exception:
            log.exception("job broke off", extra=extra)
            await lease.give_back(_later(max(0, job.attempts - MAX_ATTEMPTS)), is_counted=True)
        else:
            if result is not None:
                await self._end(lease, JobState.DONE, result=result)
            log.info("job done", extra=extra)

    async def _must_go_on(self, job: Job) -> bool:
        """Whether it is a deletion that has begun."""
        return job.kind is JobKind.DELETE_TENANT and await is_erasing(self._parts.database, job.tenant_id)

    async def _held(self, lease: Lease, stop: asyncio.Event) -> Mapping[str, Any] | None:
        """The work's result, while the lease holds and nobody stops it."""
        work = asyncio.ensure_future(self._handlers[lease.job.kind](lease, self._parts))
        others = {asyncio.ensure_future(lease.keep()), asyncio.ensure_future(stop.wait())}
        try:
            await asyncio.wait({work, *others}, return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                return work.result()
            for task in others:
                if task.done():
                    # What the keeper raises; or a stop, which is no result.
                    task.result()
            raise asyncio.CancelledError
        finally:
            for each in (work, *others):
                each.cancel()
            await asyncio.gather(work, *others, return_exceptions=True)

    async def _end(
        self, lease: Lease, state: JobState, *, result: Mapping[str, Any] | None = None, error: str = ""
    ) -> None:
        """Ends a job and tells its tenant's audit trail, both or neither; a job that made no file leaves none."""
        job = lease.job
        is_export = job.kind in EXPORTS
        is_done = state is JobState.DONE
        expires_at = datetime.now(UTC) + KEPT if is_export and is_done else None
        author = Author.operator(job.tenant_id, f"job:{job.id}")
        diff = {"kind": job.kind.value, "asked_by": job.asked_by, "error": error, "rows": (result or {}).get("rows")}
        async with self._parts.database.as_tenant(job.tenant_id, is_write=True) as session:
            if not await lease.end(session, state, result=result, error=error, expires_at=expires_at):
                return
            await audit(session, author, f"job.{state.value}", str(job.id), diff)
        if is_export:
            # Only now: whoever finds its job another's leaves the files to that one.
            remove = self._parts.folder.remove_work if is_done else self._parts.folder.remove_job
            await asyncio.to_thread(remove, job.tenant_id, job.id)


def _later(failures: int) -> datetime:
    """When a job is taken up again: twice as long after each failure."""
    return datetime.now(UTC) + timedelta(seconds=min(RETRY_SECONDS * 2 ** min(failures, 10), LONGEST_RETRY_SECONDS))
