"""E2: how long after its 202 an event is in a rollup row, and in a live frame, at a tenth of E1's rate."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any
from uuid import UUID

import asyncpg

from bench.load import send_all
from bench.payload import Sender
from bench.reports.paced import PacedLoad
from bench.reports.report import Length, Report, Say, percentile
from bench.reports.site import Site, open_site
from bench.reports.whole_way import EVENTS_A_MINUTE, TENANTS
from cloudmetrics import accounts
from cloudmetrics.stream import Frame, open_stream
from core.events import new_event_id
from core.permissions import Scope
from core.tenancy import KeyKind, Tier

RATE = EVENTS_A_MINUTE / 60 / 10
PROBE_PAUSE_SECONDS = 0.23
LOOK_SECONDS = 0.002
GIVE_UP_SECONDS = 30.0
SETTLE_SECONDS = 6.0
SLUG = "bench-probe"
ROLLED_UP = "SELECT coalesce(sum(count), 0) FROM rollup_1m WHERE tenant_id = $1 AND dimension = ''"
QUESTION = {"metric": "events", "range": {"last": "1h"}, "interval": "MINUTE"}


class Probe:
    """A tenant of its own that sends one event after another, and says when each was seen."""

    def __init__(self, site: Site, tenant_id: UUID, sender: Sender) -> None:
        self._site = site
        self._tenant_id = tenant_id
        self._sender = sender
        self._total = 0
        self._framed = asyncio.Condition()
        self.rollup_seconds: list[float] = []
        self.frame_seconds: list[float] = []

    async def run(self, looking: asyncpg.Connection, seconds: float) -> None:
        end = time.perf_counter() + seconds
        number = 0
        while time.perf_counter() < end:
            number += 1
            body = json.dumps({"events": [{"type": "probe", "id": str(new_event_id(int(time.time() * 1000)))}]})
            (await send_all(self._site.port, [self._sender.request(body.encode())], seconds=5, connections=1)).checked()
            acknowledged = time.perf_counter()
            await asyncio.gather(
                self._until_rolled_up(looking, number, acknowledged), self._until_framed(number, acknowledged)
            )
            await asyncio.sleep(PROBE_PAUSE_SECONDS)

    async def read(self, frames: Any) -> None:
        """Takes frames as a client does: the total of the newest is what it shows."""
        async for frame in frames:
            total = total_of(frame)
            if total is not None:
                async with self._framed:
                    self._total = total
                    self._framed.notify_all()

    async def _until_rolled_up(self, looking: asyncpg.Connection, number: int, since: float) -> None:
        async with asyncio.timeout(GIVE_UP_SECONDS):
            while await looking.fetchval(ROLLED_UP, self._tenant_id) < number:
                await asyncio.sleep(LOOK_SECONDS)
        self.rollup_seconds.append(time.perf_counter() - since)

    async def _until_framed(self, number: int, since: float) -> None:
        async with asyncio.timeout(GIVE_UP_SECONDS), self._framed:
            await self._framed.wait_for(lambda: self._total >= number)
        self.frame_seconds.append(time.perf_counter() - since)


def total_of(frame: Frame) -> int | None:
    """The total that a frame tells; None of a heartbeat or a gap."""
    columns = frame["columns"]
    return sum(int(series["total"] or 0) for series in columns["series"]) if columns else None


async def run(length: Length, say: Say) -> dict[str, Any]:
    async with open_site(TENANTS) as site:
        return await measure(site, length, say)


async def measure(site: Site, length: Length, say: Say) -> dict[str, Any]:
    """Probes a site under load."""
    settings = site.servers.settings
    tenant = await accounts.create_tenant(settings, slug=SLUG, name="", tier=Tier.SELF_HOSTED)
    key = await accounts.create_key(settings, tenant=SLUG, kind=KeyKind.SECRET, name="probe", scopes=frozenset(Scope))
    probe = Probe(site, tenant.id, Sender(key.key_id, key.secret))
    looking = await asyncpg.connect(site.servers.database_url)
    seconds = length.minutes * 60
    load = asyncio.create_task(PacedLoad(site.port, site.senders, RATE).run(seconds + SETTLE_SECONDS))
    await asyncio.sleep(SETTLE_SECONDS / 2)
    async with open_stream(f"http://127.0.0.1:{site.port}", key.secret, QUESTION) as frames:
        reading = asyncio.create_task(probe.read(frames))
        await probe.run(looking, seconds)
        reading.cancel()
    await load
    await looking.close()
    result = {}
    for name, found in (("rollup", probe.rollup_seconds), ("frame", probe.frame_seconds)):
        result[name] = {f"p{share}": percentile(found, share / 100) * 1000 for share in (50, 90, 99)}
        told = ", ".join(f"{share} {value:.0f} ms" for share, value in result[name].items())
        beside = f"{len(found)} events, beside {RATE:,.0f} a second"
        say(f"  202 to {name}: {told}, worst {max(found) * 1000:.0f} ms ({beside})")
    return result


E2 = Report("E2", "from 202 to a rollup row and to a live frame, at a tenth of E1's rate", run)
