"""A TCP proxy in front of a server, whose network can be spoilt and mended while it runs."""

from __future__ import annotations

import asyncio
import random
import socket
import struct
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar

CHUNK = 64 * 1024
# Closing with a linger of 0 seconds sends RST in place of FIN.
RESETTING = struct.pack("ii", 1, 0)
BROKEN = (OSError, asyncio.IncompleteReadError)

T = TypeVar("T")
# A server's address: its Unix socket, or its TCP port on 127.0.0.1.
Upstream = Path | int


class Mode(StrEnum):
    """`black_hole`: nothing moves, and what was sent arrives when it is over, as TCP has it. `half_open`: servers lose
    their connections and clients are never told. `refuse`: nobody listens."""

    PASS = "pass"
    REFUSE = "refuse"
    RESET = "reset"
    BLACK_HOLE = "black_hole"
    HALF_OPEN = "half_open"


# What of a client's bytes goes on, or None: cut the connection.
Cut = Callable[[bytes], bytes | None]


@dataclass(frozen=True, slots=True)
class Weather:
    """How the network is. `delay` seconds for each piece each way; `reset_share` of pieces break their connection;
    `cut_after` bytes sent by a client cut its connection; `cut_reply`: the server hears what has these bytes in it, its
    reply does not arrive; `edits` sees all that a connection carries, up and down, and may change or cut it."""

    mode: Mode = Mode.PASS
    delay: float = 0.0
    reset_share: float = 0.0
    cut_after: int = 0
    cut_reply: bytes = b""
    edits: Callable[[], tuple[Cut, Cut]] | None = None


FAIR = Weather()


class Link:
    """One connection through the proxy."""

    def __init__(self, client: asyncio.StreamWriter, server: asyncio.StreamWriter, weather: Weather) -> None:
        self.client = client
        self.server = server
        self.is_half_open = False
        self.sent = 0
        self.is_deaf = False
        self.up, self.down = weather.edits() if weather.edits else (_unchanged, _unchanged)

    def reset(self) -> None:
        for writer in (self.client, self.server):
            reset(writer)

    def lose_server(self) -> None:
        self.is_half_open = True
        reset(self.server)


class Proxy:
    """Listens on a port of its own; all but `weather` runs in the loop of `Proxies`."""

    def __init__(self, name: str, upstream: Upstream, loop: asyncio.AbstractEventLoop) -> None:
        self.name = name
        self.upstream = upstream
        self.port = 0
        self.cuts = 0
        self._loop = loop
        self._weather = FAIR
        self._changed = asyncio.Event()
        self._server: asyncio.Server | None = None
        self._links: set[Link] = set()
        self._dice = random.Random(name)

    def weather(self, weather: Weather) -> None:
        """Changes the network, from any thread; done when it returns."""
        asyncio.run_coroutine_threadsafe(self._turn(weather), self._loop).result(10)

    async def listen(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, limit=CHUNK)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        for link in list(self._links):
            link.reset()

    async def _turn(self, weather: Weather) -> None:
        before, self._weather = self._weather, weather
        self._changed.set()
        self._changed = asyncio.Event()
        if weather.mode in (Mode.REFUSE, Mode.RESET) or weather.edits is not before.edits:
            for link in list(self._links):
                link.reset()
        if weather.mode is Mode.HALF_OPEN:
            for link in list(self._links):
                link.lose_server()
        if weather.mode is Mode.REFUSE:
            await self.close()
        elif self._server is None:
            await self.listen()

    async def _serve(self, from_client: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        if self._weather.mode is Mode.RESET:
            reset(client)
            return
        try:
            if isinstance(self.upstream, Path):
                from_server, server = await asyncio.open_unix_connection(self.upstream, limit=CHUNK)
            else:
                from_server, server = await asyncio.open_connection("127.0.0.1", self.upstream, limit=CHUNK)
        except OSError:
            reset(client)
            return
        link = Link(client, server, self._weather)
        self._links.add(link)
        if self._weather.mode is Mode.HALF_OPEN:
            link.lose_server()
        try:
            await asyncio.gather(self._carry_up(link, from_client), self._carry_down(link, from_server))
        finally:
            self._links.discard(link)
            reset(client) if link.is_half_open else client.close()
            server.close()

    async def _carry_up(self, link: Link, reader: asyncio.StreamReader) -> None:
        with suppress(*BROKEN):
            while data := await reader.read(CHUNK):
                await self._travel(link)
                weather = self._weather
                link.sent += len(data)
                if link.is_half_open:
                    continue
                if weather.cut_after and link.sent > weather.cut_after:
                    link.server.write(data[: max(0, len(data) - (link.sent - weather.cut_after))])
                    self._cut(link)
                    return
                if weather.cut_reply and weather.cut_reply in data:
                    link.is_deaf = True
                passed = link.up(data)
                if passed is None:
                    self._cut(link)
                    return
                link.server.write(passed)
                await link.server.drain()
        if not link.is_half_open:
            link.server.close()

    async def _carry_down(self, link: Link, reader: asyncio.StreamReader) -> None:
        with suppress(*BROKEN):
            while data := await reader.read(CHUNK):
                await self._travel(link)
                if link.is_deaf:
                    self._cut(link)
                    return
                passed = link.down(data)
                if passed is None:
                    self._cut(link)
                    return
                link.client.write(passed)
                await link.client.drain()
        if not link.is_half_open:
            link.client.close()

    async def _travel(self, link: Link) -> None:
        """The way of one piece."""
        while self._weather.mode is Mode.BLACK_HOLE:
            await self._changed.wait()
        if self._weather.delay:
            await asyncio.sleep(self._weather.delay)
        if self._weather.reset_share and self._dice.random() < self._weather.reset_share:
            self._cut(link)

    def _cut(self, link: Link) -> None:
        self.cuts += 1
        link.reset()


class Proxies:
    """The loop of all proxies, in a thread of its own."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._all: list[Proxy] = []

    def add(self, name: str, upstream: Upstream) -> Proxy:
        proxy = Proxy(name, upstream, self._loop)
        self._run(proxy.listen())
        self._all.append(proxy)
        return proxy

    def close(self) -> None:
        for proxy in self._all:
            self._run(proxy.close())
        self._run(_end_others())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)


async def _end_others() -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    # Transports close one turn after they were told.
    await asyncio.sleep(0)


def reset(writer: asyncio.StreamWriter) -> None:
    """Breaks a connection at once."""
    found = writer.get_extra_info("socket")
    if found is not None:
        with suppress(OSError):
            found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESETTING)
    writer.transport.abort()


def _unchanged(data: bytes) -> bytes:
    return data
