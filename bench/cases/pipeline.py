"""P1 and P2: events a second from the log to queryable rows, by one worker process with a core to itself.

Ours is `python -m pipeline all` and does all of it: enrichment, ledger, raw rows, rollups of three resolutions,
offsets, word of changes and hot sets. A worker is frozen while the log is filled, so that the clock starts with a
full log.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from uuid import UUID

import asyncpg
from aiokafka import AIOKafkaProducer

from bench.case import Case, Sample, Sides, Size, sample_of
from bench.payload import BATCH, Traffic
from bench.peers import topics
from bench.processes import SERVER_CORE, CpuMeter, Running
from bench.servers import Servers, open_servers
from cloudmetrics.children import CHECKOUT
from core.eventlog import EventLog
from core.events import AcceptedEvent, RawBatch, decode_body, decode_event, encode_raw
from core.log import open_log
from core.tenancy import Tenant
from core.topics import raw_topic

LOOK_SECONDS = 0.02
GIVE_UP_SECONDS = 120.0
# New events alone: a record that is delivered again after a time-out adds duplicates, and must not end a round early.
# Of these tenants: what a door took before may still be on its way.
COUNTED = "SELECT coalesce(sum(accepted), 0)::bigint FROM daily_usage WHERE tenant_id = ANY($1)"
ROWS = "SELECT count(*) FROM events WHERE tenant_id = $1"
WARM_EVENTS = 2_000

Fill = Callable[[list[bytes]], Awaitable[None]]
Counted = Callable[[], Awaitable[int]]


@dataclass(slots=True)
class Line:
    """One worker process, how its log is filled, and how much of that has arrived."""

    servers: Servers
    worker: Running
    fill: Fill
    counted: Counted
    traffic: Traffic
    events: int

    async def measure(self) -> Sample:
        """From a full log to the last event in the tables."""
        return await self._run(self.events)

    async def warm(self) -> None:
        await self._run(WARM_EVENTS)

    async def _run(self, events: int) -> Sample:
        bodies = self.traffic.batches(events // BATCH)
        self.worker.freeze()
        await self.fill(bodies)
        target = await self.counted() + len(bodies) * BATCH
        self.worker.pin({SERVER_CORE})
        self.servers.pin_beside()
        meter = CpuMeter([self.worker, *self.servers.beside])
        meter.start()
        started = time.perf_counter()
        self.worker.thaw()
        async with asyncio.timeout(GIVE_UP_SECONDS):
            while await self.counted() < target:
                await asyncio.sleep(LOOK_SECONDS)
        seconds = time.perf_counter() - started
        return sample_of(len(bodies) * BATCH, seconds, meter.read(), self.worker.name)


def record_of(tenant: Tenant, body: bytes) -> bytes:
    """A body as the ingest door would have put it into the log."""
    now_ms = int(time.time() * 1000)
    ids = [UUID(decode_event(event).id) for event in decode_body(body).events]
    accepted = [AcceptedEvent(n, event_id, now_ms - n * 50) for n, event_id in enumerate(ids)]
    return encode_raw(RawBatch(tenant.id, "key_bench", "request", now_ms, accepted, tenant.tier.value, body=body))


@asynccontextmanager
async def open_ours(servers: Servers, size: Size, *, tenants: int = 1) -> AsyncIterator[Line]:
    """The product's workers, warm; events spread over so many tenants."""
    known = [(await servers.tenant())[0] for _ in range(tenants)]
    log = open_log(servers.settings)
    looking = await asyncpg.connect(servers.database_url)

    async def counted() -> int:
        return int(await looking.fetchval(COUNTED, [tenant.id for tenant in known]))

    try:
        worker = servers.start("pipeline", "pipeline", "all")
        line = Line(servers, worker, lambda bodies: fill_log(log, known, bodies), counted, Traffic(), size.events)
        await line.warm()
        yield line
    finally:
        await looking.close()
        await log.close()


async def fill_log(log: EventLog, tenants: list[Tenant], bodies: list[bytes]) -> None:
    """Records of the tenants in turn, some at a time."""
    for at in range(0, len(bodies), 50):
        pairs = [(tenants[n % len(tenants)], bodies[n]) for n in range(at, min(at + 50, len(bodies)))]
        await asyncio.gather(
            *(
                log.append(raw_topic(tenant.id, "each"), tenant.id.bytes, record_of(tenant, body))
                for tenant, body in pairs
            )
        )


@asynccontextmanager
async def open_peer(servers: Servers, size: Size) -> AsyncIterator[Line]:
    tenant, _ = await servers.tenant()
    looking = await asyncpg.connect(servers.database_url)
    producer = AIOKafkaProducer(bootstrap_servers=servers.settings.kafka_brokers, max_request_size=2**23)
    await producer.start()

    async def fill(bodies: list[bytes]) -> None:
        await asyncio.gather(*[await producer.send(topics.BATCHES, body) for body in bodies])

    async def counted() -> int:
        return int(await looking.fetchval(ROWS, tenant.id))

    try:
        more = {"BENCH_DATABASE": servers.database_url, "BENCH_TENANT": str(tenant.id)}
        worker = servers.start("naive_worker", "bench.peers.naive_worker", **more)
        line = Line(servers, worker, fill, counted, Traffic(), size.events)
        await line.warm()
        yield line
    finally:
        await producer.stop()
        await looking.close()


@dataclass(slots=True)
class CopyLimit:
    """The limit's process, which measures itself between two words."""

    servers: Servers
    running: Running
    events: int

    async def measure(self) -> Sample:
        self.running.pin({SERVER_CORE})
        self.servers.pin_beside()
        process, meter = self.running.process, CpuMeter(self.servers.beside)
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(b"go\n")
        process.stdin.flush()
        meter.start()
        line = await asyncio.to_thread(process.stdout.readline)
        seconds, cpu = (float(word) for word in line.split())
        return sample_of(self.events, seconds, {"copy_ready": cpu, **meter.read()}, "copy_ready")


async def open_limit(servers: Servers, size: Size) -> CopyLimit:
    tenant, _ = await servers.tenant()
    more = {"BENCH_DATABASE": servers.database_url, "BENCH_TENANT": str(tenant.id)}
    process = subprocess.Popen(
        [sys.executable, "-m", "bench.limits.copy_ready", str(size.events)],
        cwd=CHECKOUT,
        env={**os.environ, **servers.settings.to_env(), **more},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    servers.adopt(running := Running("copy_ready", process))
    assert process.stdout is not None
    if await asyncio.to_thread(process.stdout.readline) != b"ready\n":
        raise RuntimeError("the limit did not start")
    return CopyLimit(servers, running, size.events)


@asynccontextmanager
async def _against_limit(size: Size) -> AsyncIterator[Sides]:
    async with open_servers() as servers, open_ours(servers, size) as ours:
        limit = await open_limit(servers, size)
        yield Sides(ours.measure, limit.measure)


@asynccontextmanager
async def _against_peer(size: Size) -> AsyncIterator[Sides]:
    async with open_servers() as servers:
        await topics.create(servers.settings.kafka_brokers)
        async with open_ours(servers, size) as ours, open_peer(servers, size) as peer:
            yield Sides(ours.measure, peer.measure)


P1 = Case(
    "P1", "events/s from the log to rows and rollups: ours / COPY of ready rows into the same table", 0.60, 0.35,
    _against_limit,
)  # fmt: skip
P2 = Case(
    "P2", "events/s from the log to rows: ours with rollups / json.loads, uncached agents, executemany per 100",
    5.5, 3.0, _against_peer,
)  # fmt: skip
