"""E1: a million events a minute over HTTP with every server beside it on the same cores, and how far counting falls
behind. What cannot be taken in time is left out and said.
"""

from __future__ import annotations

import asyncio
import os
import resource
import time
from typing import Any

from bench.processes import CpuMeter
from bench.reports.paced import Interval, PacedLoad
from bench.reports.report import Length, Report, Say, percentile
from bench.reports.site import Site, open_site

EVENTS_A_MINUTE = 1_000_000
TENANTS = 12
WARM_SECONDS = 5.0
DRAIN_SECONDS = 600.0


async def run(length: Length, say: Say) -> dict[str, Any]:
    async with open_site(TENANTS) as site:
        await PacedLoad(site.port, site.senders, 2_000).run(WARM_SECONDS)
        return await measure(site, length, say)


async def measure(site: Site, length: Length, say: Say) -> dict[str, Any]:
    """Loads a site, and looks at it every so many seconds."""
    say("  minute   accepted/s  counted/s       lag   202 p50   p99 ms  left out  cores used by each process")
    load = PacedLoad(site.port, site.senders, EVENTS_A_MINUTE / 60)
    before = await site.counted()
    started = time.perf_counter()
    sending = asyncio.create_task(load.run(length.minutes * 60))
    steps = range(max(1, round(length.minutes * 60 / length.step_seconds)))
    lines = [await _step(site, load, sending, length.step_seconds, before, started, say) for _ in steps]
    await sending
    sent_seconds = time.perf_counter() - started
    drained = await _drain(site, before + load.accepted)
    memory = {running.name: running.memory_bytes() for running in site.processes}
    rate = load.accepted / sent_seconds
    held = f"{load.accepted:,} events accepted in {sent_seconds:.0f} s: {rate * 60:,.0f} a minute"
    say(f"  {held}; all counted {drained:.1f} s later")
    say("  memory: " + ", ".join(f"{name} {size / 2**20:,.0f} MiB" for name, size in memory.items()))
    return {
        "accepted": load.accepted, "seconds": sent_seconds, "events_a_minute": rate * 60, "drained_seconds": drained,
        "steps": lines, "memory_bytes": memory,
    }  # fmt: skip


async def _step(
    site: Site, load: PacedLoad, sending: asyncio.Task[None], seconds: float, before: int, started: float, say: Say
) -> dict[str, Any]:
    meter = CpuMeter(site.processes)
    meter.start()
    own, at = _own_cpu(), time.perf_counter()
    accepted, counted = load.accepted, await site.counted()
    await asyncio.wait({sending}, timeout=seconds)
    took = time.perf_counter() - at
    found: Interval = load.look()
    now = await site.counted()
    cores = {name: spent / took for name, spent in meter.read().items()} | {"load": (_own_cpu() - own) / took}
    line = {
        "minute": (time.perf_counter() - started) / 60, "accepted_s": (load.accepted - accepted) / took,
        "counted_s": (now - counted) / took, "lag": load.accepted - (now - before),
        "p50_ms": percentile(found.latencies, 0.5) * 1000, "p99_ms": percentile(found.latencies, 0.99) * 1000,
        "left_out": found.skipped * 100, "refused": sum(found.statuses.values()) - found.statuses[202], "cores": cores,
    }  # fmt: skip
    used = ", ".join(f"{name} {share:.2f}" for name, share in cores.items())
    say(
        f"  {line['minute']:6.1f} {line['accepted_s']:12,.0f} {line['counted_s']:10,.0f} {line['lag']:9,}"
        f" {line['p50_ms']:9.0f} {line['p99_ms']:8.0f} {line['left_out']:9,}  {used}"
        + (f"; refused {line['refused']}" if line["refused"] else "")
    )
    return line


async def _drain(site: Site, target: int) -> float:
    started = time.perf_counter()
    async with asyncio.timeout(DRAIN_SECONDS):
        while await site.counted() < target:
            await asyncio.sleep(0.1)
    return time.perf_counter() - started


def _own_cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


E1 = Report(
    "E1",
    f"{EVENTS_A_MINUTE:,} events a minute, the whole way, on {os.cpu_count()} cores with every server beside it",
    run,
)
