"""`bridge`: word of changed buckets in, hot sets overwritten and live channels told."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import groupby

from core import failpoints
from core.database import Database
from core.errors import LiveUnavailable
from core.eventlog import EventLog, Offset, Partition, Record
from core.hot import HotSets
from core.live import LiveBroadcast
from core.queries import named
from core.rollups import HOT_SECONDS, BucketUpdates, ChangedBucket, LiveNotice, decode_updates, encode_notice
from core.topics import UPDATES_TOPICS, live_channel
from core.valkey import VALKEY_AWAY, is_refusal
from pipeline.rollup_writer import summary_of
from pipeline.worker import Poison, Worker

log = logging.getLogger(__name__)

GROUP = "bridge"
MAX_RECORDS = 50
HOT_CELLS = named("aggregate", "hot_cells")
REBUILD_OFFSET = "0"
# In one call: while it is worked on the server does nothing else.
REBUILD_MINUTES = 500


class Bridge:
    """Everything it writes is absolute, so it may repeat itself at any time."""

    def __init__(self, log: EventLog, hot: HotSets, live: LiveBroadcast) -> None:
        self._log = log
        self._hot = hot
        self._live = live

    def worker(self) -> Worker:
        consumer = self._log.consume(GROUP, UPDATES_TOPICS)
        return Worker(GROUP, consumer, self._log, self._process, MAX_RECORDS)

    async def rebuild(self, database: Database) -> int:
        """Fills the hot sets from the rollups, where they lack something; how many minutes.

        Raises:
            LiveUnavailable: Valkey is away.
        """
        # Named before the database is read: what is counted later comes as word of it.
        with _as_unavailable():
            life = await self._hot.life()
        since = datetime.fromtimestamp(time.time() - HOT_SECONDS, UTC)
        async with database.as_writer() as session:
            rows = await session.fetch(HOT_CELLS, since)
        for (tenant_id, shard), group in groupby(rows, lambda row: (row["tenant_id"], row["shard"])):
            buckets = [ChangedBucket(row["type"], row["is_bot"], row["bucket"], summary_of(row)) for row in group]
            for start in range(0, len(buckets), REBUILD_MINUTES):
                part = buckets[start : start + REBUILD_MINUTES]
                await self._put(BucketUpdates(tenant_id, shard, REBUILD_OFFSET, 0, 0, part))
        with _as_unavailable():
            await self._hot.set_whole(life)
        return len(rows)

    async def is_whole(self) -> bool:
        """Whether the hot sets lack nothing; they do when Valkey was emptied."""
        with _as_unavailable():
            return await self._hot.is_whole()

    async def _process(self, records: Sequence[Record], offsets: Mapping[Partition, Offset]) -> None:
        updates = [_decode(record) for record in records]
        for update in updates:
            failpoints.reached("before_hot")
            await self._put(update)
            failpoints.reached("after_hot")
            await self._live.publish(live_channel(update.tenant_id), encode_notice(notice_of(update)))

    async def _put(self, update: BucketUpdates) -> None:
        try:
            await self._hot.put(
                update.tenant_id, update.changed, shard=update.shard, offset=update.offset, now=time.time()
            )
        except VALKEY_AWAY as error:
            if not is_refusal(error):
                raise LiveUnavailable(retry_after=1.0) from error
            # The set is a copy that readers can do without; word of the change must not wait for it.
            log.exception("hot set refused", extra={"action": "internal_error", "tenant": str(update.tenant_id)})


@contextmanager
def _as_unavailable() -> Iterator[None]:
    try:
        yield
    except VALKEY_AWAY as error:
        raise LiveUnavailable(retry_after=1.0) from error


def notice_of(update: BucketUpdates) -> LiveNotice:
    """What the live channel carries of an update: small, whatever the update's size."""
    spans: dict[str, tuple[int, int]] = {}
    for bucket in update.changed:
        first, last = spans.get(bucket.type, (bucket.bucket, bucket.bucket))
        spans[bucket.type] = (min(first, bucket.bucket), max(last, bucket.bucket))
    values = [
        (b.type, b.is_bot, b.bucket, b.summary.count, b.summary.errors, b.summary.bytes)
        for b in update.changed
        if b.summary is not None
    ]
    named_spans = [(name, *span) for name, span in sorted(spans.items())]
    return LiveNotice(update.committed_ms, update.events, named_spans, values, update.shard, metrics=update.metrics)


def _decode(record: Record) -> BucketUpdates:
    try:
        return decode_updates(record.value)
    except ValueError as error:
        raise Poison(record, f"not an update: {error}") from error
