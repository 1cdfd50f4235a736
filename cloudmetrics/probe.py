"""A probe event through every hop: accepted, enriched, counted, read back, and received on a live stream.

It belongs to a tenant of its own, so that nobody's numbers move.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from uuid import uuid4

import httpx2

from cloudmetrics import accounts
from cloudmetrics.data_folder import DataFolder
from cloudmetrics.stream import Frame, StreamRefused, open_stream
from core.errors import CloudMetricsError
from core.eventlog import EventLog
from core.log import open_log
from core.permissions import Scope
from core.settings import Settings
from core.tenancy import KeyKind, Tier
from core.topics import GROUPS

TENANT = "cloudmetrics-doctor"
HOP_SECONDS = 15.0
POLL_SECONDS = 0.01
PROBE_SECONDS = 60.0
QUESTION = {"metric": "events", "range": {"last": "5m"}, "interval": "MINUTE"}
READ = "query($s: String!) { tenant { events(first: 1, filter: {sessionId: $s}) { edges { node { id } } } } }"


class HopFailed(CloudMetricsError):
    """A hop did not do its part."""

    default_code = "hop_failed"


@dataclass(frozen=True, slots=True)
class Hop:
    """One hop's outcome. `ms` is the time of the call, or since the probe was accepted; `advice` when it failed."""

    name: str
    is_ok: bool
    ms: float
    detail: str
    advice: str = ""


ADVICE = {
    "web": "the web process does not answer: see logs/web.log in the data folder, then restart with `down` and `up`",
    "database": "PostgreSQL does not answer: see logs/postgres.log; is the disk full?",
    "log": "Valkey (or Kafka, where set) does not answer: see logs/valkey.log, or the broker's log; is a disk full?",
    "accept": "the ingest door refused or did not answer: see logs/web.log",
    "live stream opens": "the GraphQL socket did not open: see logs/web.log",
    "enrich": "the enrich worker does not move: see logs/pipeline.log, and `status` for how far it is behind",
    "aggregate": "the aggregate worker does not move: see logs/pipeline.log, and `status` for how far it is behind",
    "bridge": "the bridge does not move: see logs/pipeline.log, and `status` for how far it is behind",
    "read back": "the event is counted and cannot be read: see logs/web.log and logs/postgres.log",
    "live frame": "the event is counted and no frame came: see logs/web.log and logs/pipeline.log",
}


