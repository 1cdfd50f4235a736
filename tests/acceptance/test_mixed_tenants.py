"""Ten thousand interleaved requests of fifty tenants, many of them wrong, given up or timed out: nobody is told
anything of another, and what is shared between them is left clean."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import pytest

from core import accounts
from core.database import Database, as_owner
from core.eventlog import Offset, Partition
from core.settings import Settings
from core.tenancy import Tenant, Tier
from pipeline.prepared import prepare
from pipeline.store import Store
from tests.conftest import make_key
from tests.pipeline.builders import batch_of, enriched
from tests.web.serving import Serving, serving, until
from web import graphql_operation

pytestmark = pytest.mark.slow
TENANTS = 50
REQUESTS = 10_000
SENDERS = 40
SEED = 20260131

EVENTS = "{ tenant { slug events(first: 5) { edges { node { type userId } } } } viewer { tenant { slug } } }"
SERIES = '{ series(query: {metric: "events", range: {last: "1d"}, groupBy: ["type"]}) { columns } tenant { slug } }'
NODES = "query($ids: [ID!]!) { nodes(ids: $ids) { id ... on Event { type } } tenant { slug } }"
BROKEN = ["{", "{ nope }", '{ tenant { events(after: "x") { edges { cursor } } } }', "{ " + "a{" * 12 + "b" + "}" * 13]


@dataclass(frozen=True, slots=True)
class One:
    """A tenant, its key, and the one type of event that only it has."""

    tenant: Tenant
    secret: str
    mark: str
    ids: list[str]


@pytest.fixture
async def tenants(settings: Settings, database: Database) -> list[One]:
    found = []
    for n in range(TENANTS):
        tenant = await accounts.create_tenant(database, slug=f"mixed-{n}", name=f"Mixed {n}", tier=Tier.SELF_HOSTED)
        _, secret = await make_key(database, settings, tenant)
        mark = f"mark-of-{n:02}-only"
        batch = batch_of(tenant.id, *(enriched(type=mark, user_id=f"user-{n}-{m}") for m in range(5)))
        store = Store(database, f"mixed-{n}")
        await store.ensure_partitions([batch])
        await store.transact(Partition("m"), await prepare([batch]), Offset("1-0"), lambda _: (Offset("2-0"), b""))
        found.append(One(tenant, secret, mark, []))
    return found


@pytest.fixture
async def web(settings: Settings) -> AsyncIterator[Serving]:
    async with serving(settings) as running:
        yield running


class Sender:
    """One connection at a time, by hand, so that it can be given up at any moment."""

    def __init__(self, web: Serving, tenants: list[One], pick: random.Random, counts: Counter[str]) -> None:
        self._web, self._tenants, self._pick, self._counts = web, tenants, pick, counts
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def one(self) -> None:
        """A request of somebody's, of some kind."""
        who, other = self._pick.sample(self._tenants, 2)
        kind = self._pick.choices(["events", "series", "nodes", "foreign", "broken", "given up"], [4, 3, 2, 2, 2, 2])[0]
        if kind == "given up":
            await self._give_up(who)
        elif kind == "broken":
            answer = await self._ask(who, self._pick.choice(BROKEN))
            assert answer["errors"]
        elif kind == "foreign" and other.ids:
            answer = await self._ask(who, NODES, ids=other.ids)
            assert self._is_put_off(answer) or answer["data"]["nodes"] == [None] * len(other.ids), answer
        elif kind == "nodes" and who.ids:
            answer = await self._ask(who, NODES, ids=who.ids)
            self._check(who, answer)
        else:
            answer = await self._ask(who, SERIES if kind == "series" else EVENTS)
            self._check(who, answer)
        self._counts[kind] += 1

    def _check(self, who: One, answer: dict[str, Any]) -> None:
        """Everything in an answer is of the one who asked."""
        if self._is_put_off(answer):
            return
        assert "errors" not in answer, answer
        text = json.dumps(answer)
        assert answer["data"]["tenant"]["slug"] == who.tenant.slug
        assert text.count("mark-of-") == text.count(who.mark) >= 1
        self._counts["checked"] += 1

    def _is_put_off(self, answer: dict[str, Any]) -> bool:
        """Whether there was no time or no place for it."""
        code = answer["errors"][0]["extensions"]["code"] if answer.get("errors") else ""
        is_put_off = code in ("TIMEOUT", "RATE_LIMITED", "DATABASE_UNAVAILABLE")
        self._counts[code] += is_put_off
        return is_put_off

    async def _ask(self, who: One, query: str, **variables: Any) -> dict[str, Any]:
        await self._send(who, query, variables)
        reader = self._reader
        assert reader is not None
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
        status = int(head.split()[1])
        assert status < 500 or b"retry-after" in head, head
        answer: dict[str, Any] = json.loads(await reader.readexactly(length))
        return answer

    async def _give_up(self, who: One) -> None:
        """Sends, waits less than the answer takes, and cuts the connection."""
        await self._send(who, self._pick.choice([SERIES, EVENTS]), {})
        await asyncio.sleep(self._pick.choice([0, 0.001, 0.005, 0.02]))
        self.close()

    async def _send(self, who: One, query: str, variables: dict[str, Any]) -> None:
        if self._writer is None:
            self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._web.port)
        body = json.dumps({"query": query, "variables": variables}).encode()
        head = (
            f"POST /graphql HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {who.secret}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        self._writer.write(head.encode() + body)
        await self._writer.drain()

    def close(self) -> None:
        if self._writer is not None:
            self._writer.transport.abort()
        self._reader = self._writer = None


async def learn_ids(web: Serving, tenants: list[One]) -> None:
    """Ids of each tenant's events, for others to ask for."""
    sender = Sender(web, tenants, random.Random(0), Counter())
    query = "{ tenant { events(first: 3) { edges { node { id } } } } }"
    for one in tenants:
        answer = await sender._ask(one, query)
        assert "data" in answer and "errors" not in answer, answer
        one.ids.extend(edge["node"]["id"] for edge in answer["data"]["tenant"]["events"]["edges"])
        assert len(one.ids) == 3
    sender.close()


async def time_out_some(settings: Settings) -> None:
    """Keeps the events locked for longer than a query may take, while everybody asks for them."""
    await asyncio.sleep(1)
    async with as_owner(settings.owner_url) as owner:
        async with owner.transaction():
            await owner.execute("LOCK TABLE events IN ACCESS EXCLUSIVE MODE")
            await asyncio.sleep(3)


async def test_nothing_leaks_between_tenants_and_the_pool_stays_clean(
    web: Serving, tenants: list[One], settings: Settings
) -> None:
    await learn_ids(web, tenants)
    # At each acquire, before a transaction sets it: the tenant that a connection still has from the one before.
    pool = await web.services.database._pool("app")
    stale: list[str] = []

    async def look(connection: Any) -> None:
        found = await connection.fetchval("SELECT current_setting('app.current_tenant', true)")
        if found:
            stale.append(found)

    pool._setup = look
    counts, left = Counter[str](), REQUESTS

    async def run(number: int) -> None:
        nonlocal left
        sender = Sender(web, tenants, random.Random(SEED + number), counts)
        while left > 0:
            left -= 1
            await sender.one()
        sender.close()

    with patch.object(graphql_operation, "EXECUTE_SECONDS", 2.0):
        await asyncio.gather(time_out_some(settings), *(run(n) for n in range(SENDERS)))
    assert stale == []
    assert counts["TIMEOUT"] > 0 and counts["checked"] > REQUESTS / 4 and counts["given up"] > REQUESTS / 20
    await until(lambda: pool.get_idle_size() == pool.get_size(), 15)
    for _ in range(pool.get_size() * 3):
        async with pool.acquire(timeout=2) as connection:
            assert not connection.is_in_transaction()
            assert not await connection.fetchval("SELECT current_setting('app.current_tenant', true)")
    with suppress(AttributeError):
        print(dict(counts))
