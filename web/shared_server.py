"""uvicorn's server on a socket that several processes accept from, so that each gets its part of the connections.

An event loop's own way is to accept all that wait at once: of fifty connections that come together, one process gets
thirty and another three, for as long as they stay open. Here a process takes one at a time, and lets one that has
fewer go first for a moment.
"""

from __future__ import annotations

import asyncio
import logging
import mmap
import socket
import struct

import uvicorn

log = logging.getLogger("web")

# How long a connection is left to a process with fewer; one that is busy or frozen does not take it.
STAND_BACK_SECONDS = 0.005
# Out of descriptors, say; what waits is still there afterwards.
REFUSED_SECONDS = 1.0
_COUNT = struct.Struct("=i")
_AWAY = 2**31 - 1


class ConnectionCounts:
    """How many connections each of the processes has, in memory that they share; made before they are."""

    def __init__(self, processes: int) -> None:
        self._memory = mmap.mmap(-1, processes * _COUNT.size)
        self._processes = processes
        for place in range(processes):
            self.leave(place)

    def set(self, place: int, connections: int) -> None:
        _COUNT.pack_into(self._memory, place * _COUNT.size, connections)

    def leave(self, place: int) -> None:
        """It accepts nothing, and nobody waits for it."""
        self.set(place, _AWAY)

    def fewest(self) -> int:
        return int(min(_COUNT.unpack_from(self._memory, place * _COUNT.size)[0] for place in range(self._processes)))


class SharedServer(uvicorn.Server):
    """The server of the process at one place among those that share a socket."""

    def __init__(self, config: uvicorn.Config, counts: ConnectionCounts, place: int) -> None:
        super().__init__(config)
        self._counts = counts
        self._place = place
        self._listener: socket.socket | None = None
        self._opening: set[asyncio.Task[object]] = set()
        self._later: asyncio.TimerHandle | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=[])
        for listener in sockets or []:
            listener.setblocking(False)
            self._listener = listener
            self._resume()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._counts.leave(self._place)
        self._pause()
        if self._later is not None:
            self._later.cancel()
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        await super().shutdown(sockets=[])

    async def on_tick(self, counter: int) -> bool:
        if self._listener is not None:
            self._tell()
        return await super().on_tick(counter)

    def _tell(self) -> int:
        """This process's connections, told to the others."""
        number = len(self.server_state.connections) + len(self._opening)
        self._counts.set(self._place, number)
        return number

    def _resume(self) -> None:
        if self._listener is not None:
            self._later = None
            self._tell()
            asyncio.get_running_loop().add_reader(self._listener, self._on_waiting)

    def _pause(self) -> None:
        if self._listener is not None:
            asyncio.get_running_loop().remove_reader(self._listener)

    def _on_waiting(self) -> None:
        if self._tell() <= self._counts.fewest():
            self._accept()
        else:
            self._pause()
            self._later = asyncio.get_running_loop().call_later(STAND_BACK_SECONDS, self._after_standing_back)

    def _after_standing_back(self) -> None:
        self._resume()
        self._accept()

    def _accept(self) -> None:
        """One connection, if it still waits."""
        if self._listener is None:
            return
        loop = asyncio.get_running_loop()
        try:
            connection, _ = self._listener.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return
        except OSError as error:
            log.warning("cannot accept", extra={"action": "fail", "error": error.strerror})
            self._pause()
            self._later = loop.call_later(REFUSED_SECONDS, self._resume)
            return
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        opening = loop.create_task(loop.connect_accepted_socket(self._protocol, connection))
        self._opening.add(opening)
        opening.add_done_callback(self._opening.discard)
        self._tell()

    def _protocol(self) -> asyncio.Protocol:
        config = self.config
        return config.http_protocol_class(  # type: ignore[call-arg]
            config=config,
            server_state=self.server_state,
            app_state=self.lifespan.state,
            _loop=asyncio.get_running_loop(),
        )
