"""The one loop of every worker: poll, process, commit. An outage is retried; poison goes aside, never in silence."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import msgspec

from core.errors import CloudMetricsError, Fenced, Unavailable
from core.eventlog import Consumer, DeadLetter, EventLog, Offset, Partition, Record
from core.partitioning import tenant_part
from core.topics import DEAD

log = logging.getLogger(__name__)

POLL_SECONDS = 0.5
BACKOFF_SECONDS = (0.1, 5.0)
# From so many records on a poll is followed by another, which waits this long.
MANY = 10
MORE_SECONDS = 0.01
POISON_WINDOW = 1000
POISON_SHARE = 0.01
# One bad record in a quiet hour is not a bad deploy.
POISON_GRACE = 10
POISON_A_TENANT = 4


class Poison(Exception):
    """A record that can never be processed; `reason` goes with it to the dead letters. `mended` is the record with
    only what of it can be processed."""

    def __init__(self, record: Record, reason: str, mended: Record | None = None) -> None:
        super().__init__(reason)
        self.record = record
        self.reason = reason
        self.mended = mended


class TooMuchPoison(CloudMetricsError):
    """More than 1 % of the last 1,000 records were poison: a bad deploy, not bad records."""

    default_code = "too_much_poison"


Process = Callable[[Sequence[Record], Mapping[Partition, Offset]], Awaitable[None]]
Prepare = Callable[[Sequence[Record]], Coroutine[Any, Any, Process]]


@dataclass(frozen=True, slots=True)
class Worker:
    """A group, what it reads, and what it does with records.

    `process` takes records and where each partition stands after them. It raises `Poison` for a bad one before it
    has had any effect, and is called again without it, or with what is mended of it (with no record at all when none
    is left).

    `prepare`, where there is one, does what can be done before the records' turn comes, while those before them are
    waited for; it gives the `process` for these records alone.
    """

    name: str
    consumer: Consumer
    log: EventLog
    process: Process
    max_records: int
    prepare: Prepare | None = None


@dataclass(frozen=True, slots=True)
class _Taken:
    """Records of one poll, and what will process them."""

    records: list[Record]
    process: asyncio.Task[Process] | None


class PoisonLimit:
    """Remembers the fate of the last records. One tenant's poison counts up to a few: whoever sends it stops nobody
    else, while a bad deploy spoils everybody's."""

    def __init__(self) -> None:
        self._fates: deque[bytes | None] = deque(maxlen=POISON_WINDOW)

    def note_good(self, count: int) -> None:
        self._fates.extend([None] * count)

    def note_poison(self, key: bytes) -> TooMuchPoison | None:
        """Notes a bad record of some tenant; what to stop with, when it is too much."""
        self._fates.append(key)
        bad = sum(min(count, POISON_A_TENANT) for key, count in Counter(self._fates).items() if key is not None)
        if bad <= max(POISON_GRACE, POISON_SHARE * POISON_WINDOW):
            return None
        return TooMuchPoison(f"{bad} of the last {len(self._fates)} records were poison; the worker stops.")


