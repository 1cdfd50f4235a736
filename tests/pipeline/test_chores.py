"""What workers do beside their records: it keeps nobody from stopping, and its errors are not swallowed."""

from __future__ import annotations

import asyncio

import pytest

from core.errors import DatabaseUnavailable
from pipeline import __main__ as workers


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
