"""`deadletters`: dead letters in, rows out, where people find them and the log's retention does not reach."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from uuid import UUID

import msgspec

from core.database import Database
from core.eventlog import DeadLetter, EventLog, Offset, Partition, Record
from core.events import decode_enriched, decode_raw
from core.ingest_counts import add_counts
from core.outcomes import IngestCell, Outcome, cell_of
from core.partitioning import TENANT_BYTES, tenant_part
from core.queries import named
from core.rollups import BucketUpdates, encode_updates
from core.topics import DEAD_TOPICS, UPDATES, is_raw_topic
from pipeline.appending import append_all
from pipeline.worker import Worker

GROUP = "deadletters"
MAX_RECORDS = 50
KEEP = named("aggregate", "keep_dead_letter")
FIND_ERASED = named("tenant_ends", "find_erased")
UNREADABLE_TENANT = UUID(int=0)
MAX_REASON_LENGTH = 80
# Orders nothing: such an update has no value of a bucket.
NO_OFFSET = "0"

_decoder = msgspec.msgpack.Decoder(DeadLetter)


class DeadLetterIndex:
    """Only `DeadLetter` records are ever written to its topic; one that is not would be ours to mend, so it raises."""

    def __init__(self, database: Database, log: EventLog) -> None:
        self._database = database
        self._log = log

    def worker(self) -> Worker:
        consumer = self._log.consume(GROUP, DEAD_TOPICS)
        return Worker(GROUP, consumer, self._log, self._process, MAX_RECORDS)

    async def _process(self, records: Sequence[Record], offsets: Mapping[Partition, Offset]) -> None:
        tenants = [tenant_of(record) for record in records]
        now_ms = int(time.time() * 1000)
        counts: Counter[IngestCell] = Counter()
        async with self._database.as_writer() as session:
            erased = {UUID(int=row["id"].int) for row in await session.fetch(FIND_ERASED, tenants)}
            for record, tenant_id in zip(records, tenants, strict=True):
                if tenant_id in erased:
                    continue
                letter = _decoder.decode(record.value)
                place = (letter.topic, letter.partition, letter.offset, letter.worker)
                is_new = await session.fetchrow(KEEP, tenant_id, *place, letter.reason, letter.value)
                if is_new is not None and tenant_id != UNREADABLE_TENANT:
                    counts[dead_cell(tenant_id, letter, now_ms)] += 1
            await add_counts(session, counts)
        await self._tell({cell.tenant_id for cell in counts}, now_ms)

    async def _tell(self, tenants: set[UUID], now_ms: int) -> None:
        """Live readers of the counts look again; no bucket of events changed."""
        updates = [BucketUpdates(tenant_id, 0, NO_OFFSET, now_ms, 0, []) for tenant_id in tenants]
        await append_all(self._log, [(UPDATES, update.tenant_id.bytes, encode_updates(update)) for update in updates])


def dead_cell(tenant_id: UUID, letter: DeadLetter, now_ms: int) -> IngestCell:
    """What a letter counts as: its reason without what is of this one record only, and its key where it can be read."""
    reason = letter.reason.partition(":")[0][:MAX_REASON_LENGTH]
    return cell_of(tenant_id, now_ms, Outcome.DEAD, reason, _key_of(letter))


def _key_of(letter: DeadLetter) -> str:
    try:
        is_raw = is_raw_topic(letter.topic)
        return decode_raw(letter.value).key_id if is_raw else decode_enriched(letter.value).key_id
    except ValueError:
        return ""


def tenant_of(record: Record) -> UUID:
    """Whose a letter is, as far as its key can be read."""
    tenant = tenant_part(record.key)
    return UUID(bytes=tenant) if len(tenant) == TENANT_BYTES else UNREADABLE_TENANT
