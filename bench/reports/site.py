"""The whole product under a report: every server, web and workers on all cores, tenants with keys."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import asyncpg

from bench.cases.pipeline import COUNTED
from bench.payload import Sender
from bench.processes import Running
from bench.servers import Servers, open_servers, until_listening
from core.tenancy import Tenant


@dataclass(slots=True)
class Site:
    """What runs; `looking` is a superuser's connection for what is looked at from outside."""

    servers: Servers
    port: int
    tenants: list[Tenant]
    senders: list[Sender]
    web: Running
    pipeline: Running
    looking: asyncpg.Connection

    @property
    def processes(self) -> list[Running]:
        return [self.web, self.pipeline, *self.servers.beside]

    async def counted(self) -> int:
        """New events of all tenants that are in the tables."""
        return int(await self.looking.fetchval(COUNTED, [tenant.id for tenant in self.tenants]))


@asynccontextmanager
async def open_site(tenants: int, *, with_kafka: bool = True) -> AsyncIterator[Site]:
    """The product on servers of its own; nothing is pinned."""
    async with open_servers(with_kafka=with_kafka) as servers, site_on(servers, tenants) as site:
        yield site


@asynccontextmanager
async def site_on(servers: Servers, tenants: int) -> AsyncIterator[Site]:
    """The product on these servers."""
    known = [await servers.tenant() for _ in range(tenants)]
    looking = await asyncpg.connect(servers.database_url)
    port = servers.settings.port
    web, pipeline = servers.start("web", "web"), servers.start("pipeline", "pipeline", "all")
    try:
        await until_listening(port)
        yield Site(servers, port, [t for t, _ in known], [s for _, s in known], web, pipeline, looking)
    finally:
        web.stop()
        pipeline.stop()
        await looking.close()
