"""`python -m pipeline all|enrich|aggregate|bridge|mail|jobs [--workers N]`: settings in, workers until SIGTERM."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache

import uvloop

from core.database import Database
from core.errors import CloudMetricsError, Unavailable
from core.eventlog import EventLog
from core.exports import ExportFolder
from core.failpoints import arm
from core.heap import settle_heap
from core.hot import HotSets
from core.jobs import JobKind
from core.keys import visitor_key
from core.live import LiveBroadcast
from core.log import open_log
from core.queries import named
from core.retention import Retention
from core.settings import Settings
from core.tails import Tails
from core.telemetry import start_logging
from core.tenant_keys import TenantKeys
from core.topics import DEAD, ENRICHED, GROUPS, UPDATES
from pipeline.aggregate import Aggregator
from pipeline.bridge import Bridge
from pipeline.deadletter import DeadLetterIndex
from pipeline.enrich import Enricher
from pipeline.enrichment.agent import build_parser
from pipeline.enrichment.sources import EnrichmentSources
from pipeline.jobs.audit_export import export_audit_log
from pipeline.jobs.backfill import ask_backfills, backfill_metric
from pipeline.jobs.erasure import delete_tenant
from pipeline.jobs.runner import Handler, JobParts, JobRunner
from pipeline.jobs.tenant_export import export_tenant
from pipeline.jobs.upkeep import remove_old_files, sweep_erased
from pipeline.mail import MailSender
from pipeline.moving import EventMover
from pipeline.pace import PacedConsumer
from pipeline.processes import MAX_WORKERS, run_processes
from pipeline.purge import purge_deleted
from pipeline.retention import RetentionKeeper
from pipeline.spread import Spread
from pipeline.tail import TailTeller
from pipeline.worker import Worker, run_worker

log = logging.getLogger("pipeline")

KINDS = ("enrich", "aggregate", "bridge", "mail", "jobs")
CHORE_SECONDS = 60.0
CHORE_RETRY_SECONDS = 2.0
TRIM_SECONDS = 10.0
SPREAD_SECONDS = 10.0
# So soon an emptied Valkey is found out.
WHOLE_SECONDS = 3.0
LEDGER_DAYS = 7
RETENTION_SECONDS = 600.0
# A tenant whose tier has changed waits so long until its events begin to move.
MOVE_SECONDS = 5.0
# So soon a new metric's earlier events begin to be counted.
BACKFILL_SECONDS = 1.0
TENANT_KEYS = 10_000
LIST_CLASSES = named("aggregate", "list_retention_classes")
FORGET_IDS = named("aggregate", "forget_ids")

HANDLERS: dict[JobKind, Handler] = {
    JobKind.EXPORT_TENANT: export_tenant,
    JobKind.EXPORT_AUDIT_LOG: export_audit_log,
    JobKind.DELETE_TENANT: delete_tenant,
    JobKind.BACKFILL_METRIC: backfill_metric,
}

# Does something, and says in how many seconds it is worth doing again.
Chore = Callable[[], Awaitable[float]]


@dataclass(frozen=True, slots=True)
class Parts:
    """What workers are built from; opened once a process."""

    settings: Settings
    database: Database
    log: EventLog


async def _build(kind: str, parts: Parts, stack: AsyncExitStack) -> tuple[list[Worker], list[Chore]]:
    """The workers of a kind, and what it does once a minute."""
    if kind == "enrich":
        master_key = parts.settings.master_key_bytes()
        visitor_keys = lru_cache(maxsize=TENANT_KEYS)(lambda tenant: visitor_key(master_key, tenant))
        build_parser()
        sources = EnrichmentSources.open(parts.settings.geo_database, visitor_keys)
        spread = Spread()
        worker = Enricher(parts.log, sources, spread).worker()
        paced = PacedConsumer(worker.consumer, parts.log, "aggregate", GROUPS["aggregate"])
        return [replace(worker, consumer=paced)], [_trim_log(parts), _learn_spread(parts, spread)]
    if kind == "aggregate":
        tails = Tails(parts.settings.redis_url)
        stack.push_async_callback(tails.close)
        teller = TailTeller(tails)
        aggregator = Aggregator(parts.database, parts.log, teller.note)
        chores = [
            teller.tell,
            _make_partitions(parts, aggregator),
            _forget_ids(parts),
            _drop_old(parts),
            _move_events(parts),
            _purge(parts),
        ]
        return [aggregator.worker(), DeadLetterIndex(parts.database, parts.log).worker()], chores
    if kind == "jobs":
        return [], [_keep_up_jobs(_job_parts(parts, stack)), _ask_backfills(parts)]
    if kind == "mail":
        sender = MailSender(parts.database, parts.settings)
        return [], [sender.send_due, sender.forget]
    live = await stack.enter_async_context(LiveBroadcast(parts.settings.redis_url))
    hot = HotSets(parts.settings.redis_url)
    stack.push_async_callback(hot.close)
    bridge = Bridge(parts.log, hot, live)
    return [bridge.worker()], [_rebuild(parts, bridge)]


def _job_parts(parts: Parts, stack: AsyncExitStack) -> JobParts:
    keys = TenantKeys(parts.settings.redis_url)
    stack.push_async_callback(keys.close)
    return JobParts(parts.settings, parts.database, parts.log, keys, ExportFolder(parts.settings.export_folder))


def _keep_up_jobs(parts: JobParts) -> Chore:
    async def keep_up() -> float:
        # Without a folder there are no exports, and none are past their time.
        if parts.settings.export_folder:
            await remove_old_files(parts)
        await sweep_erased(parts)
        return CHORE_SECONDS

    return keep_up


def _ask_backfills(parts: Parts) -> Chore:
    async def ask() -> float:
        await ask_backfills(parts.database)
        return BACKFILL_SECONDS

    return ask


def _trim_log(parts: Parts) -> Chore:
    async def trim() -> float:
        dropped = await parts.log.trim()
        log.debug("log trimmed", extra={"action": "trim_log", "records": dropped})
        return TRIM_SECONDS

    return trim


def _learn_spread(parts: Parts, spread: Spread) -> Chore:
    async def learn() -> float:
        # A process that only enriches may have no database; then nobody is spread.
        if parts.settings.writer_url:
            await spread.refresh(parts.database)
        return SPREAD_SECONDS

    return learn


def _make_partitions(parts: Parts, aggregator: Aggregator) -> Chore:
    async def make() -> float:
        async with parts.database.as_writer() as session:
            rows = await session.fetch(LIST_CLASSES)
        await aggregator.make_partitions_ahead([row["retention_class"] for row in rows])
        return CHORE_SECONDS

    return make


def _forget_ids(parts: Parts) -> Chore:
    async def forget() -> float:
        async with parts.database.as_writer() as session:
            await session.execute(FORGET_IDS, datetime.now(UTC).date() - timedelta(days=LEDGER_DAYS))
        return CHORE_SECONDS

    return forget


def _drop_old(parts: Parts) -> Chore:
    keeper = RetentionKeeper(parts.database, Retention.of(parts.settings))

    async def drop() -> float:
        await keeper.drop_old()
        await keeper.forget_rollups()
        await keeper.forget_metrics()
        return RETENTION_SECONDS

    return drop


def _move_events(parts: Parts) -> Chore:
    mover = EventMover(parts.database, Retention.of(parts.settings))

    async def move() -> float:
        await mover.move_all()
        return MOVE_SECONDS

    return move


def _purge(parts: Parts) -> Chore:
    async def purge() -> float:
        await purge_deleted(parts.database)
        return RETENTION_SECONDS

    return purge


def _rebuild(parts: Parts, bridge: Bridge) -> Chore:
    """Fills the hot sets at the start, and whenever Valkey comes back empty."""
    is_begun = False

    async def rebuild() -> float:
        nonlocal is_begun
        if not is_begun or not await bridge.is_whole():
            minutes = await bridge.rebuild(parts.database)
            is_begun = True
            log.info("hot sets rebuilt", extra={"action": "rebuild_hot", "minutes": minutes})
        return WHOLE_SECONDS

    return rebuild


async def _create_topics(event_log: EventLog) -> None:
    """The topics that all tenants share, so that the first record of each is waited for. Away: found when made."""
    for topic in (ENRICHED, UPDATES, DEAD):
        with suppress(Unavailable):
            await event_log.create_topic(topic)


async def _repeat(chore: Chore) -> None:
    while True:
        try:
            pause = await chore()
        except Unavailable as error:
            log.warning("chore waits", extra={"action": "worker_retry", "code": error.code})
            pause = CHORE_RETRY_SECONDS
        await asyncio.sleep(pause)


async def _repeat_until(stop: asyncio.Event, chore: Chore) -> None:
    """What a chore has begun is broken off: each may be done in part, and is done again."""
    tasks = [asyncio.create_task(_repeat(chore)), asyncio.create_task(stop.wait())]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def run(settings: Settings, kinds: tuple[str, ...]) -> None:
    """Runs workers until SIGTERM or Ctrl-C, then lets each finish what it holds."""
    stop = asyncio.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(signum, stop.set)
    async with AsyncExitStack() as stack:
        event_log = open_log(settings)
        stack.push_async_callback(event_log.close)
        database = Database(settings)
        stack.push_async_callback(database.close)
        parts = Parts(settings, database, event_log)
        await _create_topics(event_log)
        async with asyncio.TaskGroup() as tasks:
            for kind in kinds:
                workers, chores = await _build(kind, parts, stack)
                for worker in workers:
                    tasks.create_task(run_worker(worker, stop))
                if kind == "jobs":
                    tasks.create_task(JobRunner(_job_parts(parts, stack), HANDLERS).run(stop))
                for chore in chores:
                    tasks.create_task(_repeat_until(stop, chore))
            log.info("workers started", extra={"action": "start", "workers": kinds})
    log.info("workers stopped", extra={"action": "stop"})


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m pipeline", description="Workers between the log and the reader.")
    parser.add_argument("kind", choices=["all", *KINDS], help="which worker this process is")
    parser.add_argument(
        "--workers",
        type=int,
        default=1,
        metavar="N",
        help=f"so many processes of it, 1 to {MAX_WORKERS}, that share the log's partitions (default: %(default)s)",
    )
    arguments = parser.parse_args()
    kind = arguments.kind
    if not 1 <= arguments.workers <= MAX_WORKERS:
        parser.error(f"--workers must be 1 to {MAX_WORKERS}, not {arguments.workers}")
    try:
        settings = Settings.from_env(os.environ)
        arm(settings.fail_point)
        start_logging(settings.log_level)
        if arguments.workers > 1:
            uvloop.run(run_processes([kind], arguments.workers))
            return 0
        settle_heap()
        uvloop.run(run(settings, KINDS if kind == "all" else (kind,)))
    except CloudMetricsError as error:
        print(f"pipeline: {error.message}", file=sys.stderr)
        return 1
    except BaseExceptionGroup as group:
        if group.split(CloudMetricsError)[1] is not None:
            raise
        log.critical("worker failed", extra={"action": "fail", "reason": repr(group.exceptions)})
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
