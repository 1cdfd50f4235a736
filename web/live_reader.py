"""One subscription of a socket as a reader of its stream: told by a call that there are frames, it takes and writes
them, and keeps none. One whose socket is not read takes nothing: it is only a place in the stream's log, and gets a
GAP and the whole when it has fallen too far behind."""

from __future__ import annotations

from collections.abc import Coroutine
from contextlib import AsyncExitStack
from typing import Any, Protocol

import msgspec

from core.errors import CloudMetricsError
from resolvers.live_log import Reader
from resolvers.live_source import LiveSource
from web.selections import Selection
from web.socket_protocol import frame_head

_json = msgspec.json.Encoder()


class Socket(Protocol):
    """Whom a reader writes to."""

    # Its other side takes less than is written.
    is_blocked: bool

    def write(self, data: bytes) -> None: ...

    def fail(self, what: str) -> None: ...

    def finish(self, id: str) -> None: ...

    def spawn(self, work: Coroutine[Any, Any, None]) -> object: ...


class LiveReader:
    """Writes `{"type":"next","id":…,"payload":…}`: the payload is encoded once for all who selected the same of the
    same frame, and only what stands before it is this reader's own."""

    __slots__ = ("_head", "_id", "_place", "_reader", "_selection", "_socket")

    def __init__(self, socket: Socket, id: str) -> None:
        self._socket = socket
        self._id = id
        self._head = b'{"type":"next","id":' + _json.encode(id) + b',"payload":'
        self._selection: Selection | None = None
        self._reader: Reader | None = None
        self._place: AsyncExitStack | None = None

    async def listen(self, source: LiveSource, selection: Selection) -> None:
        """Takes its place with a source; what there is already is written at once.

        Raises:
            CloudMetricsError: it cannot be read.
        """
        place = AsyncExitStack()
        reader = await place.enter_async_context(source.reading(self.wake))
        self._place, self._reader, self._selection = place, reader, selection
        self.wake()

    def wake(self) -> None:
        """There may be frames, or room for them."""
        reader, selection, socket = self._reader, self._selection, self._socket
        if reader is None or selection is None or socket.is_blocked:
            return
        try:
            head, write = self._head, socket.write
            for frame in reader.take():
                payload = selection.encoded(frame)
                write(b"".join((frame_head(len(head) + len(payload)), head, payload)))
        except CloudMetricsError as error:
            payload = selection.encoded_error(error)
            socket.write(b"".join((frame_head(len(self._head) + len(payload)), self._head, payload)))
            self.cancel()
            socket.finish(self._id)
        except Exception:
            # Whoever wakes has others to wake.
            socket.fail("a live frame cannot be told")

    def cancel(self) -> None:
        """Nobody wants it any more."""
        place, self._place, self._reader, self._selection = self._place, None, None, None
        if place is not None:
            self._socket.spawn(place.aclose())
