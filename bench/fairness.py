"""`python -m bench.fairness`: how long a small tenant's events take to be queryable, beside a flood of another's.

A quiet tenant sends a request of 20 events five times a second. In the second half another tenant's backlog is put
into the log at once, more than the workers count while it is measured; both tenants' records are in one partition
wherever tenants share any. Time runs from the log's acknowledgement to the row that a query finds.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import statistics
import time
from collections.abc import Callable

import asyncpg

from bench.cases.pipeline import record_of
from bench.payload import Traffic
from bench.servers import Servers, open_servers
from core.eventlog import EventLog
from core.kafka.producer import partition_of_key
from core.log import open_log
from core.partitioning import partition_of
from core.tenancy import Tenant
from core.topics import raw_topic

SECONDS = 10.0
PAUSE_SECONDS = 0.2
LOOK_SECONDS = 0.01
FLOOD_RECORDS = 1500
COUNTED = "SELECT count(*) FROM events WHERE tenant_id = $1"


async def neighbours(servers: Servers, place: Callable[[bytes, int], int]) -> tuple[Tenant, Tenant]:
    """Two tenants in one partition."""
    quiet = (await servers.tenant())[0]
    while True:
        other = (await servers.tenant())[0]
        if place(other.id.bytes, servers.settings.log_partitions) == place(
            quiet.id.bytes, servers.settings.log_partitions
        ):
            return quiet, other


async def measure(log: EventLog, looking: asyncpg.Connection, tenant: Tenant, topics: str) -> list[float]:
    """Milliseconds to queryable of each request of a quiet tenant."""
    sent: list[tuple[float, int]] = []
    already = await looking.fetchval(COUNTED, tenant.id)
    waits: list[float] = []

    async def look() -> None:
        while len(waits) < len(sent) or not is_over:
            counted = await looking.fetchval(COUNTED, tenant.id) - already
            while len(waits) < len(sent) and counted >= sent[len(waits)][1]:
                waits.append((time.perf_counter() - sent[len(waits)][0]) * 1000)
            await asyncio.sleep(LOOK_SECONDS)

    is_over, total = False, 0
    looker = asyncio.create_task(look())
    end = time.perf_counter() + SECONDS
    for body in Traffic().batches(int(SECONDS / PAUSE_SECONDS) + 1, 20):
        if time.perf_counter() > end:
            break
        await log.append(raw_topic(tenant.id, topics), tenant.id.bytes, record_of(tenant, body))
        total += 20
        sent.append((time.perf_counter(), total))
        await asyncio.sleep(PAUSE_SECONDS)
    is_over = True
    await looker
    return waits


async def run(kind: str, topics: str, workers: int) -> None:
    async with open_servers(with_kafka=kind == "kafka") as servers:
        brokers = servers.settings.kafka_brokers if kind == "kafka" else ""
        servers.settings = dataclasses.replace(servers.settings, kafka_brokers=brokers, tenant_topics=topics)
        quiet, flooding = await neighbours(servers, partition_of_key if kind == "kafka" else partition_of)
        log = open_log(servers.settings)
        looking = await asyncpg.connect(servers.database_url)
        try:
            servers.start("pipeline", "pipeline", "all", "--workers", str(workers))
            await log.append(raw_topic(quiet.id, topics), quiet.id.bytes, record_of(quiet, Traffic().batches(1)[0]))
            while not await looking.fetchval(COUNTED, quiet.id):
                await asyncio.sleep(0.1)
            show(kind, topics, "alone", await measure(log, looking, quiet, topics), 0)
            for body in Traffic().batches(FLOOD_RECORDS):
                await log.append(raw_topic(flooding.id, topics), flooding.id.bytes, record_of(flooding, body))
            waits = await measure(log, looking, quiet, topics)
            left = FLOOD_RECORDS * 100 - await looking.fetchval(COUNTED, flooding.id)
            show(kind, topics, "beside a flood", waits, left)
        finally:
            await looking.close()
            await log.close()
            servers.stop()


def show(kind: str, topics: str, beside: str, waits: list[float], left: int) -> None:
    p50, p99 = statistics.median(waits), sorted(waits)[int(len(waits) * 0.99)]
    print(f"{kind:7} {topics:7} {beside:15} {len(waits)} requests  p50 {p50:7.0f} ms  p99 {p99:7.0f} ms  left {left}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m bench.fairness", description=__doc__)
    parser.add_argument("--log", choices=["valkey", "kafka"], default="valkey")
    parser.add_argument("--topics", choices=["each", "shared"], default="each")
    parser.add_argument("--workers", type=int, default=1)
    asked = parser.parse_args()
    asyncio.run(run(asked.log, asked.topics, asked.workers))
