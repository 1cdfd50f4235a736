"""The real application on the real server in a test's own event loop, so that what it holds open can be looked at."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from unittest.mock import patch

import uvicorn

from core.settings import Settings
from tests.conftest import free_port
from web import app as web_app
from web.__main__ import config_of
from web.services import Services, open_services


@dataclass(frozen=True, slots=True)
class Serving:
    """A running server: its address, and what its process holds."""

    url: str
    port: int
    services: Services
    server: uvicorn.Server

    def readers(self) -> int:
        """How many listen to live streams."""
        return sum(len(stream.readers) for stream in self.services.hub.streams())


@asynccontextmanager
async def serving(settings: Settings) -> AsyncIterator[Serving]:
    """The server, until it is left."""
    opened: list[Services] = []

    @asynccontextmanager
    async def kept(settings: Settings) -> AsyncIterator[Services]:
        async with open_services(settings) as services:
            opened.append(services)
            yield services

    with patch.object(web_app, "open_services", kept):
        config = config_of(web_app.create_app(settings), settings)
        config.host, config.port = "127.0.0.1", free_port()
        server = uvicorn.Server(config)
        task = asyncio.create_task(server._serve())
        while not server.started:
            assert not task.done(), task.result()
            await asyncio.sleep(0.01)
        try:
            yield Serving(f"http://127.0.0.1:{config.port}", config.port, opened[0], server)
        finally:
            server.should_exit = True
            await task


async def until(condition: object, seconds: float = 10.0) -> None:
    """Waits until `condition()` holds."""
    async with asyncio.timeout(seconds):
        while not condition():  # type: ignore[operator]
            await asyncio.sleep(0.02)
