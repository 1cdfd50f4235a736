"""`aggregate`: enriched batches in, counted events out, exactly once; then word of what changed."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import asyncpg
import msgspec

from core import failpoints
from core.database import Database
from core.errors import DatabaseUnavailable
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
from pipeline.store import Counted, Store
from pipeline.worker import Poison, Worker

GROUP = "aggregate"
MAX_RECORDS = 100
# What one value can make the database, or the encoding of its protocol, refuse for good.
REFUSED = (
    asyncpg.DataError,
    asyncpg.IntegrityConstraintViolationError,
    asyncpg.ProgramLimitExceededError,
    OverflowError,
    ValueError,
    TypeError,
)


class Aggregator:
    """Keeps its place in the database, with the results; the log's own offsets only serve lag and trimming."""

    def __init__(self, database: Database, log: EventLog) -> None:
        self._log = log
        # Offsets of another log mean nothing in this one.
        self._store = Store(database, f"{GROUP}/{log.name}")
        self._expected: dict[Partition, Offset] = {}
        # Records counted one by one while looking for one that the database refuses.
        self._counted_alone: set[tuple[Partition, Offset]] = set()

    def worker(self) -> Worker:
        consumer = self._log.consume(GROUP, ENRICHED_TOPICS, self._on_assigned)
        return Worker(GROUP, consumer, self._log, self._process, MAX_RECORDS)

    async def _on_assigned(self, partitions: Sequence[Partition]) -> Mapping[Partition, Offset]:
        """Looks up where to go on, and says again what the last transaction changed: it may have died unsaid."""
        places = {}
        for partition in partitions:
            self._expected.pop(partition, None)
            position = await self._store.position(partition)
            if position is not None:
                self._expected[partition] = places[partition] = position.next_offset
                if position.last_update:
                    await self._tell(decode_update_list(position.last_update))
        return places

    async def _process(self, records: Sequence[Record], offsets: Mapping[Partition, Offset]) -> None:
        todo = [record for record in records if (record.partition, record.offset) not in self._counted_alone]
        decoded = [(record, _decode(record)) for record in todo]
        await self._store.ensure_partitions(batch for _, batch in decoded)
        for partition, next_offset in offsets.items():
            mine = [(record, batch) for record, batch in decoded if record.partition == partition]
            await self._count(partition, mine, next_offset)
        self._counted_alone.clear()

    async def _count(
        self, partition: Partition, decoded: Sequence[tuple[Record, EnrichedBatch]], next_offset: Offset
    ) -> None:
        first = decoded[0][0].offset if decoded else next_offset
        expected = self._expected.get(partition, first)
        updates: list[BucketUpdates] = []

        def write(counted: Counted) -> tuple[Offset, bytes]:
            updates.extend(updates_of(counted, partition.number, next_offset, time.time()))
            return next_offset, encode_update_list(updates)

        try:
            await self._store.transact(partition, [batch for _, batch in decoded], expected, write)
        except asyncpg.CheckViolationError as error:
            # The one check of these tables is the partitions' own: a day that was met here is dropped.
            self._store.forget_days()
            raise DatabaseUnavailable from error
        except REFUSED as error:
            await self._find_culprit(partition, decoded, error)
            return
        self._expected[partition] = next_offset
        failpoints.reached("after_db")
        await self._tell(updates)
        failpoints.reached("after_commit")

    async def _find_culprit(
        self, partition: Partition, decoded: Sequence[tuple[Record, EnrichedBatch]], error: Exception
    ) -> None:
        """The database refuses a value: counts record by record, so that only the one that holds it is put aside."""
        if len(decoded) == 1:
            raise await self._poison(*decoded[0], error) from error
        if not decoded:
            raise error
        for record, batch in decoded:
            await self._count(partition, [(record, batch)], record.next_offset)
            self._counted_alone.add((partition, record.offset))

    async def _poison(self, record: Record, batch: EnrichedBatch, error: Exception) -> Poison:
        """A record that is refused, and the record without those of its events that are refused alone."""
        good, bad = [], []
        for event in batch.events:
            alone = msgspec.structs.replace(batch, events=[event])
            try:
                await self._store.rehearse(record.partition, [alone])
                good.append(event)
            except REFUSED:
                bad.append(str(event.id))
        reason = f"the database refuses it: {type(error).__name__} (events {', '.join(bad) or 'only together'})"
        if not good or not bad:
            return Poison(record, reason)
        mended = encode_enriched(msgspec.structs.replace(batch, events=good))
        return Poison(record, reason, replace(record, value=mended))

    async def _tell(self, updates: list[BucketUpdates]) -> None:
        for update in updates:
            await self._log.append(UPDATES, update.tenant_id.bytes, encode_updates(update))

    async def make_partitions_ahead(self, retention_classes: Sequence[str], days: int = 7) -> None:
        """Tables for yesterday and the coming week, so that no event waits for one at midnight."""
        today = datetime.now(UTC).date()
        wanted = {(name, today + timedelta(days=n)) for name in retention_classes for n in range(-1, days + 1)}
        await self._store.ensure_days(wanted)


def updates_of(counted: Counted, shard: int, offset: Offset, now: float) -> list[BucketUpdates]:
    """What changed, a record a tenant: minutes of the last day with their value, older ones by name."""
    hot_since = now - HOT_SECONDS
    changed: dict[UUID, list[ChangedBucket]] = {tenant_id: [] for tenant_id in counted.new_events}
    for slot, row in counted.minutes.items():
        value = row if slot.bucket >= hot_since else None
        changed[slot.tenant_id].append(ChangedBucket(slot.type, slot.is_bot, slot.bucket, value))
    return [
        BucketUpdates(tenant_id, shard, offset, int(now * 1000), counted.new_events[tenant_id], buckets)
        for tenant_id, buckets in changed.items()
    ]


def _decode(record: Record) -> EnrichedBatch:
    try:
        return decode_enriched(record.value)
    except ValueError as error:
        raise Poison(record, f"not an enriched batch: {error}") from error
