"""What sockets cost others: memory of an idle subscription, frames beside readers that stop reading, and ingest beside
open dashboards. Ours alone; each pair in turn, the order reversed every round."""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from typing import Any

from bench.cases.fanout import PACED_RATE, Fanout, open_ours
from bench.readers import open_readers, subscribe_payload
from bench.reports.paced import PacedLoad
from bench.reports.report import Length, Report, Say, percentile
from bench.reports.site import Site, open_site
from bench.servers import Servers, open_servers

ROUNDS = 5
IDLE = 1_000
STALLED = 100
# Fills the buffers of whoever does not read.
FLOOD_SECONDS = 3.0
DASHBOARDS = 100
INGEST_RATE = 2_000
SET_DOCUMENT = "subscription($q: [MetricQuery!]!) { seriesSet(queries: $q) { kind seq changes { index columns } } }"
METRICS = ("events", "pageviews", "visitors", "sessions", "requests", "error_rate")
WIDGETS = [
    {"metric": metric, "range": {"last": last}, "interval": "MINUTE"} for metric in METRICS for last in ("1h", "30m")
]

Measure = Callable[[float], Awaitable[float]]


def seconds_of(length: Length) -> float:
    """Of one measurement: there are twenty and more."""
    return max(1.0, min(10.0, length.minutes * 2))


async def run(length: Length, say: Say) -> dict[str, Any]:
    seconds = seconds_of(length)
    async with open_servers(with_kafka=False) as servers, AsyncExitStack() as stack:
        ours = await open_ours(servers, stack)
        idle = await idle_memory(servers, ours, stack, say)
        slow = await beside_stalled(ours, seconds, say)
    async with open_site(1, with_kafka=False) as site:
        ingest = await beside_dashboards(site, seconds, say)
    return {"idle_bytes": idle, "stalled": slow, "dashboards": ingest}


async def idle_memory(servers: Servers, ours: Fanout, stack: AsyncExitStack, say: Say) -> float:
    """Bytes of the server for one more subscription, of which nothing is told. It has a thousand already: what it
    learns only once is learnt."""
    before = ours.server.memory_bytes()
    more = await open_readers(servers.folder, ours.port, IDLE - 100, ours.secrets, block=2)
    stack.callback(more.running.stop)
    await asyncio.sleep(1)
    each = (ours.server.memory_bytes() - before) / (IDLE - 100)
    more.running.stop()
    say(f"  memory of an idle subscription: {each / 1024:.1f} KiB, over {IDLE - 100} (goal 25)")
    return each


async def beside_stalled(ours: Fanout, seconds: float, say: Say) -> dict[str, Any]:
    """p99 of the age of frames at those who read, beside others that have stopped."""

    async def alone(seconds: float) -> float:
        return (await ours.paced(seconds)).rate

    async def beside(seconds: float) -> float:
        stalled = await open_readers(ours.servers.folder, ours.port, 0, ours.secrets, stalled=STALLED, block=3)
        await ours.flood(FLOOD_SECONDS)
        try:
            return (await ours.paced(seconds)).rate
        finally:
            stalled.running.stop()

    what = f"p99 of others at {PACED_RATE} frames a second, beside {STALLED} readers that stopped (goal 1.2)"
    return await _in_turn(alone, beside, seconds, what, say)


async def beside_dashboards(site: Site, seconds: float, say: Say) -> dict[str, Any]:
    """p99 of the 202, beside dashboards of 12 widgets whose numbers the events change."""

    async def alone(seconds: float) -> float:
        load = PacedLoad(site.port, site.senders, INGEST_RATE)
        await load.run(seconds)
        return percentile(load.look().latencies, 0.99) * 1e6

    async def beside(seconds: float) -> float:
        readers = await open_readers(
            site.servers.folder, site.port, DASHBOARDS, [site.senders[0].secret],
            payload=subscribe_payload(SET_DOCUMENT, WIDGETS),
        )  # fmt: skip
        try:
            return await alone(seconds)
        finally:
            readers.running.stop()

    await alone(2.0)
    what = f"p99 of the 202 at {INGEST_RATE} events a second, beside {DASHBOARDS} dashboards of 12 widgets (goal 2)"
    return await _in_turn(alone, beside, seconds, what, say)


async def _in_turn(alone: Measure, beside: Measure, seconds: float, what: str, say: Say) -> dict[str, Any]:
    pairs: list[tuple[float, float]] = []
    for number in range(ROUNDS):
        if number % 2 == 0:
            quiet = await alone(seconds)
            pairs.append((quiet, await beside(seconds)))
        else:
            loud = await beside(seconds)
            pairs.append((await alone(seconds), loud))
    ratios = [loud / quiet for quiet, loud in pairs]
    ms = [statistics.median(side) / 1000 for side in _sides(pairs)]
    found = {"median": statistics.median(ratios), "best": min(ratios), "worst": max(ratios), "ms": ms}
    say(f"  {what}: {ms[0]:.1f} ms alone, {ms[1]:.1f} beside; ratio {found['median']:.2f}, "
        f"best {found['best']:.2f}, worst {found['worst']:.2f}")  # fmt: skip
    return found


def _sides(pairs: Sequence[tuple[float, float]]) -> tuple[list[float], list[float]]:
    return [quiet for quiet, _ in pairs], [loud for _, loud in pairs]


SOCKETS = Report("sockets", "what sockets cost: idle memory, slow readers, dashboards beside ingest", run)
