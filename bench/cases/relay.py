"""F4: from the 202 that accepted an event to the frame that shows it, at 1,000 clients of one tenant. Ours goes the
whole way: log, enrichment, counting, word of the change, the question asked anew, the frame. Beside it what the last
step alone could be: a number published in Valkey, and the C loop that sends it on."""

from __future__ import annotations

import asyncio
import json
import time
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial

from bench.case import Case, Sample, Sides, Size
from bench.cases.fanout import CLIENTS, MESSAGE_BYTES, start_told
from bench.driving import now_us
from bench.load import send_all
from bench.payload import Sender
from bench.processes import CpuMeter
from bench.readers import Readers, compiled, open_readers
from bench.reports.report import percentile
from bench.reports.site import Site, site_on
from bench.servers import Servers, open_servers, until_listening
from cloudmetrics.embedded.kafka_server import free_port
from core.events import new_event_id
from core.valkey import open_valkey

# Longer than a stream gathers changes, so that each event's frame is its own.
PAUSE_SECONDS = 0.6
DRAIN_SECONDS = 2.0
CHANNEL = "bench"


@dataclass(slots=True)
class WholeWay:
    """The product, one tenant's probe events, and that tenant's readers."""

    site: Site
    readers: Readers
    sender: Sender
    sent: int = 0

    async def measure(self, seconds: float) -> Sample:
        """The p99, over all deliveries, in microseconds."""
        meter = CpuMeter([*self.site.processes, self.readers.running])
        meter.start()
        acknowledged: dict[int, int] = {}
        path = self.site.servers.folder / "frames"
        recording = asyncio.create_task(self.readers.record(seconds + DRAIN_SECONDS, path))
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            body = json.dumps({"events": [{"type": "probe", "id": str(new_event_id(int(time.time() * 1000)))}]})
            request = self.sender.request(body.encode())
            (await send_all(self.site.port, [request], seconds=5, connections=1)).checked()
            self.sent += 1
            acknowledged[self.sent] = time.monotonic_ns()
            await asyncio.sleep(PAUSE_SECONDS)
        _, records = await recording
        ages = ages_of(acknowledged, records)
        spent = {name: used / max(1, len(ages)) * 1e6 for name, used in meter.read().items()}
        return Sample(percentile(ages, 0.99), spent)


def ages_of(acknowledged: dict[int, int], records: list[tuple[int, int]]) -> list[float]:
    """Microseconds from each acknowledgement to each client's first frame with that total or a later one.

    Raises:
        RuntimeError: no frame came.
    """
    taken = defaultdict(list)
    for total, at in records:
        taken[total].append(at)
    ages: list[float] = []
    for number, since in acknowledged.items():
        shown = next((total for total in sorted(taken) if total >= number), None)
        if shown is not None:
            # A later frame of the same total, as of a range that moved on, is of no event.
            ages += [(at - since) / 1000 for at in sorted(taken[shown])[:CLIENTS]]
    if not ages:
        raise RuntimeError(f"no frame came of any event: {sorted(acknowledged)} sent, {sorted(taken)} shown")
    return ages


@dataclass(slots=True)
class Relay:
    """Valkey and the C loop."""

    servers: Servers
    readers: Readers

    async def measure(self, seconds: float) -> Sample:
        """The same from before the number is published."""
        valkey = open_valkey(self.servers.settings.redis_url, seconds=2.0)
        measuring = asyncio.create_task(self.readers.measure(seconds))
        end = time.perf_counter() + seconds
        while time.perf_counter() < end - PAUSE_SECONDS / 2:
            await valkey.publish(CHANNEL, str(now_us()))
            await asyncio.sleep(PAUSE_SECONDS)
        reading = await measuring
        await valkey.aclose()
        return Sample(float(reading.p99_us), {})


async def _open_relay(servers: Servers, stack: AsyncExitStack) -> Relay:
    port = free_port()
    program = str(compiled("limits/fanout.c", servers.folder))
    start_told(servers, "fanout", [program, str(port), str(MESSAGE_BYTES), str(servers.data.valkey_socket)])
    await until_listening(port)
    readers = await open_readers(servers.folder, port, CLIENTS, [])
    stack.callback(readers.running.stop)
    return Relay(servers, readers)


@asynccontextmanager
async def _against_relay(size: Size) -> AsyncIterator[Sides]:
    async with open_servers(with_kafka=False) as servers, site_on(servers, 1) as site, AsyncExitStack() as stack:
        relay = await _open_relay(servers, stack)
        readers = await open_readers(servers.folder, site.port, CLIENTS, [site.senders[0].secret])
        stack.callback(readers.running.stop)
        way = WholeWay(site, readers, site.senders[0])
        await way.measure(PAUSE_SECONDS)
        yield Sides(partial(way.measure, size.seconds), partial(relay.measure, size.seconds))


F4 = Case(
    "F4", "p99 from 202 to the frame at 1,000 clients: ours / Valkey PUBLISH and the C loop", 2.5, 5.0,
    _against_relay, unit=" us", is_lower_better=True,
)  # fmt: skip
