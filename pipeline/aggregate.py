"""`aggregate`: enriched batches in, counted events out, exactly once; then word of what changed."""

from __future__ import annotations

import asyncio
import struct
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import asyncpg
import msgspec

from core import failpoints
from core.database import Database
from core.errors import DatabaseUnavailable, Fenced
from core.eventlog import EventLog, Offset, Partition, Record
from core.events import EnrichedBatch, decode_enriched, encode_enriched
from core.rollups import (
    HOT_SECONDS,
    BucketUpdates,
    ChangedBucket,
    decode_update_list,
    encode_update_list,
    encode_updates,
)
from core.topics import ENRICHED_TOPICS, UPDATES
from pipeline.appending import append_all
from pipeline.counted_metrics import CountedMetrics
from pipeline.event_rows import Pair
from pipeline.prepared import Prepared, prepare
from pipeline.store import Counted, Misplaced, Redefined, Store
from pipeline.worker import Poison, Process, Worker

GROUP = "aggregate"
MAX_RECORDS = 200
# What one transaction counts at most: more would not make an event cheaper, and a retry dearer.
MAX_EVENTS = 10_000
# While one partition's transaction waits for the disk, another's has the processor.
PARTITIONS_AT_ONCE = 2
# Of so many with metrics of their own a worker knows them at once.
MAX_TENANTS = 5_000
# What one value can make the database, or the encoding of its protocol, refuse for good.
REFUSED = (
    asyncpg.DataError,
    asyncpg.IntegrityConstraintViolationError,
    asyncpg.ProgramLimitExceededError,
    struct.error,
    OverflowError,
    ValueError,
    TypeError,
)


Decoded = tuple[Record, EnrichedBatch]
NOTHING = Prepared([], [], [], [], {})


@dataclass(frozen=True, slots=True)
class _Part:
    """Records of one partition that are counted in one transaction; not prepared, when one holds a value that cannot
    be encoded."""

    partition: Partition
    decoded: Sequence[Decoded]
    prepared: Prepared | None


