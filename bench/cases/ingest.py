"""I1 and I2: events accepted a second over HTTP by one server process with a core to itself, in requests of 100."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from bench.case import Case, Sample, Sides, Size, sample_of
from bench.load import send_all
from bench.payload import BATCH, Sender, Traffic
from bench.peers import topics
from bench.processes import OTHER_CORE, SERVER_CORE, CpuMeter, Running
from bench.servers import Servers, open_servers, until_listening
from cloudmetrics.embedded.kafka_server import free_port

# Built before a round; memory for more is not everywhere.
MAX_REQUESTS = 6000
WARM_REQUESTS = 60


@dataclass(slots=True)
class Door:
    """One server under load. Each event is sent to it once: a repeat would take another way."""

    servers: Servers
    server: Running
    port: int
    sender: Sender
    traffic: Traffic
    seconds: float
    expected_requests: int = 400

    async def measure(self) -> Sample:
        """Loads it for a while with requests that were built before."""
        requests = self.sender.requests(self.traffic.batches(self.expected_requests))
        self.server.pin({SERVER_CORE})
        self.servers.pin_beside()
        meter = CpuMeter([self.server, *self.servers.beside])
        meter.start()
        outcome = (await send_all(self.port, requests, seconds=self.seconds)).checked()
        spent = meter.read()
        self.expected_requests = min(MAX_REQUESTS, int(outcome.accepted / outcome.seconds * self.seconds * 1.3))
        return sample_of(outcome.accepted * BATCH, outcome.seconds, spent, self.server.name)

    async def warm(self) -> None:
        requests = self.sender.requests(self.traffic.batches(WARM_REQUESTS))
        (await send_all(self.port, requests, seconds=10)).checked()


async def _open_door(servers: Servers, name: str, module: str, seconds: float) -> Door:
    """A server that listens and has answered its first requests."""
    _, sender = await servers.tenant()
    port = free_port()
    more = {"CLOUDMETRICS_PORT": str(port)} if module == "web" else {"BENCH_SECRET": sender.secret}
    arguments = [] if module == "web" else [str(port)]
    server = servers.start(name, module, *arguments, **more)
    await until_listening(port)
    door = Door(servers, server, port, sender, Traffic(), seconds)
    await door.warm()
    return door


@asynccontextmanager
async def _against(other: str, module: str, size: Size) -> AsyncIterator[Sides]:
    cores = os.sched_getaffinity(0)
    async with open_servers() as servers:
        await topics.create(servers.settings.kafka_brokers)
        ours = await _open_door(servers, "web", "web", size.seconds)
        beside = await _open_door(servers, other, module, size.seconds)
        os.sched_setaffinity(0, {OTHER_CORE} & cores or cores)
        try:
            yield Sides(ours.measure, beside.measure)
        finally:
            os.sched_setaffinity(0, cores)


I1 = Case(
    "I1", "events accepted/s: ours / FastAPI + pydantic + Redis bucket + a Kafka record an event", 12.0, 6.0,
    lambda size: _against("stock_ingest", "bench.peers.stock_ingest", size),
)  # fmt: skip
I2 = Case(
    "I2", "events accepted/s: ours / signature and msgspec decoding only, nothing written", 0.60, 0.35,
    lambda size: _against("validate_only", "bench.limits.validate_only", size),
)  # fmt: skip
