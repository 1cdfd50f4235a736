"""The aggregate worker's transaction: raw events, ledger, rollups, usage and the log's offset, all or nothing.

The offset row is locked first and moved last, and only from where this worker left it: whoever comes second (a
worker that was frozen and wakes up) finds it moved, and its whole batch rolls back.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from operator import attrgetter
from typing import Any
from uuid import UUID

import msgspec

from core import failpoints
from core.database import Database, Session
from core.errors import Fenced
from core.eventlog import Offset, Partition
from core.events import EnrichedBatch, EnrichedEvent, from_epoch_ms
from core.queries import named
from core.rollups import TOTAL, Resolution, Slot
from core.summary import Summary, SummaryRow
from pipeline.fold import Cell, Tallies, Tally, fold_all

READ_OFFSET = named("aggregate", "read_offset")
LOCK_OFFSET = named("aggregate", "lock_offset")
START_OFFSET = named("aggregate", "start_offset")
MOVE_OFFSET = named("aggregate", "move_offset")
ENSURE_PARTITION = named("aggregate", "ensure_partition")
STAGE_EVENTS = named("aggregate", "stage_events_table")
STAGE_ROLLUPS = named("aggregate", "stage_rollups_table")
INSERT_EVENTS = named("aggregate", "insert_new_events")
ADD_USAGE = named("aggregate", "add_usage")
TABLES = {r: named("aggregate", f"table_{r.value}").text for r in Resolution}
READ_CELLS = {r: named("aggregate", "read_cells").filled(table=TABLES[r]) for r in Resolution}
WRITE_CELLS = {r: named("aggregate", "write_cells").filled(table=TABLES[r]) for r in Resolution}

EVENT_COLUMNS = (
    "tenant_id", "retention_class", "ts", "id", "received_at", "type", "key_id", "visitor", "session", "session_id",
    "user_id", "anonymous_id", "page_path", "referrer_host", "country", "device", "browser", "os", "method", "status",
    "duration_ms", "bytes", "is_bot", "details",
)  # fmt: skip
CELL_COLUMNS = (
    "tenant_id", "dimension", "bucket", "type", "value", "is_bot", "shard", "count", "errors", "bytes",
    "duration_count", "duration_sum", "duration_min", "duration_max", "visitors", "sessions", "durations",
    "resolution",
)  # fmt: skip

# What of an event's context has no column of its own.
CONTEXT_FIELDS = ("page_url", "referrer", "region", "city", "ip", "user_agent", "locale", "campaign")
_context_of = attrgetter(*CONTEXT_FIELDS)

SUMMARY_COLUMNS = len(SummaryRow.__struct_fields__)
DAY_MS = 86_400_000
# Slots of which the writer remembers that they may have rows: some hours of many tenants.
MAX_MET = 100_000

_json = msgspec.json.Encoder()


@dataclass(frozen=True, slots=True)
class Position:
    """Where a worker stands on a partition, and the update it made last (b'' for none)."""

    next_offset: Offset
    last_update: bytes


@dataclass(frozen=True, slots=True)
class Counted:
    """What one batch changed: how many events of each tenant were new, and the new total of every changed minute."""

    new_events: Counter[UUID]
    minutes: dict[Slot, SummaryRow]


Known = dict[Slot, dict[Cell, Summary]]
UpdateWriter = Callable[[Counted], tuple[Offset, bytes]]


class _TakenBack(Exception):
    """Rolls a rehearsal back."""


class Store:
    """The writer's side of the database for one group of workers."""

    def __init__(self, database: Database, consumer: str) -> None:
        self._database = database
        self._consumer = consumer
        self._ensured: set[tuple[str, date]] = set()
        self._met: set[tuple[Resolution, int, Slot]] = set()

    async def position(self, partition: Partition) -> Position | None:
        """Where the group stands on a partition; None before its first transaction there."""
        async with self._database.as_writer() as session:
            row = await session.fetchrow(READ_OFFSET, self._consumer, partition.topic, partition.number)
        return Position(Offset(row["next_offset"]), row["last_update"] or b"") if row else None

    async def ensure_partitions(self, batches: Iterable[EnrichedBatch]) -> None:
        """Makes the tables of days that this worker has not met; a transaction of its own, so that it locks briefly."""
        wanted = {
            (batch.retention_class, day_of(event.timestamp_ms // DAY_MS)) for batch in batches for event in batch.events
        }
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
        self, partition: Partition, batches: Sequence[EnrichedBatch], expected: Offset, write: UpdateWriter
    ) -> Counted:
        """Counts batches that begin at `expected`.

        `write` turns what was counted into the next offset and the update to keep with it.

        Raises:
            Fenced: the partition no longer stands at `expected`; nothing was written.
        """
        async with self._database.as_writer() as session:
            place = (self._consumer, partition.topic, partition.number)
            await session.execute(START_OFFSET, *place, expected)
            row = await session.fetchrow(LOCK_OFFSET, *place)
            if row is None or row["next_offset"] != expected:
                raise Fenced(f"{partition} stands at {row and row['next_offset']}, not at {expected}")
            counted = await self._count(session, partition, batches)
            next_offset, update = write(counted)
            if await session.fetchrow(MOVE_OFFSET, *place, expected, next_offset, update) is None:
                raise Fenced(f"{partition} was moved by another worker")
            failpoints.reached("before_commit")
        return counted

    async def rehearse(self, partition: Partition, batches: Sequence[EnrichedBatch]) -> None:
        """Counts batches as `transact` would, and takes it back: whether the database refuses them shows."""
        with suppress(_TakenBack):
            async with self._database.as_writer() as session:
                await self._count(session, partition, batches)
                raise _TakenBack

    async def _count(self, session: Session, partition: Partition, batches: Sequence[EnrichedBatch]) -> Counted:
        by_id: dict[tuple[UUID, UUID], tuple[EnrichedBatch, EnrichedEvent]] = {}
        for batch in batches:
            for event in batch.events:
                by_id.setdefault((batch.tenant_id, event.id), (batch, event))
        new = await self._insert_events(session, by_id)
        tallies = fold_all((tenant_id, by_id[tenant_id, event_id][1]) for tenant_id, event_id in new)
        minutes = await self._write_rollups(session, partition.number, tallies) if new else {}
        # Last: its rows are all that the partitions of a spread tenant share, and are held until the commit.
        await self._add_usage(session, batches, by_id, new)
        return Counted(Counter(tenant_id for tenant_id, _ in new), minutes)

    async def _insert_events(
        self, session: Session, by_id: dict[tuple[UUID, UUID], tuple[EnrichedBatch, EnrichedEvent]]
    ) -> list[tuple[UUID, UUID]]:
        if not by_id:
            return []
        await session.execute(STAGE_EVENTS)
        await session.copy("staged_events", EVENT_COLUMNS, [event_row(b, e) for b, e in by_id.values()])
        return [(row["tenant_id"], row["id"]) for row in await session.fetch(INSERT_EVENTS)]

    async def _add_usage(
        self,
        session: Session,
        batches: Sequence[EnrichedBatch],
        by_id: dict[tuple[UUID, UUID], tuple[EnrichedBatch, EnrichedEvent]],
        new: list[tuple[UUID, UUID]],
    ) -> None:
        accepted: Counter[tuple[UUID, date, str]] = Counter()
        for key in new:
            batch = by_id[key][0]
            accepted[batch.tenant_id, day_of(batch.received_ms // DAY_MS), batch.key_id] += 1
        seen: Counter[tuple[UUID, date, str]] = Counter()
        for batch in batches:
            seen[batch.tenant_id, day_of(batch.received_ms // DAY_MS), batch.key_id] += len(batch.events)
        rows = [(*key, accepted[key], total - accepted[key]) for key, total in sorted(seen.items())]
        if rows:
            await session.execute(ADD_USAGE, *(list(column) for column in zip(*rows, strict=True)))

    async def _write_rollups(
        self, session: Session, shard: int, tallies: dict[Resolution, Tallies]
    ) -> dict[Slot, SummaryRow]:
        """Merges tallies into what this writer had in those cells, and stores the whole values."""
        minutes: dict[Slot, SummaryRow] = {}
        staged: list[tuple[object, ...]] = []
        for resolution, added in tallies.items():
            summaries = await self._read_known(session, resolution, shard, added)
            for slot, cells in added.items():
                staged += rollup_rows(resolution, shard, slot, cells, summaries.setdefault(slot, {}))
                if resolution is Resolution.MINUTE:
                    minutes[slot] = summaries[slot][TOTAL, ""].to_row()
        await session.execute(STAGE_ROLLUPS)
        await session.copy("staged_rollups", CELL_COLUMNS, staged)
        for resolution in tallies:
            await session.execute(WRITE_CELLS[resolution], resolution.value)
        return minutes

    async def _read_known(self, session: Session, resolution: Resolution, shard: int, added: Tallies) -> Known:
        """What this writer has in these cells. A slot without its total has no cell at all: asked first, it saves
        looking for each cell of a new bucket."""
        met = {slot: cells for slot, cells in added.items() if (resolution, shard, slot) in self._met}
        unmet = [slot for slot in added if slot not in met]
        if unmet:
            totals = await self._read_cells(session, resolution, shard, [(slot, TOTAL, "") for slot in unmet])
            met |= {slot: added[slot] for slot in totals}
        self._remember(resolution, shard, added)
        return await self._read_cells(
            session, resolution, shard, [(slot, *cell) for slot, cells in met.items() for cell in cells]
        )

    def _remember(self, resolution: Resolution, shard: int, slots: Iterable[Slot]) -> None:
        """Notes slots that this writer has met; wrongly, when its transaction fails, which costs a look and no more."""
        if len(self._met) > MAX_MET:
            self._met.clear()
        self._met.update((resolution, shard, slot) for slot in slots)

    async def _read_cells(
        self, session: Session, resolution: Resolution, shard: int, places: Sequence[tuple[Slot, str, str]]
    ) -> Known:
        if not places:
            return {}
        keys = [
            (slot.tenant_id, dimension, bucket_time(slot.bucket), slot.type, value, slot.is_bot)
            for slot, dimension, value in places
        ]
        rows = await session.fetch(READ_CELLS[resolution], shard, *(list(column) for column in zip(*keys, strict=True)))
        known: Known = {}
        for row in rows:
            cells = known.setdefault(slot_of(row), {})
            cells[row["dimension"], row["value"]] = Summary.from_row(summary_of(row))
        return known


def rollup_rows(
    resolution: Resolution, shard: int, slot: Slot, cells: Mapping[Cell, Tally], summaries: dict[Cell, Summary]
) -> list[tuple[object, ...]]:
    """Counts a slot's tallies into its summaries, and gives what to store of each changed cell."""
    tenant_id, bucket, type_, is_bot = slot
    start, name = bucket_time(bucket), resolution.value
    rows: list[tuple[object, ...]] = []
    for cell, tally in cells.items():
        summary = summaries.get(cell)
        if summary is None:
            summary = summaries[cell] = Summary()
        tally.add_to(summary)
        rows.append((tenant_id, cell[0], start, type_, cell[1], is_bot, shard, *summary.columns(), name))
    return rows


@lru_cache(maxsize=10_000)
def bucket_time(bucket: int) -> datetime:
    return datetime.fromtimestamp(bucket, UTC)


def slot_of(row: Any) -> Slot:
    """The slot of a rollup row whose `bucket` is in epoch seconds."""
    return Slot(row["tenant_id"], row["bucket"], row["type"], row["is_bot"])


def summary_of(row: Any) -> SummaryRow:
    """The summary of a rollup row that ends with the summary's columns, in the order of `SummaryRow`."""
    return SummaryRow(*row[-SUMMARY_COLUMNS:])


@lru_cache(maxsize=10_000)
def day_of(epoch_day: int) -> date:
    return date(1970, 1, 1) + timedelta(days=epoch_day)


def event_row(batch: EnrichedBatch, event: EnrichedEvent) -> tuple[object, ...]:
    """One tuple of `EVENT_COLUMNS`."""
    return (
        batch.tenant_id, batch.retention_class, from_epoch_ms(event.timestamp_ms), event.id,
        from_epoch_ms(batch.received_ms), event.type, batch.key_id, event.visitor, event.session, event.session_id,
        event.user_id, event.anonymous_id, event.page_path, event.referrer_host, event.country, event.device,
        event.browser, event.os, event.method, event.status, event.duration_ms, event.bytes, event.is_bot,
        details_of(event),
    )  # fmt: skip


def details_of(event: EnrichedEvent) -> str:
    """The one JSONB of an event: its properties, and the context that has no column."""
    context = {name: value for name, value in zip(CONTEXT_FIELDS, _context_of(event), strict=True) if value}
    details: dict[str, object] = {"properties": event.properties, "context": context}
    if event.enrichment_errors:
        details["enrichment_errors"] = event.enrichment_errors
    details["enrichment_version"] = event.enrichment_version
    return _json.encode(details).decode()