class Aggregator:
    """Keeps its place in the database, with the results; the log's own offsets only serve lag and trimming. `note` is
    told of the new events of each transaction, and must not wait."""

    def __init__(
        self, database: Database, log: EventLog, note: Callable[[Sequence[Pair]], None] = lambda fresh: None
    ) -> None:
        self._log = log
        self._note = note
        # Offsets of another log mean nothing in this one.
        self._store = Store(database, f"{GROUP}/{log.name}")
        self._expected: dict[Partition, Offset] = {}
        # How often places were given out: what was read before is not to be counted after.
        self._generation = 0
        # Records that are counted while others of the same poll are not: should one of those be put aside, the poll
        # is processed again without it.
        self._counted: set[tuple[Partition, Offset]] = set()
        # What is counted of tenants that have metrics of their own, as the last transaction found it.
        self._metrics: dict[UUID, CountedMetrics] = {}

    def worker(self) -> Worker:
        consumer = self._log.consume(GROUP, ENRICHED_TOPICS, self._on_assigned)
        return Worker(GROUP, consumer, self._log, self._process, MAX_RECORDS, self._prepare)

    async def _on_assigned(self, partitions: Sequence[Partition]) -> Mapping[Partition, Offset]:
        """Looks up where to go on, and says again what the last transaction changed: it may have died unsaid."""
        self._generation += 1
        places = {}
        for partition in partitions:
            self._expected.pop(partition, None)
            position = await self._store.position(partition)
            if position is not None:
                self._expected[partition] = places[partition] = position.next_offset
                if position.last_update:
                    await self._tell(decode_update_list(position.last_update))
        return places

    async def _prepare(self, records: Sequence[Record]) -> Process:
        """Reads and folds records before their turn."""
        generation = self._generation
        parts = await self._parts_of(records)

        async def process(records: Sequence[Record], offsets: Mapping[Partition, Offset]) -> None:
            if generation != self._generation:
                raise Fenced("partitions were given out after these records were read")
            await self._count_all(parts, offsets)

        return process

    async def _process(self, records: Sequence[Record], offsets: Mapping[Partition, Offset]) -> None:
        todo = [record for record in records if (record.partition, record.offset) not in self._counted]
        await self._count_all(await self._parts_of(todo), offsets)

    async def _parts_of(self, records: Sequence[Record]) -> list[_Part]:
        """Records as they are counted together: those of a partition, up to so many events."""
        by_partition: dict[Partition, list[Decoded]] = {}
        for record in records:
            by_partition.setdefault(record.partition, []).append((record, _decode(record)))
            await asyncio.sleep(0)
        return [
            await self._part_of(partition, part)
            for partition, decoded in by_partition.items()
            for part in split(decoded)
        ]

    async def _part_of(self, partition: Partition, decoded: Sequence[Decoded]) -> _Part:
        try:
            return _Part(partition, decoded, await prepare([batch for _, batch in decoded], self._metrics))
        except REFUSED:
            return _Part(partition, decoded, None)

    async def _count_all(self, parts: Sequence[_Part], offsets: Mapping[Partition, Offset]) -> None:
        await self._store.ensure_partitions(batch for part in parts for _, batch in part.decoded)
        at_once = asyncio.Semaphore(PARTITIONS_AT_ONCE)

        async def count(partition: Partition, next_offset: Offset) -> None:
            async with at_once:
                await self._count_partition(partition, parts, next_offset)

        outcomes = await asyncio.gather(*(count(*place) for place in offsets.items()), return_exceptions=True)
        raise_first(outcomes)
        self._counted.clear()

    async def _count_partition(self, partition: Partition, parts: Sequence[_Part], next_offset: Offset) -> None:
        *firsts, last = [part for part in parts if part.partition == partition] or [_Part(partition, [], NOTHING)]
        for part in firsts:
            await self._count(part, part.decoded[-1][0].next_offset)
        await self._count(last, next_offset)

    async def _count(self, part: _Part, next_offset: Offset) -> None:
        partition = part.partition
        first = part.decoded[0][0].offset if part.decoded else next_offset
        expected = self._expected.get(partition, first)
        updates: list[BucketUpdates] = []

        def write(counted: Counted) -> tuple[Offset, bytes]:
            updates.extend(updates_of(counted, partition.number, next_offset, time.time()))
            return next_offset, encode_update_list(updates)

        try:
            if part.prepared is None:
                raise ValueError("a value has no place in a column")
            counted = await self._store.transact(partition, part.prepared, expected, write)
        except Misplaced as moved:
            await self._count(await self._placed(part, moved.tiers), next_offset)
            return
        except Redefined as changed:
            self._learn(changed.metrics)
            await self._count(await self._part_of(partition, part.decoded), next_offset)
            return
        except asyncpg.CheckViolationError as error:
            # The one check of these tables is the partitions' own: a day that was met here is dropped.
            self._store.forget_days()
            raise DatabaseUnavailable from error
        except REFUSED as error:
            await self._find_culprit(part, error)
            return
        self._expected[partition] = next_offset
        self._counted.update((partition, record.offset) for record, _ in part.decoded)
        failpoints.reached("after_db")
        self._note(counted.fresh)
        await self._tell(updates)
        failpoints.reached("after_commit")

    async def _placed(self, part: _Part, tiers: Mapping[UUID, str]) -> _Part:
        """A part whose tenants' tier changed while it was on its way, for the storage classes that are theirs now."""
        decoded = [
            (record, msgspec.structs.replace(batch, retention_class=tiers.get(batch.tenant_id, batch.retention_class)))
            for record, batch in part.decoded
        ]
        await self._store.ensure_partitions(batch for _, batch in decoded)
        return await self._part_of(part.partition, decoded)

    def _learn(self, metrics: Mapping[UUID, CountedMetrics]) -> None:
        """Keeps what is counted of tenants; those that have no metrics of their own never come here."""
        if len(self._metrics) > MAX_TENANTS:
            self._metrics.clear()
        self._metrics.update(metrics)

    async def _find_culprit(self, part: _Part, error: Exception) -> None:
        """The database refuses a value: counts record by record, so that only the one that holds it is put aside."""
        if not part.decoded:
            raise error
        if len(part.decoded) == 1:
            raise await self._poison(part, error) from error
        for record, batch in part.decoded:
            await self._count(await self._part_of(part.partition, [(record, batch)]), record.next_offset)

    async def _poison(self, part: _Part, error: Exception) -> Poison:
        """A record that is refused, and the record without those of its events that are refused alone."""
        ((record, batch),) = part.decoded
        good, bad = [], []
        for event in batch.events:
            try:
                alone = await prepare([msgspec.structs.replace(batch, events=[event])], self._metrics)
                await self._store.rehearse(record.partition, alone)
                good.append(event)
            except Redefined as changed:
                self._learn(changed.metrics)
                raise
            except REFUSED:
                bad.append(str(UUID(bytes=event.id)))
        reason = f"the database refuses it: {type(error).__name__} (events {', '.join(bad) or 'only together'})"
        if not good or not bad:
            return Poison(record, reason)
        mended = encode_enriched(msgspec.structs.replace(batch, events=good))
        return Poison(record, reason, replace(record, value=mended))

    async def _tell(self, updates: list[BucketUpdates]) -> None:
        await append_all(self._log, [(UPDATES, update.tenant_id.bytes, encode_updates(update)) for update in updates])

    async def make_partitions_ahead(self, retention_classes: Sequence[str], days: int = 7) -> None:
        """Tables for yesterday and the coming week, so that no event waits for one at midnight."""
        today = datetime.now(UTC).date()
        wanted = {(name, today + timedelta(days=n)) for name in retention_classes for n in range(-1, days + 1)}
        await self._store.ensure_days(wanted)


def raise_first(outcomes: Sequence[BaseException | None]) -> None:
    """What went wrong, if anything did: an outage before poison, which is met again after it."""
    failed = [outcome for outcome in outcomes if outcome is not None]
    for failure in sorted(failed, key=lambda found: isinstance(found, Poison)):
        raise failure


def split(decoded: Sequence[Decoded], most: int = MAX_EVENTS) -> list[list[Decoded]]:
    """Records in parts of at most so many events; one record that has more is a part."""
    parts: list[list[Decoded]] = []
    events = 0
    for record, batch in decoded:
        if not parts or events + len(batch.events) > most:
            parts.append([])
            events = 0
        parts[-1].append((record, batch))
        events += len(batch.events)
    return parts


def updates_of(counted: Counted, shard: int, offset: Offset, now: float) -> list[BucketUpdates]:
    """What changed, a record a tenant: minutes of the last day with their value, older ones by name."""
    hot_since = now - HOT_SECONDS
    changed: dict[UUID, list[ChangedBucket]] = {tenant_id: [] for tenant_id in counted.new_events}
    for slot, row in counted.minutes.items():
        value = row if slot.bucket >= hot_since else None
        changed[slot.tenant_id].append(ChangedBucket(slot.type, slot.is_bot, slot.bucket, value))
    return [
        BucketUpdates(
            tenant_id,
            shard,
            offset,
            int(now * 1000),
            counted.new_events[tenant_id],
            buckets,
            counted.metrics.get(tenant_id, []),
        )  # fmt: skip
        for tenant_id, buckets in changed.items()
    ]


def _decode(record: Record) -> EnrichedBatch:
    try:
        return decode_enriched(record.value)
    except ValueError as error:
        raise Poison(record, f"not an enriched batch: {error}") from error