@dataclass(frozen=True, slots=True)
class Probe:
    """What the hops need."""

    url: str
    key: str
    client: httpx2.AsyncClient
    log: EventLog

    async def run(self) -> AsyncIterator[Hop]:
        """Every hop in order; ends with the first that fails."""
        hops: list[tuple[str, Callable[[], Awaitable[str]]]] = [
            ("web", self._web), ("database", self._part("database")), ("log", self._part("log")),
        ]  # fmt: skip
        for name, check in hops:
            hop = await _timed(name, check, time.perf_counter())
            yield hop
            if not hop.is_ok:
                return
        async for hop in self._event():
            yield hop

    async def _event(self) -> AsyncIterator[Hop]:
        opening = time.perf_counter()
        try:
            async with asyncio.timeout(PROBE_SECONDS), open_stream(self.url, self.key, QUESTION) as frames:
                await _next(frames, "SNAPSHOT")
                yield Hop("live stream opens", True, _ms(opening), "snapshot received")
                async for hop in self._follow(frames):
                    yield hop
        except (TimeoutError, HopFailed, StreamRefused) as error:
            yield Hop("live stream opens", False, _ms(opening), _said(error), ADVICE["live stream opens"])

    async def _follow(self, frames: AsyncIterator[Frame]) -> AsyncIterator[Hop]:
        """The probe from its 202 to its frame."""
        session = f"probe-{uuid4()}"
        hop = await _timed("accept", lambda: self._send(session), time.perf_counter())
        yield hop
        sent, sent_ms = time.perf_counter(), time.time() * 1000
        frame = asyncio.create_task(_timed("live frame", lambda: _next(frames, "DELTA", "REVISION"), sent))
        for name, check in self._workers(sent_ms, session):
            if hop.is_ok:
                hop = await _timed(name, check, sent)
                yield hop
        if hop.is_ok:
            yield await frame
        frame.cancel()

    def _workers(self, sent_ms: float, session: str) -> list[tuple[str, Callable[[], Awaitable[str]]]]:
        return [
            ("enrich", lambda: self._done("enrich", sent_ms)),
            ("aggregate", lambda: self._done("aggregate", sent_ms)),
            ("bridge", lambda: self._done("bridge", sent_ms)),
            ("read back", lambda: self._read_back(session)),
        ]

    async def _web(self) -> str:
        answer = await self.client.get(f"{self.url}/health/live")
        if answer.status_code != 200:
            raise HopFailed(f"answered {answer.status_code}")
        return self.url

    def _part(self, name: str) -> Callable[[], Awaitable[str]]:
        async def check() -> str:
            found = (await self.client.get(f"{self.url}/health/ready")).json()[name]
            if found != "ok":
                raise HopFailed(str(found))
            return "answers"

        return check

    async def _send(self, session: str) -> str:
        event = {"type": "probe", "session_id": session, "context": {"user_agent": ""}}
        answer = await self.client.post(f"{self.url}/v1/events", json={"events": [event]}, headers=self._headers())
        if answer.status_code != 202 or answer.json()["accepted"] != 1:
            raise HopFailed(f"{answer.status_code} {answer.text[:200]}")
        return f"202, request {answer.headers['x-request-id']}"

    async def _done(self, group: str, sent_ms: float) -> str:
        while await self.log.done_until(group, GROUPS[group]) < sent_ms:
            await asyncio.sleep(POLL_SECONDS)
        return "done with everything up to the probe"

    async def _read_back(self, session: str) -> str:
        while True:
            body = {"query": READ, "variables": {"s": session}}
            answer = (await self.client.post(f"{self.url}/graphql", json=body, headers=self._headers())).json()
            if edges := answer["data"]["tenant"]["events"]["edges"]:
                return f"event {edges[0]['node']['id']}"
            await asyncio.sleep(POLL_SECONDS)

    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.key}"}


@asynccontextmanager
async def open_probe(folder: DataFolder, url: str) -> AsyncIterator[Probe]:
    """A probe of a local instance, as its own tenant."""
    settings = folder.running_settings(os.environ)
    log = open_log(settings)
    async with httpx2.AsyncClient(timeout=HOP_SECONDS, trust_env=False) as client:
        try:
            yield Probe(url, await _own_key(folder, settings), client, log)
        finally:
            await log.close()


async def _own_key(folder: DataFolder, settings: Settings) -> str:
    known = folder.read("doctor")
    if not known:
        await accounts.create_tenant(settings, slug=TENANT, name="Doctor's probes", tier=Tier.SELF_HOSTED)
        made = await accounts.create_key(
            settings, tenant=TENANT, kind=KeyKind.SECRET, name="probe", scopes=frozenset(Scope), is_unsigned=True
        )
        known = {"key": made.secret}
        folder.write("doctor", known)
    return str(known["key"])


async def _timed(name: str, check: Callable[[], Awaitable[str]], since: float) -> Hop:
    try:
        async with asyncio.timeout(HOP_SECONDS):
            detail = await check()
    except (CloudMetricsError, httpx2.HTTPError, TimeoutError) as error:
        return Hop(name, False, _ms(since), _said(error), ADVICE[name])
    return Hop(name, True, _ms(since), detail)


async def _next(frames: AsyncIterator[Frame], *kinds: str) -> str:
    async for frame in frames:
        if frame["kind"] in kinds:
            return f"{frame['kind']} received"
    raise HopFailed("the stream ended")


def _ms(since: float) -> float:
    return round((time.perf_counter() - since) * 1000, 1)


def _said(error: BaseException) -> str:
    if isinstance(error, CloudMetricsError):
        return error.message
    return f"no answer within {HOP_SECONDS:.0f} s" if isinstance(error, TimeoutError) else f"{error!r}"[:200]
