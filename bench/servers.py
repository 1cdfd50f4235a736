"""The servers beside what is measured: PostgreSQL, Valkey and Kafka of a benchmark's own, in a temporary folder."""

from __future__ import annotations

import asyncio
import itertools
import signal
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bench.payload import Sender, write_geo_database
from bench.processes import OTHER_CORE, Running, start
from cloudmetrics import accounts
from cloudmetrics.data_folder import DataFolder
from cloudmetrics.embedded import postgres, valkey
from cloudmetrics.embedded.kafka_server import KafkaFolder, free_port, start_kafka, until_answering
from core.permissions import Scope
from core.settings import Settings
from core.tenancy import KeyKind, Tenant, Tier
from sql.__main__ import migrate

READY_SECONDS = 120.0
# Enough for every request of a round: the bucket is asked, and never empty.
REQUESTS_PER_MINUTE = 100_000_000
# A server's PostgreSQL, as one would set it for this work; the embedded size's own settings are for a laptop.
POSTGRES_OPTIONS = {"shared_buffers": "512MB", "max_wal_size": "8GB", "checkpoint_timeout": "15min"}
_numbers = itertools.count(1)


@dataclass(slots=True)
class Servers:
    """What runs, and the settings that lead to it. `folder` is gone afterwards."""

    folder: Path
    data: DataFolder
    settings: Settings
    beside: list[Running]
    _own: list[Running] = field(default_factory=list)

    @property
    def database_url(self) -> str:
        """As a superuser, for what looks past row security."""
        return self.data.database_url("superuser")

    def start(self, name: str, module: str, *arguments: str, **more: str) -> Running:
        """A process of ours or of a peer with these settings; stopped with the servers at the latest."""
        environ = {**self.settings.to_env(), **more}
        running = start(name, module, *arguments, environ=environ, log=self.folder / f"{name}.log")
        self._own.append(running)
        return running

    def adopt(self, running: Running) -> None:
        """A process that somebody else started, to be stopped with these."""
        self._own.append(running)

    def pin_beside(self) -> None:
        """The servers to the core of the load: again before each round, since PostgreSQL makes new processes."""
        for running in self.beside:
            running.pin({OTHER_CORE})

    async def tenant(self) -> tuple[Tenant, Sender]:
        """A tenant and a signing key of its server."""
        slug = f"bench-{next(_numbers)}"
        tenant = await accounts.create_tenant(self.settings, slug=slug, name="", tier=Tier.SELF_HOSTED)
        key = await accounts.create_key(
            self.settings, tenant=slug, kind=KeyKind.SECRET, name="bench", scopes=frozenset(Scope)
        )
        return tenant, Sender(key.key_id, key.secret)

    def stop(self) -> None:
        for running in reversed(self._own):
            running.stop()
        for running in self.beside:
            running.stop()


@asynccontextmanager
async def open_servers(*, with_kafka: bool = True) -> AsyncIterator[Servers]:
    """Fresh servers, migrated and empty."""
    with tempfile.TemporaryDirectory(prefix="cm-bench-") as path:
        folder = Path(path)
        data = DataFolder.at(folder / "data")
        data.create()
        write_geo_database(folder / "geo.mmdb")
        environ = {
            "CLOUDMETRICS_PORT": str(free_port()),
            "CLOUDMETRICS_GEO_DATABASE": str(folder / "geo.mmdb"),
            "CLOUDMETRICS_REQUESTS_PER_MINUTE": str(REQUESTS_PER_MINUTE),
            "CLOUDMETRICS_LOG_LEVEL": "WARNING",
            "CLOUDMETRICS_LOG_MAX_BYTES": str(8 * 2**30),
        }
        postgres.OPTIONS.update(POSTGRES_OPTIONS)
        servers = Servers(folder, data, data.settings(environ), [])
        try:
            servers.beside.append(Running("postgres", postgres.start_postgres(data), signal.SIGINT))
            servers.beside.append(Running("valkey", valkey.start_valkey(data, servers.settings)))
            if with_kafka:
                kafka = KafkaFolder.at(folder / "kafka")
                servers.beside.append(Running("kafka", start_kafka(kafka)))
                environ["CLOUDMETRICS_KAFKA_BROKERS"] = kafka.brokers
                servers.settings = data.settings(environ)
                await until_answering(kafka.brokers)
            await _prepare(servers)
            yield servers
        finally:
            servers.stop()


async def _prepare(servers: Servers) -> None:
    async with asyncio.timeout(READY_SECONDS):
        while not await valkey.is_answering(servers.settings.redis_url):
            await asyncio.sleep(0.05)
        while not await postgres.is_answering(servers.data):
            await asyncio.sleep(0.05)
    await postgres.bootstrap(servers.data)
    await migrate(servers.data.database_url("owner"))


async def until_listening(port: int) -> None:
    """Waits until a process takes connections."""
    async with asyncio.timeout(READY_SECONDS):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.close()
                return
            except OSError:
                await asyncio.sleep(0.05)
