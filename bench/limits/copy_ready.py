"""Limit of P1: rows that are ready, by COPY, into the same table with its key. Nothing is read, enriched, counted.

Started by the runner as `python -m bench.limits.copy_ready <count>`: makes the product's own rows, says `ready`, and
at each line it reads copies rows of new ids, 5,000 at a time, as a superuser (PostgreSQL takes no COPY under row
security), and says how many seconds it took.
"""

from __future__ import annotations

import os
import sys
import time
from uuid import UUID, uuid4

import asyncpg
import uvloop

from bench.payload import BATCH, Traffic
from core.events import (
    AcceptedEvent,
    EnrichedBatch,
    EnrichedEvent,
    RawBatch,
    decode_body,
    decode_event,
    from_epoch_ms,
)
from pipeline.enrichment.batch import enrich_batch
from pipeline.enrichment.sources import EnrichmentSources
from pipeline.event_rows import EVENT_COLUMNS, details_of

ROWS = 5_000
ID_COLUMN = EVENT_COLUMNS.index("id")


def ready_rows(count: int) -> list[tuple[object, ...]]:
    """Rows as the product's worker would write them."""
    tenant_id = UUID(os.environ["BENCH_TENANT"])
    sources = EnrichmentSources.open(os.environ["CLOUDMETRICS_GEO_DATABASE"], lambda tenant: b"k" * 32)
    rows = []
    for body in Traffic().batches(count // BATCH):
        now_ms = int(time.time() * 1000)
        ids = [UUID(decode_event(event).id) for event in decode_body(body).events]
        accepted = [AcceptedEvent(n, event_id, now_ms) for n, event_id in enumerate(ids)]
        batch = enrich_batch(RawBatch(tenant_id, "key", "request", now_ms, accepted, body=body), sources, "self_hosted")
        rows += [event_row(batch, event) for event in batch.events]
    return rows


def event_row(batch: EnrichedBatch, event: EnrichedEvent) -> tuple[object, ...]:
    """One tuple of `EVENT_COLUMNS`."""
    return (
        batch.tenant_id, batch.retention_class, from_epoch_ms(event.timestamp_ms), UUID(bytes=event.id),
        from_epoch_ms(batch.received_ms), event.type, batch.key_id, event.visitor, event.session, event.session_id,
        event.user_id, event.anonymous_id, event.page_path, event.referrer_host, event.country, event.device,
        event.browser, event.os, event.method, event.status, event.duration_ms, event.bytes, event.is_bot,
        details_of(event).decode(), 0,
    )  # fmt: skip


def with_new_ids(rows: list[tuple[object, ...]]) -> list[tuple[object, ...]]:
    return [(*row[:ID_COLUMN], uuid4(), *row[ID_COLUMN + 1 :]) for row in rows]


async def main() -> None:
    rows = ready_rows(int(sys.argv[1]))
    connection = await asyncpg.connect(os.environ["BENCH_DATABASE"])
    print("ready", flush=True)
    for _ in iter(sys.stdin.readline, ""):
        fresh = with_new_ids(rows)
        started, cpu = time.perf_counter(), time.process_time()
        for at in range(0, len(fresh), ROWS):
            part = fresh[at : at + ROWS]
            await connection.copy_records_to_table("events", records=part, columns=EVENT_COLUMNS)
        print(time.perf_counter() - started, time.process_time() - cpu, flush=True)


if __name__ == "__main__":
    uvloop.run(main())
