"""What workers do beside their records: it keeps nobody from stopping, and its errors are not swallowed."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

import pytest

from core.errors import DatabaseUnavailable
from core.eventlog import Offset, Partition, Record
from pipeline import __main__ as workers
from pipeline.worker import Process, Worker, run_worker


async def test_a_chore_at_work_does_not_keep_its_process_from_stopping() -> None:
    stop, began, broken_off = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def rebuild() -> float:
        began.set()
        try:
            await asyncio.sleep(3600)
        finally:
            broken_off.set()
        return 1.0

    async with asyncio.timeout(5):
        task = asyncio.create_task(workers._repeat_until(stop, rebuild))
        await began.wait()
        stop.set()
        await task
    assert broken_off.is_set()


async def test_a_chore_is_tried_again_while_a_part_is_away_and_ends_its_worker_when_it_is_wrong(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(workers, "CHORE_RETRY_SECONDS", 0.0)
    failures = [DatabaseUnavailable(retry_after=1.0), DatabaseUnavailable(retry_after=1.0), ZeroDivisionError()]

    async def chore() -> float:
        raise failures.pop(0)

    async with asyncio.timeout(5):
        with pytest.raises(ZeroDivisionError):
            await workers._repeat_until(asyncio.Event(), chore)
    assert failures == []


class Slow:
    """A consumer that gives what it has, and then waits for ever, as one that joins a group may."""

    def __init__(self, records: int = 0) -> None:
        self.records = [Record(Partition("t"), Offset(str(n)), Offset(str(n + 1)), b"k", b"v") for n in range(records)]
        self.waits, self.is_closed = asyncio.Event(), False
        self.committed: list[Mapping[Partition, Offset]] = []

    async def poll(self, *, max_records: int, wait_seconds: float) -> list[Record]:
        taken, self.records = self.records[:max_records], self.records[max_records:]
        if not taken and wait_seconds:
            self.waits.set()
            await asyncio.sleep(3600)
        return taken

    async def commit(self, offsets: Mapping[Partition, Offset]) -> None:
        self.committed.append(offsets)

    async def rewind(self) -> None: ...

    async def close(self) -> None:
        self.is_closed = True


async def nothing(records: Sequence[Record], offsets: Mapping[Partition, Offset]) -> None: ...


async def test_a_poll_that_waits_does_not_keep_a_worker_from_stopping() -> None:
    consumer, stop = Slow(), asyncio.Event()
    async with asyncio.timeout(5):
        task = asyncio.create_task(run_worker(Worker("w", consumer, None, nothing, 10), stop))  # type: ignore[arg-type]
        await consumer.waits.wait()
        stop.set()
        await task
    assert consumer.is_closed


async def test_the_next_records_are_prepared_while_those_before_them_are_processed() -> None:
    consumer, stop, order = Slow(records=6), asyncio.Event(), []

    async def prepare(records: Sequence[Record]) -> Process:
        order.append(("prepared", records[0].offset))

        async def process(records: Sequence[Record], offsets: Mapping[Partition, Offset]) -> None:
            await asyncio.sleep(0.01)
            order.append(("processed", records[0].offset))

        return process

    worker = Worker("w", consumer, None, nothing, 2, prepare)  # type: ignore[arg-type]
    async with asyncio.timeout(5):
        task = asyncio.create_task(run_worker(worker, stop))
        await consumer.waits.wait()
        stop.set()
        await task
    assert order == [
        ("prepared", "0"), ("prepared", "2"), ("processed", "0"), ("prepared", "4"), ("processed", "2"),
        ("processed", "4"),
    ]  # fmt: skip
    assert [offsets[Partition("t")] for offsets in consumer.committed] == ["2", "4", "6"]
