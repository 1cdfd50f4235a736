"""F1 to F3: live frames delivered over WebSockets by one process with a core to itself, to 1,000 clients of 10 tenants
with ids of their own. The clients share the other core with the servers beside."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial

from bench.case import Case, Sample, Sides, Size
from bench.processes import OTHER_CORE, SERVER_CORE, CpuMeter, Running
from bench.readers import HERE, Readers, Reading, compiled, open_readers
from bench.servers import Servers, open_servers, until_listening
from cloudmetrics.children import CHECKOUT
from cloudmetrics.embedded.kafka_server import free_port
from core.errors import Misconfigured

CLIENTS = 1_000
TENANTS = 10
PACED_RATE = 20
WARM_SECONDS = 0.5
# Of ours, as readers count them; the limit's messages are as long.
MESSAGE_BYTES = 330

NODE_PACKAGES = CHECKOUT / "tests" / "clients" / "node_modules"

Open = Callable[[Servers, AsyncExitStack], Awaitable["Fanout"]]


@dataclass(slots=True)
class Fanout:
    """A server that sends frames as it is told on its stdin, and its readers."""

    servers: Servers
    server: Running
    port: int
    secrets: list[str]
    readers: Readers

    def tell(self, line: str) -> None:
        stdin = self.server.process.stdin
        assert stdin is not None
        stdin.write(line.encode() + b"\n")
        stdin.flush()

    async def reading(self, word: str, seconds: float) -> tuple[Reading, dict[str, float]]:
        """What its readers take while it sends so, and the CPU seconds that this took by process."""
        self.server.pin({SERVER_CORE})
        self.readers.running.pin({OTHER_CORE})
        self.servers.pin_beside()
        self.tell(word)
        await asyncio.sleep(WARM_SECONDS)
        meter = CpuMeter([self.server, self.readers.running, *self.servers.beside])
        meter.start()
        reading = await self.readers.measure(seconds)
        spent = meter.read()
        self.tell("rate 0")
        # What is on its way arrives before the other side begins.
        await asyncio.sleep(WARM_SECONDS)
        if not reading.messages:
            raise RuntimeError(f"{self.server.name} delivered nothing")
        return reading, spent

    async def flood(self, seconds: float) -> Sample:
        """Deliveries a second, as many as it can."""
        reading, spent = await self.reading("flood", seconds)
        return self._sample(reading, spent, reading.messages / reading.seconds)

    async def paced(self, seconds: float) -> Sample:
        """The age of a frame at its reader, p99 in microseconds, at 20 frames a second to each."""
        reading, spent = await self.reading(f"rate {PACED_RATE}", seconds)
        return self._sample(reading, spent, float(reading.p99_us))

    def _sample(self, reading: Reading, spent: dict[str, float], rate: float) -> Sample:
        cpu_us = {name: seconds / reading.messages * 1e6 for name, seconds in spent.items()}
        return Sample(rate, cpu_us, spent[self.server.name] / reading.seconds)


def start_told(servers: Servers, name: str, command: list[str], **more: str) -> Running:
    """A process that is told what to do on its stdin."""
    with open(servers.folder / f"{name}.log", "ab") as log:
        process = subprocess.Popen(
            command,
            cwd=CHECKOUT,
            env={**os.environ, **servers.settings.to_env(), **more},
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
        )
    running = Running(name, process)
    servers.adopt(running)
    return running


async def _fanout(servers: Servers, stack: AsyncExitStack, server: Running, port: int, secrets: list[str]) -> Fanout:
    await until_listening(port)
    readers = await open_readers(servers.folder, port, CLIENTS, secrets)
    stack.callback(readers.running.stop)
    return Fanout(servers, server, port, secrets, readers)


async def open_ours(servers: Servers, stack: AsyncExitStack) -> Fanout:
    """The product's web process, with streams that are driven."""
    secrets = [(await servers.tenant())[1].secret for _ in range(TENANTS)]
    port = free_port()
    command = [sys.executable, "-m", "bench.driven_web"]
    server = start_told(servers, "web", command, CLOUDMETRICS_PORT=str(port))
    return await _fanout(servers, stack, server, port, secrets)


async def open_strawberry(servers: Servers, stack: AsyncExitStack) -> Fanout:
    port = free_port()
    command = [sys.executable, "-m", "bench.peers.strawberry_subs", str(port)]
    return await _fanout(servers, stack, start_told(servers, "strawberry_subs", command), port, _names())


async def open_node(servers: Servers, stack: AsyncExitStack) -> Fanout:
    """Raises Misconfigured: there is no node, or not its packages."""
    if shutil.which("node") is None or not NODE_PACKAGES.exists():
        raise Misconfigured("F2b needs node 20 and the packages of tests/clients: make bench installs them.")
    port = free_port()
    command = ["node", str(HERE / "peers" / "graphql_ws.mjs"), str(port)]
    return await _fanout(servers, stack, start_told(servers, "graphql_ws", command), port, _names())


async def open_limit(servers: Servers, stack: AsyncExitStack) -> Fanout:
    """One send() a client and message, in C."""
    port = free_port()
    command = [str(compiled("limits/fanout.c", servers.folder)), str(port), str(MESSAGE_BYTES)]
    return await _fanout(servers, stack, start_told(servers, "fanout", command), port, [])


def _names() -> list[str]:
    return [f"tenant-{number}" for number in range(TENANTS)]


@asynccontextmanager
async def _against(open_other: Open, measure: str, size: Size) -> AsyncIterator[Sides]:
    async with open_servers(with_kafka=False) as servers, AsyncExitStack() as stack:
        ours, other = await open_ours(servers, stack), await open_other(servers, stack)
        yield Sides(partial(getattr(ours, measure), size.seconds), partial(getattr(other, measure), size.seconds))


F1 = Case(
    "F1", "deliveries/s to 1,000 clients with own ids, 10 tenants: ours / a C loop, one send() each", 0.55, 0.30,
    lambda size: _against(open_limit, "flood", size),
)  # fmt: skip
F2A = Case(
    "F2a", "deliveries/s to 1,000 clients, 10 tenants: ours / stock Strawberry subscriptions on uvicorn", 16.0, 8.0,
    lambda size: _against(open_strawberry, "flood", size),
)  # fmt: skip
F2B = Case(
    "F2b", "deliveries/s to 1,000 clients, 10 tenants: ours / Node, graphql-ws and graphql-js", 4.0, 2.0,
    lambda size: _against(open_node, "flood", size),
)  # fmt: skip
F3 = Case(
    "F3", "p99 age of a frame, 1,000 clients x 20 a second: ours / the C loop", 1.5, 3.0,
    lambda size: _against(open_limit, "paced", size), unit=" us", is_lower_better=True,
)  # fmt: skip
