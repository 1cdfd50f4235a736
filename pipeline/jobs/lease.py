"""The hold of one worker on one job: what it says of its progress, and whether it may go on."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec

from core.database import Database, Session
from core.errors import Unavailable
from core.jobs import Job, JobState, job_of
from core.queries import named

CLAIM = named("jobs", "claim_job")
KEEP = named("jobs", "keep_lease")
NOTE = named("jobs", "note_progress")
END = named("jobs", "end_job")
GIVE_BACK = named("jobs", "give_back_job")

# A job of a killed worker is taken up after so long.
LEASE_SECONDS = 10.0
KEEP_SECONDS = 2.5


class Cancelled(Exception):
    """The job's tenant wants it no more."""


class LeaseLost(Exception):
    """The job is another worker's, or nobody's, by now."""


class TurnOver(Exception):
    """There is more to do, and others wait: the job goes behind them."""


class Lease:
    """One job while this process runs it."""

    def __init__(self, database: Database, job: Job, holder: str) -> None:
        self._database = database
        # Names what this worker alone writes: one that was frozen and thaws must not write into its successor's files.
        self.holder = holder
        self.job = job

    @classmethod
    async def claim(cls, database: Database) -> Lease | None:
        """A hold on the next job that is to be done; None when there is none."""
        # Anew each time: a process that was frozen must not take its own successor for itself.
        holder = f"{os.getpid()}-{os.urandom(6).hex()}"
        async with database.as_writer() as session:
            row = await session.fetchrow(CLAIM, holder, LEASE_SECONDS)
        return cls(database, job_of(row), holder) if row else None

    async def keep(self) -> None:
        """Holds it until it is lost, while others work on it.

        Raises:
            Cancelled, LeaseLost.
        """
        while True:
            await asyncio.sleep(KEEP_SECONDS)
            try:
                async with self._database.as_writer() as session:
                    row = await session.fetchrow(KEEP, *self._key(), LEASE_SECONDS)
            except Unavailable:
                # Whoever works meets the same, and stops.
                continue
            _go_on(row)

    async def note(self, progress: float, doing: str, place: Mapping[str, Any]) -> None:
        """Says how far the work is (0 to 1, in words), and where to go on if it breaks off here.

        Raises:
            Cancelled, LeaseLost.
        """
        text = msgspec.json.encode(place).decode()
        async with self._database.as_writer() as session:
            row = await session.fetchrow(NOTE, *self._key(), min(1.0, max(0.0, progress)), doing, text)
        _go_on(row)

    async def end(
        self,
        session: Session,
        state: JobState,
        *,
        result: Mapping[str, Any] | None = None,
        error: str = "",
        expires_at: datetime | None = None,
    ) -> bool:
        """Ends the job within a transaction; whether it was still this worker's."""
        text = msgspec.json.encode(result or {}).decode()
        row = await session.fetchrow(END, *self._key(), state.value, text, error[:2000], expires_at)
        return row is not None

    async def give_back(self, begins_at: datetime, *, is_counted: bool) -> None:
        """Leaves it to whoever comes next, from a moment on. `is_counted`: the job itself may be why it broke off."""
        async with self._database.as_writer() as session:
            await session.fetchrow(GIVE_BACK, *self._key(), begins_at, is_counted)

    def _key(self) -> tuple[Any, ...]:
        return self.job.tenant_id, self.job.id, self.holder


def _go_on(row: Any) -> None:
    if row is None:
        raise LeaseLost
    if row["is_cancel_asked"]:
        raise Cancelled
