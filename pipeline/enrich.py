"""`enrich`: accepted requests in, enriched batches out, one record for one record."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from core import failpoints
from core.eventlog import EventLog, Offset, Partition, Record
from core.events import RawBatch, decode_raw, encode_enriched
from core.topics import ENRICHED, RAW_TOPICS
from pipeline.appending import append_all
from pipeline.enrichment.batch import enrich_batch
from pipeline.enrichment.sources import EnrichmentSources
from pipeline.spread import Spread
from pipeline.worker import Poison, Worker

GROUP = "enrich"
MAX_RECORDS = 50


class Enricher:
    """Appends before it commits: a crash between the two repeats a batch, and its ids make the repeat harmless."""

    def __init__(self, log: EventLog, sources: EnrichmentSources, spread: Spread | None = None) -> None:
        self._log = log
        self._sources = sources
        self._spread = spread or Spread()

    def worker(self) -> Worker:
        return Worker(GROUP, self._log.consume(GROUP, RAW_TOPICS), self._log, self._process, MAX_RECORDS)

    async def _process(self, records: Sequence[Record], offsets: Mapping[Partition, Offset]) -> None:
        self._sources.refresh()
        batches = [(record, _decode(record)) for record in records]
        enriched = []
        for record, raw in batches:
            key = self._spread.key_of(raw.tenant_id, raw.request_id)
            enriched.append((key, _enrich(record, raw, self._sources)))
            # Agents never seen take a millisecond each: others in this process must get their turn.
            await asyncio.sleep(0)
        failpoints.reached("before_append")
        await append_all(self._log, [(ENRICHED, key, value) for key, value in enriched])
        failpoints.reached("after_append")


def _decode(record: Record) -> RawBatch:
    try:
        raw = decode_raw(record.value)
    except ValueError as error:
        raise Poison(record, f"not an accepted request: {error}") from error
    if record.key != raw.tenant_id.bytes:
        raise Poison(record, "its key is another tenant's than its header names")
    return raw


def _enrich(record: Record, raw: RawBatch, sources: EnrichmentSources) -> bytes:
    """A step that fails is noted on its event; what raises here is a body that is not the one the door verified."""
    try:
        return encode_enriched(enrich_batch(raw, sources, raw.retention_class))
    except (ValueError, LookupError, RecursionError) as error:
        raise Poison(record, f"its body cannot be read again: {error}") from error
