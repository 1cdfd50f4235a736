"""The aggregate worker's transaction: raw events, ledger, rollups, usage and the log's offset, all or nothing.

The offset row is locked first and moved last, and only from where this worker left it: whoever comes second (a
worker that was frozen and wakes up) finds it moved, and its whole batch rolls back.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import date
from uuid import UUID

import asyncpg

from core import failpoints
from core.database import Database, Session
from core.errors import Fenced, Unavailable
from core.eventlog import Offset, Partition
from core.events import EnrichedBatch
from core.queries import named
from core.rollups import Slot
from core.summary import SummaryRow
from pipeline.counted_metrics import CountedMetrics, load_counted
from pipeline.event_rows import COLUMNS, STAGED_COLUMNS, Pair
from pipeline.metric_writer import ChangedSpan, MetricWriter, TouchedMetrics, metrics_left_out, spans_of
from pipeline.prepared import Prepared, fold_groups, fold_own, giving_way, grouped, prepare
from pipeline.rollup_writer import LeftOut, RollupWriter, Touched, left_out_of_tenants, totals_of
from pipeline.usage import DAY_MS, add_usage, day_of

READ_OFFSET = named("aggregate", "read_offset")
LOCK_OFFSET = named("aggregate", "lock_offset")
MOVE_OFFSET = named("aggregate", "move_offset")
ENSURE_PARTITION = named("aggregate", "ensure_partition")
STAGING_TABLES = named("aggregate", "staging_tables")
ROLL_BACK = named("aggregate", "roll_back")
INSERT_ALL = named("aggregate", "insert_all_events").filled(columns=COLUMNS.text)
INSERT_NEW = named("aggregate", "insert_new_events").filled(columns=COLUMNS.text, unless_kept="")
HOLD_TIERS = named("aggregate", "hold_tiers")
INSERT_NEW_WHILE_MOVING = named("aggregate", "insert_new_events").filled(
    columns=COLUMNS.text, unless_kept=named("aggregate", "unless_kept").text
)
FIND_ERASED = named("tenant_ends", "find_erased")

log = logging.getLogger(__name__)

# To look for known events costs half as much again as to take all for new; to be wrong about that costs it twice.
CAREFUL_TRANSACTIONS = 20


@dataclass(frozen=True, slots=True)
class Position:
    """Where a worker stands on a partition, and the update it made last (b'' for none)."""

    next_offset: Offset
    last_update: bytes


@dataclass(frozen=True, slots=True)
class Counted:
    """What one batch changed: how many events of each tenant were new (0: all of it were known), the new total of
    every changed minute, by tenant the minutes of its own metrics that changed, and the new events themselves."""

    new_events: Mapping[UUID, int]
    minutes: dict[Slot, SummaryRow]
    metrics: Mapping[UUID, list[ChangedSpan]] = field(default_factory=dict)
    fresh: Sequence[Pair] = ()


UpdateWriter = Callable[[Counted], tuple[Offset, bytes]]


class Misplaced(Unavailable):
    """Events are on their way to a storage class that is their tenant's no more; nothing was written."""

    def __init__(self, tiers: Mapping[UUID, str]) -> None:
        super().__init__()
        self.tiers = tiers


class Redefined(Unavailable):
    """A tenant's own metrics are others than those its events were prepared for; nothing was written."""

    def __init__(self, metrics: Mapping[UUID, CountedMetrics]) -> None:
        super().__init__()
        self.metrics = metrics


@dataclass(frozen=True, slots=True)
class _Touched:
    """Cells as they are after a batch, to be kept once it is committed."""

    rollups: Touched = field(default_factory=dict)
    metrics: TouchedMetrics = field(default_factory=dict)


class _TakenBack(Exception):
    """Rolls a rehearsal back."""


