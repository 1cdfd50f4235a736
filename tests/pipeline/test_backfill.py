"""A new version's earlier events are counted once, whoever is killed, while later ones are counted as they come."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from core import failpoints
from core.audit import Author
from core.database import Database, as_owner
from core.errors import Conflict
from core.jobs import JobKind, JobState, cancel, list_jobs
from core.settings import Settings
from core.tenancy import Tenant
from pipeline.jobs.backfill import BITE, Backfill, ask_backfills
from pipeline.jobs.lease import LeaseLost
from tests.conftest import ROOT
from tests.pipeline.own_metrics import DEFINITIONS, assert_equal, define, make_events
from tests.pipeline.test_metric_counting import Counting

ON_BOTH_STORES = True
SECONDS = 240.0


class Killed(Exception):
    """As if the process had ended here."""


@pytest.fixture
def process(settings: Settings, tmp_path: Path) -> Iterator[Any]:
    """Starts `python -m pipeline jobs` as users do, with a fail point if one is named."""
    running: list[subprocess.Popen[bytes]] = []

    def start(fail_point: str = "") -> subprocess.Popen[bytes]:
        wanted = replace(settings, fail_point=fail_point, export_folder=str(tmp_path))
        environ = {**os.environ, **wanted.to_env()}
        running.append(subprocess.Popen([sys.executable, "-m", "pipeline", "jobs"], cwd=ROOT, env=environ))
        return running[-1]

    yield start
    for each in running:
        if each.poll() is None:
            each.kill()
        each.wait()


async def state_of(superuser_url: str, version_id: UUID) -> tuple[bool, float]:
    async with as_owner(superuser_url) as connection:
        row = await connection.fetchrow(
            "SELECT ready_at IS NOT NULL, backfilled FROM metric_versions WHERE id = $1", version_id
        )
    return row[0], row[1]


async def test_a_metric_made_in_the_middle_of_an_import_counts_each_event_once(
    database: Database, superuser_url: str, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = make_events(5, 900)
    versions: dict[str, UUID] = {}
    passes = sent = 0

    def dies(step: str) -> None:
        nonlocal passes
        if step == "before_backfill_commit":
            passes += 1
            if passes % 4 == 2:
                raise Killed

    monkeypatch.setattr(failpoints, "reached", dies)

    async def import_all(shard: int) -> None:
        nonlocal sent
        worker = Counting(database, tenant, shard)
        mine = events[shard::2]
        for start in range(0, len(mine), 45):
            await worker.count(mine[start : start + 45])
            sent += 1
            if start in (90, 225):
                await worker.count(mine[start : start + 45])

    async def make_metrics() -> None:
        for key, after in (("revenue", 4), ("buyers", 8), ("slow", 12)):
            while sent < after:
                await asyncio.sleep(0.01)
            versions[key] = await define(superuser_url, tenant, key, *DEFINITIONS[key])

    async def backfill() -> None:
        while len(versions) < 3 or not all([(await state_of(superuser_url, v))[0] for v in versions.values()]):
            for version_id in list(versions.values()):
                one = Backfill(database, tenant.id, version_id)
                try:
                    while not (await one.take_bite(37)).is_done:
                        pass
                except Killed:
                    continue
            await asyncio.sleep(0.01)

    await asyncio.gather(import_all(0), import_all(1), make_metrics(), backfill())
    assert passes >= 8
    for key, version_id in versions.items():
        await assert_equal(superuser_url, key, version_id, events)


@pytest.mark.slow
async def test_a_killed_worker_repeats_nothing_and_leaves_nothing_out(
    database: Database, superuser_url: str, tenant: Tenant, process: Any
) -> None:
    worker = Counting(database, tenant)
    events = make_events(6, BITE + 500, hours=1)
    for start in range(0, len(events), 2_000):
        await worker.count(events[start : start + 2_000])
    version_id = await define(superuser_url, tenant, "revenue", *DEFINITIONS["revenue"])
    later = make_events(7, 100, hours=1)
    await worker.count(later)
    for fail_point in ("before_backfill_commit:1", "backfill_bite:1"):
        killed = process(fail_point)
        assert await asyncio.to_thread(killed.wait, SECONDS) == -9
    process()
    async with asyncio.timeout(SECONDS):
        while not (await state_of(superuser_url, version_id))[0]:
            await asyncio.sleep(0.2)
    assert await state_of(superuser_url, version_id) == (True, 1.0)
    await assert_equal(superuser_url, "revenue", version_id, [*events, *later])


async def test_a_version_without_earlier_events_is_ready_at_once(
    database: Database, superuser_url: str, tenant: Tenant
) -> None:
    version_id = await define(superuser_url, tenant, "orders", *DEFINITIONS["orders"])
    assert (await Backfill(database, tenant.id, version_id).take_bite()).is_done
    assert await state_of(superuser_url, version_id) == (True, 1.0)


async def test_two_workers_on_one_version_do_not_count_twice(
    database: Database, superuser_url: str, tenant: Tenant
) -> None:
    events = make_events(8, 60)
    await Counting(database, tenant).count(events)
    version_id = await define(superuser_url, tenant, "orders", *DEFINITIONS["orders"])
    one, other = (Backfill(database, tenant.id, version_id) for _ in range(2))
    await one.take_bite(20)
    await other.take_bite(20)
    with pytest.raises(LeaseLost):
        await one.take_bite(20)
    while not (await other.take_bite(20)).is_done:
        pass
    await assert_equal(superuser_url, "orders", version_id, events)


async def test_each_waiting_version_has_one_job_that_nobody_cancels(
    database: Database, superuser_url: str, tenant: Tenant
) -> None:
    first = await define(superuser_url, tenant, "orders", *DEFINITIONS["orders"])
    await define(superuser_url, tenant, "buyers", *DEFINITIONS["buyers"])
    assert await ask_backfills(database) == 2
    assert await ask_backfills(database) == 0
    jobs = await list_jobs(database, tenant.id, 10, None)
    assert {job.kind for job in jobs} == {JobKind.BACKFILL_METRIC}
    assert str(first) in {job.arguments["version_id"] for job in jobs}
    with pytest.raises(Conflict, match="archived"):
        await cancel(database, Author.operator(tenant.id), jobs[0].id)
    assert all(job.state is JobState.WAITING for job in jobs)


async def test_an_ended_version_is_not_counted_for(database: Database, superuser_url: str, tenant: Tenant) -> None:
    await Counting(database, tenant).count(make_events(9, 30))
    first = await define(superuser_url, tenant, "orders", *DEFINITIONS["orders"])
    await define(superuser_url, tenant, "orders2", *DEFINITIONS["orders"], former=first)
    assert await Backfill(database, tenant.id, first).take_bite() is not None
    assert (await state_of(superuser_url, first))[0] is False
    await assert_equal(superuser_url, "orders", first, [])
