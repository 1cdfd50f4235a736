"""One subscription of a socket as a reader of its stream: a frame is written as it is offered, and not kept."""

from __future__ import annotations

from typing import Protocol

import msgspec

from core.errors import CloudMetricsError
from resolvers.live_source import Listening
from web.selections import Selection
from web.socket_protocol import frame_head

_json = msgspec.json.Encoder()


class Socket(Protocol):
    """Whom a reader writes to."""

    @property
    def is_blocked(self) -> bool:
        """Its other side takes less than is written."""
        ...

    def write(self, data: bytes) -> None: ...

    def fail(self, what: str) -> None: ...

    def finish(self, id: str, error: CloudMetricsError | None = None) -> None: ...


class LiveReader:
    """Writes `{"type":"next","id":…,"payload":…}`: the payload is encoded once for all who selected the same of the
    same frame, and only what stands before it is this reader's own."""

    __slots__ = ("_head", "_id", "_is_behind", "_listening", "_selection", "_socket")

    def __init__(self, socket: Socket, id: str) -> None:
        self._socket = socket
        self._id = id
        self._head = b'{"type":"next","id":' + _json.encode(id) + b',"payload":'
        self._selection: Selection | None = None
        self._listening: Listening | None = None
        # It was offered a frame when there was no room.
        self._is_behind = False

    def begin(self, selection: Selection) -> None:
        """What of a frame it wants."""
        self._selection = selection

    def listens(self, listening: Listening) -> None:
        """Its place with the source, or none any more, where it has ended meanwhile."""
        if self._selection is None:
            listening.close()
        else:
            self._listening = listening

    def offer(self, frame: object) -> bool:
        if self._socket.is_blocked:
            self._is_behind = True
            return False
        if self._selection is None:
            return True
        try:
            payload = self._selection.encoded(frame)
        except Exception:
            self._socket.fail("a frame cannot be encoded")
            return True
        head = self._head
        self._socket.write(b"".join((frame_head(len(head) + len(payload)), head, payload)))
        return True

    def end(self, error: Exception | None) -> None:
        selection, self._selection, self._listening = self._selection, None, None
        if selection is None:
            return
        if error is not None:
            payload = selection.encoded_error(error)
            self._socket.write(b"".join((frame_head(len(self._head) + len(payload)), self._head, payload)))
        self._socket.finish(self._id)

    def unblocked(self) -> None:
        """The socket's other side has taken most of what there was."""
        if self._is_behind and self._listening is not None:
            self._is_behind = False
            self._listening.ready()

    def cancel(self) -> None:
        """Nobody wants it any more."""
        listening, self._listening, self._selection = self._listening, None, None
        if listening is not None:
            listening.close()
