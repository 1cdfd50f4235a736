"""`backfill_metric`: a new version's earlier events are counted, bite by bite, while later ones are counted live.

A bite is one transaction: it reads the next events, adds those from before the version to cells of a shard of its own,
and moves the version's place behind them. So a kill repeats nothing and leaves nothing out, and two workers on one
version wait for each other at its row.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from core import failpoints
from core.database import Database, Session
from core.events import EnrichedEvent
from core.ingest_counts import add_counts
from core.metric_definitions import BACKFILL_SHARD
from core.outcomes import IngestCell, Outcome, cell_of
from core.queries import named
from pipeline.counted_metrics import CountedMetrics, counted_versions
from pipeline.jobs.lease import Lease, LeaseLost, TurnOver
from pipeline.jobs.runner import JobParts
from pipeline.metric_fold import fold_metrics
from pipeline.metric_writer import MetricWriter, TouchedMetrics, metrics_left_out
from pipeline.prepared import giving_way

ASK = named("backfills", "ask_backfills")
LOCK_VERSION = named("backfills", "lock_version")
FIND_SPAN = named("backfills", "find_span")
NEXT_EVENTS = named("backfills", "next_events")
MOVE = named("backfills", "move_backfill")
FIND_ERASED = named("tenant_ends", "find_erased")

# A second's work or so; whoever edits the metric meanwhile waits for one.
BITE = 5_000
# Then another job has its turn.
TURN_SECONDS = 10.0
# Before every id that an event may have.
FIRST_ID = UUID(int=0)


@dataclass(frozen=True, slots=True)
class Place:
    """Behind which event a backfill is, of those from `first` to `last`."""

    first: datetime
    last: datetime
    ts: datetime
    id: UUID

    @property
    def share(self) -> float:
        """How much of the time is behind it."""
        whole = (self.last - self.first).total_seconds()
        return (self.ts - self.first).total_seconds() / whole if whole else 0.0


@dataclass(frozen=True, slots=True)
class Bite:
    """What one transaction did. `place` None: nothing is to be done; `events` are those that it looked at."""

    place: Place | None
    events: int = 0
    is_done: bool = True


async def ask_backfills(database: Database) -> int:
    """Jobs for versions that wait; how many. Several workers may ask at once."""
    async with database.as_writer() as session:
        return int((await session.execute(ASK)).split()[-1])


async def backfill_metric(lease: Lease, parts: JobParts) -> Mapping[str, Any]:
    """Does the job.

    Raises:
        TurnOver: it is not done, and others wait.
        LeaseLost: another worker is at it.
    """
    backfill = Backfill(parts.database, lease.job.tenant_id, UUID(lease.job.arguments["version_id"]))
    end = time.monotonic() + TURN_SECONDS
    while True:
        bite = await backfill.take_bite()
        if bite.is_done:
            return {}
        failpoints.reached("backfill_bite")
        if bite.place is not None:
            await lease.note(bite.place.share, f"counted up to {bite.place.ts.isoformat(timespec='seconds')}", {})
        if time.monotonic() > end:
            raise TurnOver


class Backfill:
    """The backfill of one version, as one worker goes on with it."""

    def __init__(self, database: Database, tenant_id: UUID, version_id: UUID) -> None:
        self._database = database
        self._tenant_id = tenant_id
        self._version_id = version_id
        self._writer = MetricWriter()
        # Where this worker left it: while it stands there, nobody else has written its cells.
        self._left: Place | None = None

    async def take_bite(self, most: int = BITE) -> Bite:
        """Counts the next events.

        Raises:
            LeaseLost: another worker has moved the place.
        """
        touched: TouchedMetrics = {}
        async with self._database.as_writer() as session:
            version = await session.fetchrow(LOCK_VERSION, self._tenant_id, self._version_id)
            # Asked once its row is held: whoever erases waits for transactions that asked before.
            if version is None or await session.fetch(FIND_ERASED, [self._tenant_id]):
                return Bite(None)
            place = await self._place(session, version)
            if place is None:
                return Bite(None)
            if self._left is not None and self._left != place:
                raise LeaseLost
            rows = await session.fetch(
                NEXT_EVENTS, self._tenant_id, version["counts_from"], place.ts, place.id, place.last, most
            )
            events = [event_of(row) for row in rows if row["properties"] is not None]
            if events:
                touched = await self._count(session, version, events)
            is_done = len(rows) < most
            if rows:
                place = Place(place.first, place.last, rows[-1]["ts"], UUID(int=rows[-1]["id"].int))
            await self._move(session, place, is_done=is_done)
            failpoints.reached("before_backfill_commit")
        self._writer.keep(BACKFILL_SHARD, touched)
        self._left = place
        return Bite(place, len(rows), is_done)

    async def _place(self, session: Session, version: Any) -> Place | None:
        """Where it is; None, and the version ready, when there is no earlier event."""
        if version["backfill_ts"] is not None:
            first, last = version["backfill_from"], version["backfill_until"]
            return Place(first, last, version["backfill_ts"], UUID(int=version["backfill_id"].int))
        span = await session.fetchrow(FIND_SPAN, self._tenant_id, version["counts_from"])
        if span is None or span["first"] is None:
            await session.execute(MOVE, self._tenant_id, self._version_id, None, None, None, None, 1.0, True)
            return None
        return Place(span["first"], span["last"], span["first"], FIRST_ID)

    async def _count(self, session: Session, version: Any, events: Sequence[EnrichedEvent]) -> TouchedMetrics:
        """Adds events to the version's cells."""
        metrics = CountedMetrics(version["counts_from"], tuple(counted_versions(version)))
        tallies = await giving_way(fold_metrics([(self._tenant_id, metrics, events)]))
        if not tallies:
            return {}
        touched, left_out = await self._writer.write(session, BACKFILL_SHARD, tallies)
        if left_out:
            cells: Counter[IngestCell] = Counter()
            for (tenant_id, what), count in metrics_left_out(left_out, {self._tenant_id: metrics}).items():
                cells[cell_of(tenant_id, int(time.time() * 1000), Outcome.OVERFLOW, what, "")] += count
            await add_counts(session, cells)
        return touched

    async def _move(self, session: Session, place: Place, *, is_done: bool) -> None:
        share = 1.0 if is_done else min(place.share, 0.999)
        await session.execute(
            MOVE, self._tenant_id, self._version_id, place.first, place.last, place.ts, place.id, share, is_done
        )


def event_of(row: Any) -> EnrichedEvent:
    """A stored event with what definitions may ask of it."""
    return EnrichedEvent(
        id=row["id"].bytes, type=row["type"], timestamp_ms=row["timestamp_ms"], received_ms=0, visitor=row["visitor"],
        session=row["session"], page_path=row["page_path"], referrer_host=row["referrer_host"],
        country=row["country"], device=row["device"], browser=row["browser"], os=row["os"], status=row["status"],
        method=row["method"], duration_ms=row["duration_ms"], bytes=row["bytes"], is_bot=row["is_bot"],
        properties=row["properties"].encode(),
    )  # fmt: skip
