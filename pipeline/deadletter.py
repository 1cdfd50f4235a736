"""`deadletters`: dead letters in, rows out, where people find them and the log's retention does not reach."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from uuid import UUID

import msgspec

from core.database import Database
from core.eventlog import DeadLetter, EventLog, Offset, Partition, Record
from core.partitioning import TENANT_BYTES, tenant_part
from core.queries import named
from core.topics import DEAD_TOPICS
from pipeline.worker import Worker

GROUP = "deadletters"
MAX_RECORDS = 50
KEEP = named("aggregate", "keep_dead_letter")
FIND_ERASED = named("tenant_ends", "find_erased")
UNREADABLE_TENANT = UUID(int=0)

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
        async with self._database.as_writer() as session:
            erased = {UUID(int=row["id"].int) for row in await session.fetch(FIND_ERASED, tenants)}
            for record, tenant_id in zip(records, tenants, strict=True):
                if tenant_id in erased:
                    continue
                letter = _decoder.decode(record.value)
                await session.execute(
                    KEEP,
                    tenant_id,
                    letter.topic,
                    letter.partition,
                    letter.offset,
                    letter.worker,
                    letter.reason,
                    letter.value,
                )


def tenant_of(record: Record) -> UUID:
    """Whose a letter is, as far as its key can be read."""
    tenant = tenant_part(record.key)
    return UUID(bytes=tenant) if len(tenant) == TENANT_BYTES else UNREADABLE_TENANT
