"""Q1 to Q3: screens a second by one server process with a core to itself, 12 charts of 1,440 points each, asked by
four connections. Warm, one event a second comes in and the open bucket is always as fresh as it says; cold, each
screen is of a range that nobody asked for before.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

from redis.asyncio import Redis

from bench import dashboard
from bench.case import Case, Sample, Sides, Size, sample_of
from bench.load import send_all
from bench.payload import Sender, Traffic
from bench.processes import OTHER_CORE, SERVER_CORE, CpuMeter, Running
from bench.servers import Servers, open_servers, until_listening
from cloudmetrics import accounts
from cloudmetrics.children import CHECKOUT
from cloudmetrics.embedded.kafka_server import free_port
from core.permissions import Scope
from core.tenancy import KeyKind

CONNECTIONS = 4
EVENT_SECONDS = 1.0
# More screens than a second of any server takes.
MOST_A_SECOND = 20_000


@dataclass(slots=True)
class Screens:
    """One server under load; `requests` gives one after the other."""

    servers: Servers
    server: Running
    port: int
    requests: Callable[[], Iterator[bytes]]
    seconds: float
    connections: int = CONNECTIONS

    async def measure(self) -> Sample:
        self.server.pin({SERVER_CORE})
        self.servers.pin_beside()
        meter = CpuMeter([self.server, *self.servers.beside])
        meter.start()
        outcome = await send_all(
            self.port, self.requests(), seconds=self.seconds, connections=self.connections, expected=200
        )
        outcome.checked()
        return sample_of(outcome.accepted, outcome.seconds, meter.read(), self.server.name)

    async def warm(self) -> None:
        some = itertools.islice(self.requests(), 8)
        outcome = await send_all(self.port, some, seconds=60, connections=self.connections, expected=200)
        outcome.checked()


@dataclass(slots=True)
class ArrayLimit:
    """The limit's process, which measures itself between two words."""

    servers: Servers
    running: Running
    screens: int

    async def measure(self) -> Sample:
        self.running.pin({SERVER_CORE})
        self.servers.pin_beside()
        process, meter = self.running.process, CpuMeter(self.servers.beside)
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(b"%d\n" % self.screens)
        process.stdin.flush()
        meter.start()
        line = await asyncio.to_thread(process.stdout.readline)
        seconds, cpu = (float(word) for word in line.split())
        return sample_of(self.screens, seconds, {"array_agg": cpu, **meter.read()}, "array_agg")


@dataclass(slots=True)
class Ours:
    """The product with a tenant whose days are filled, and its key."""

    servers: Servers
    server: Running
    port: int
    sender: Sender
    token: str
    tenant_id: str

    def screens(
        self, requests: Callable[[], Iterator[bytes]], seconds: float, connections: int = CONNECTIONS
    ) -> Screens:
        return Screens(self.servers, self.server, self.port, requests, seconds, connections)

    def warm_requests(self) -> Iterator[bytes]:
        return itertools.repeat(dashboard.request(dashboard.last_day(), self.token))

    async def trickle(self) -> None:
        """One event a second through the door, so that the open bucket never rests."""
        for body in Traffic().batches(100_000, 1):
            request = self.sender.request(body)
            (await send_all(self.port, [request], seconds=10, connections=1)).checked()
            await asyncio.sleep(EVENT_SECONDS)


@asynccontextmanager
async def open_ours(servers: Servers) -> AsyncIterator[Ours]:
    tenant, sender = await servers.tenant()
    key = await accounts.create_key(
        servers.settings, tenant=tenant.slug, kind=KeyKind.SECRET, name="screen",
        scopes=frozenset({Scope.METRICS_READ}), is_unsigned=True,
    )  # fmt: skip
    await dashboard.fill(servers.database_url, tenant.id)
    port = free_port()
    server = servers.start("web", "web", CLOUDMETRICS_PORT=str(port), CLOUDMETRICS_WEB_WORKERS="1")
    worker = servers.start("pipeline", "pipeline", "all")
    worker.pin({OTHER_CORE})
    await until_listening(port)
    yield Ours(servers, server, port, sender, key.secret, str(tenant.id))


@asynccontextmanager
async def _on_other_core() -> AsyncIterator[None]:
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {OTHER_CORE} & cores or cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)