async def run_worker(worker: Worker, stop: asyncio.Event) -> None:
    """Runs until told to stop.

    Raises:
        TooMuchPoison: see `PoisonLimit`.
    """
    limit = PoisonLimit()
    delay, size = BACKOFF_SECONDS[0], worker.max_records
    taken: _Taken | None = None
    ahead: _Taken | None = None
    try:
        while not stop.is_set():
            try:
                taken = ahead or await _until(stop, _take(worker, size, POLL_SECONDS))
                ahead = None
                if taken is not None:
                    # Not while they are processed: a consumer is not for two tasks at once.
                    ahead = await _take(worker, size, 0.0) if worker.prepare else None
                    await _process_all(worker, taken, limit)
                delay, size = BACKOFF_SECONDS[0], min(size * 2, worker.max_records)
            except (Unavailable, Fenced) as error:
                log.warning(
                    "worker waits",
                    extra={"action": "worker_retry", "worker": worker.name, "code": error.code, "seconds": delay},
                )
                _leave(taken)
                _leave(ahead)
                taken = ahead = None
                await _give_back(worker)
                await _sleep(stop, delay)
                # What takes too long together may be quick enough in parts.
                delay, size = min(delay * 2, BACKOFF_SECONDS[1]), max(1, size // 2)
    finally:
        _leave(taken)
        _leave(ahead)
        await worker.consumer.close()


async def _until(stop: asyncio.Event, taking: Coroutine[Any, Any, _Taken | None]) -> _Taken | None:
    """What is taken, unless the worker is stopped before: to join a group may take half a minute. What a poll that is
    broken off had in hand is delivered again."""
    poll, stopping = asyncio.ensure_future(taking), asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait({poll, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if poll.done():
            return poll.result()
        poll.cancel()
        await asyncio.gather(poll, return_exceptions=True)
        return None
    finally:
        poll.cancel()
        stopping.cancel()


async def _take(worker: Worker, max_records: int, wait_seconds: float) -> _Taken | None:
    records = await worker.consumer.poll(max_records=max_records, wait_seconds=wait_seconds)
    if not records:
        return None
    # One poll gives what one fetch brought. Where many wait, what is done once a batch is done for more of them.
    more = records if len(records) >= MANY else []
    while more and len(records) < max_records:
        more = await worker.consumer.poll(max_records=max_records - len(records), wait_seconds=MORE_SECONDS)
        records = records + more
    return _Taken(records, asyncio.create_task(worker.prepare(records)) if worker.prepare else None)


def _leave(taken: _Taken | None) -> None:
    """Gives up what was polled and is not committed: it is delivered again, and what is wrong with it is met again."""
    if taken is not None and taken.process is not None:
        taken.process.cancel()
        taken.process.add_done_callback(lambda task: task.cancelled() or task.exception())


async def _process_all(worker: Worker, taken: _Taken, limit: PoisonLimit) -> None:
    offsets = next_offsets(taken.records)
    remaining: Sequence[Record] = taken.records
    stop_with: TooMuchPoison | None = None
    preparing = taken.process
    while True:
        try:
            process = worker.process if preparing is None else await preparing
            preparing = None
            await process(remaining, offsets)
            limit.note_good(len(remaining))
            break
        except Poison as poison:
            preparing = None
            await _put_aside(worker, poison)
            stop_with = limit.note_poison(tenant_part(poison.record.key)) or stop_with
            remaining = [kept for record in remaining if (kept := _without(poison, record)) is not None]
    await worker.consumer.commit(offsets)
    # Only now: stopped before, it would begin again with the same records, and put them aside again, for ever.
    if stop_with is not None:
        raise stop_with


def _without(poison: Poison, record: Record) -> Record | None:
    return poison.mended if record is poison.record else record


async def _put_aside(worker: Worker, poison: Poison) -> None:
    record = poison.record
    letter = DeadLetter(
        record.partition.topic, record.partition.number, record.offset, worker.name, poison.reason, record.value
    )
    await worker.log.append(DEAD, record.key, msgspec.msgpack.encode(letter))
    log.error(
        "record put aside",
        extra={
            "action": "dead_letter",
            "worker": worker.name,
            "topic": record.partition.topic,
            "offset": record.offset,
            "reason": poison.reason,
        },
    )


async def _give_back(worker: Worker) -> None:
    """Takes every partition anew, so that what was polled and not processed is delivered again."""
    with suppress(Unavailable):
        await worker.consumer.rewind()


async def _sleep(stop: asyncio.Event, seconds: float) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await stop.wait()


def next_offsets(records: Sequence[Record]) -> dict[Partition, Offset]:
    """Where each partition stands after these records."""
    return {record.partition: record.next_offset for record in records}