class Store:
    """The writer's side of the database for one group of workers."""

    def __init__(self, database: Database, consumer: str) -> None:
        self._database = database
        self._consumer = consumer
        self._ensured: set[tuple[str, date]] = set()
        self._rollups = RollupWriter()
        self._metrics = MetricWriter()
        # For so many transactions events are taken for known, since one was.
        self._careful = 0
        # Where this worker left each shard: while it stands there, nobody else has written it.
        self._left: dict[int, tuple[Partition, Offset]] = {}

    async def position(self, partition: Partition) -> Position | None:
        """Where the group stands on a partition; None before its first transaction there."""
        async with self._database.as_writer() as session:
            row = await session.fetchrow(READ_OFFSET, self._consumer, partition.topic, partition.number)
        return Position(Offset(row["next_offset"]), row["last_update"] or b"") if row else None

    async def ensure_partitions(self, batches: Iterable[EnrichedBatch]) -> None:
        """Makes the tables of days that this worker has not met; a transaction of its own, so that it locks briefly."""
        wanted: set[tuple[str, date]] = set()
        for batch in batches:
            days = {event.timestamp_ms // DAY_MS for event in batch.events}
            wanted.update((batch.retention_class, day_of(day)) for day in days)
        await self.ensure_days(wanted)

    async def ensure_days(self, wanted: set[tuple[str, date]]) -> None:
        for retention_class, day in sorted(wanted - self._ensured):
            async with self._database.as_writer() as session:
                await session.execute(ENSURE_PARTITION, retention_class, day)
            self._ensured.add((retention_class, day))

    def forget_days(self) -> None:
        """Days that this worker has met may have been dropped since."""
        self._ensured.clear()

    async def transact(
        self, partition: Partition, prepared: Prepared, expected: Offset, write: UpdateWriter
    ) -> Counted:
        """Counts batches that begin at `expected`.

        `write` turns what was counted into the next offset and the update to keep with it.

        Raises:
            Fenced: the partition no longer stands at `expected`; nothing was written.
            Misplaced: a tenant's tier is another than its batches say; nothing was written.
            Redefined: a tenant's metrics are others than it was prepared for; nothing was written.
        """
        if self._left.pop(partition.number, None) != (partition, expected):
            self._rollups.forget(partition.number)
            self._metrics.forget(partition.number)
        async with self._database.as_writer() as session:
            place = (self._consumer, partition.topic, partition.number)
            row = await session.fetchrow(LOCK_OFFSET, *place, expected)
            if row is None or row["next_offset"] != expected:
                raise Fenced(f"{partition} stands at {row and row['next_offset']}, not at {expected}")
            prepared = await self._without_erased(session, prepared)
            counted, touched = await self._count(session, partition, prepared)
            next_offset, update = write(counted)
            if await session.fetchrow(MOVE_OFFSET, *place, expected, next_offset, update) is None:
                raise Fenced(f"{partition} was moved by another worker")
            failpoints.reached("before_commit")
        self._rollups.keep(partition.number, touched.rollups)
        self._metrics.keep(partition.number, touched.metrics)
        self._left[partition.number] = partition, next_offset
        return counted

    async def _without_erased(self, session: Session, prepared: Prepared) -> Prepared:
        """Drops the events of tenants that are going or gone. Asked within the transaction, once its place is locked:
        whoever erases waits for those that asked before (`pipeline/jobs/erasure.py`)."""
        tenants = {batch.tenant_id for batch in prepared.batches}
        rows = await session.fetch(FIND_ERASED, list(tenants)) if tenants else []
        erased = {UUID(int=row["id"].int) for row in rows}
        if not erased:
            return prepared
        kept = [batch for batch in prepared.batches if batch.tenant_id not in erased]
        log.info(
            "events dropped",
            extra={"action": "drop_events", "reason": "tenant_deleted", "batches": len(prepared.batches) - len(kept)},
        )
        return await prepare(kept, prepared.metrics)

    async def rehearse(self, partition: Partition, prepared: Prepared) -> None:
        """Counts batches as `transact` would, and takes it back: whether the database refuses them shows."""
        with suppress(_TakenBack):
            async with self._database.as_writer() as session:
                await self._count(session, partition, prepared)
                raise _TakenBack

    async def _count(self, session: Session, partition: Partition, prepared: Prepared) -> tuple[Counted, _Touched]:
        is_moving = await self._hold_tiers(session, prepared) if prepared.batches else False
        known = await self._insert_events(session, prepared, is_moving=is_moving) if prepared.unique else set()
        groups, tallies, own = prepared.groups, prepared.tallies, prepared.metric_tallies
        fresh = prepared.unique
        if known:
            fresh = [pair for place, pair in enumerate(prepared.unique) if place not in known]
            groups = grouped(fresh)
            tallies = await giving_way(fold_groups(groups))
            own = await giving_way(fold_own(groups, prepared.metrics)) if own else {}
        new_events: Counter[UUID] = Counter()
        # Those of whom nothing was new as well: it is told that something came again.
        for batch in prepared.batches:
            new_events[batch.tenant_id] += 0
        for batch, events in groups:
            new_events[batch.tenant_id] += len(events)
        touched: Touched = {}
        left_out = LeftOut()
        if groups:
            touched, beyond = await self._rollups.write(session, partition.number, tallies)
            left_out = left_out_of_tenants(beyond)
        touched_metrics: TouchedMetrics = {}
        if own:
            touched_metrics, more = await self._metrics.write(session, partition.number, own)
            left_out += metrics_left_out(more, prepared.metrics)
        # Last: its rows are all that the partitions of a spread tenant share, and are held until the commit.
        await add_usage(session, prepared.batches, groups, left_out)
        counted = Counted(new_events, totals_of(touched), spans_of(touched_metrics), fresh)
        return counted, _Touched(touched, touched_metrics)

    async def _hold_tiers(self, session: Session, prepared: Prepared) -> bool:
        """Holds the tenants' tiers and metrics until the end; whether events of one of them move between storage
        classes now.

        Raises:
            Misplaced: a tier is another than it was at the door.
            Redefined: a tenant's metrics are others than it was prepared for.
        """
        batches = prepared.batches
        rows = await session.fetch(HOLD_TIERS, list({batch.tenant_id for batch in batches}))
        tiers = {row["tenant_id"]: row["tier"] for row in rows}
        if any(tiers.get(batch.tenant_id, batch.retention_class) != batch.retention_class for batch in batches):
            raise Misplaced(tiers)
        changed = {
            UUID(int=row["tenant_id"].int): row["metrics_revision"]
            for row in rows
            if row["metrics_revision"] != prepared.revision(row["tenant_id"])
        }
        if changed:
            raise Redefined(await load_counted(session, changed))
        return any(row["is_moving"] for row in rows)

    async def _insert_events(self, session: Session, prepared: Prepared, *, is_moving: bool) -> set[int]:
        """Stores events; the places of those that were known."""
        await session.execute(STAGING_TABLES)
        await session.copy_binary("staged_events", STAGED_COLUMNS, prepared.rows)
        if is_moving:
            return {row["place"] for row in await session.fetch(INSERT_NEW_WHILE_MOVING)}
        if not self._careful:
            try:
                await session.execute(INSERT_ALL)
                return set()
            except asyncpg.UniqueViolationError:
                await session.execute(ROLL_BACK)
                self._careful = CAREFUL_TRANSACTIONS
        self._careful -= 1
        known = {row["place"] for row in await session.fetch(INSERT_NEW)}
        if known:
            self._careful = CAREFUL_TRANSACTIONS
        return known