@asynccontextmanager
async def _warm(
    open_other: Callable[[Servers, Ours, Size], AsyncIterator[Screens]], size: Size
) -> AsyncIterator[Sides]:
    async with open_servers(with_kafka=False) as servers, open_ours(servers) as ours:
        screens = ours.screens(ours.warm_requests, size.seconds)
        await screens.warm()
        async for other in open_other(servers, ours, size):
            await other.warm()
            trickle = asyncio.create_task(ours.trickle())
            async with _on_other_core():
                yield Sides(screens.measure, other.measure)
            trickle.cancel()
            with suppress(asyncio.CancelledError):
                await trickle


async def _strawberry(servers: Servers, ours: Ours, size: Size) -> AsyncIterator[Screens]:
    port = free_port()
    server = servers.start("stock_strawberry", "bench.peers.stock_strawberry", str(port))
    await until_listening(port)
    yield Screens(servers, server, port, _of_objects, size.seconds)


async def _yoga(servers: Servers, ours: Ours, size: Size) -> AsyncIterator[Screens]:
    port = free_port()
    with (servers.folder / "yoga.log").open("wb") as log:
        process = subprocess.Popen(
            ["node", "bench/peers/yoga.mjs", str(port)], cwd=CHECKOUT, stdout=log, stderr=log,
            env={"PATH": os.environ["PATH"], "NODE_ENV": "production"},
        )  # fmt: skip
    servers.adopt(server := Running("yoga", process))
    await until_listening(port)
    yield Screens(servers, server, port, _of_objects, size.seconds)


async def _mget(servers: Servers, ours: Ours, size: Size) -> AsyncIterator[Screens]:
    """The same fragments that ours sends, put where the limit finds them."""
    client = Redis.from_url(servers.settings.redis_url)
    stamps, values = b",".join([b"1764108000000"] * dashboard.POINTS), b",".join([b"1234"] * dashboard.POINTS)
    series = b'[{"labels":{},"values":[%s],"total":1776960}]' % values
    fragment = b'{"columns":{"timestamps":[%s],"series":%s}}' % (stamps, series)
    await client.mset({f"bench:fragment:{name}": fragment for name, _, _ in dashboard.WIDGETS})
    await client.aclose()
    port = free_port()
    server = servers.start("mget_join", "bench.limits.mget_join", str(port))
    await until_listening(port)
    yield Screens(servers, server, port, _of_objects, size.seconds)


def _of_objects() -> Iterator[bytes]:
    fields = " ".join(
        f'{name}: series(metric: "{name}") {{ points {{ t v }} total }}' for name, _, _ in dashboard.WIDGETS
    )
    return itertools.repeat(dashboard.post("/graphql", {"query": "{ " + fields + " }"}))


@asynccontextmanager
async def _cold(size: Size) -> AsyncIterator[Sides]:
    async with open_servers(with_kafka=False) as servers, open_ours(servers) as ours:
        numbers = itertools.count()

        def requests() -> Iterator[bytes]:
            for number in numbers:
                yield dashboard.request(dashboard.closed_day(number % 2880), ours.token)

        screens = ours.screens(requests, size.seconds, connections=1)
        await screens.warm()
        more = {"BENCH_DATABASE": servers.database_url, "BENCH_TENANT": ours.tenant_id}
        process = subprocess.Popen(
            [sys.executable, "-m", "bench.limits.array_agg"], cwd=CHECKOUT, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, env={**servers.settings.to_env(), **more},
        )  # fmt: skip
        servers.adopt(running := Running("array_agg", process))
        assert process.stdout is not None
        if await asyncio.to_thread(process.stdout.readline) != b"ready\n":
            raise RuntimeError("the limit did not start")
        limit = ArrayLimit(servers, running, max(10, int(size.seconds * 20)))
        await limit.measure()
        async with _on_other_core():
            yield Sides(screens.measure, limit.measure)


Q1 = Case(
    "Q1", "screens/s over GraphQL, warm: ours / stock Strawberry, lists of objects from memory", 200, 60,
    lambda size: _warm(_strawberry, size), unit=" screens/s",
)  # fmt: skip
Q1_NODE = Case(
    "Q1-node", "screens/s over GraphQL, warm: ours / Node graphql-yoga, lists of objects from memory", 30, 10,
    lambda size: _warm(_yoga, size), unit=" screens/s",
)  # fmt: skip
Q2 = Case(
    "Q2", "screens/s, warm: ours over GraphQL / one MGET of twelve ready answers, joined and sent", 0.50, 0.25,
    lambda size: _warm(_mget, size), unit=" screens/s",
)  # fmt: skip
Q3 = Case(
    "Q3", "screens/s one after the other, cold: ours over GraphQL / one fetch with an array_agg a chart", 0.80, 0.50,
    _cold, unit=" screens/s",
)  # fmt: skip
