"""uvicorn's WebSocket protocol, with what its settings cannot say: a bound on messages for each path, an end in which a
socket that ingests is answered before it is closed, and a handler in place of the application.

What a handler has adopted is read and written by calls: no task waits on it and nothing is queued for it, so that an
idle socket costs its buffers alone and a message to a thousand is a thousand writes. They are made together at the end
of the loop's turn, those of one socket as one.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, Protocol

from starlette.types import Scope
from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.exceptions import InvalidState

from core.events import MAX_BODY_BYTES

INGEST_PATH = "/v1/events/ws"
MAX_MESSAGE_BYTES = 64 * 1024
# How long a peer may take to say that it has read our close; less than a stop may take in all.
CLOSE_SECONDS = 2.0
# Of what an adopted socket's reader has not taken, in the kernel: what is sent is to be new.
SEND_BUFFER_BYTES = 128 * 1024
TRANSPORT = "transport"
OUTBOX = "outbox"

log = logging.getLogger("web")


class SocketHandler(Protocol):
    """Takes over an accepted socket; no call of it waits."""

    def text(self, text: str) -> None:
        """A message has come."""
        ...

    def binary(self) -> None:
        """One of the kind that is not spoken has come."""
        ...

    def blocked(self) -> None:
        """The reader takes less than is written; what is written from now on is kept in memory."""
        ...

    def unblocked(self) -> None:
        """Most of it is taken."""
        ...

    def gone(self) -> None:
        """The socket is closed, or closing; called once."""
        ...


class Outbox:
    """Sockets that have something to send, of one server. One after the other without anything between, so that the
    kernel's work for one send runs into the next: a fifth less of it than with a frame's making in between."""

    def __init__(self) -> None:
        self._waiting: list[SocketProtocol] = []

    def add(self, protocol: SocketProtocol) -> None:
        if not self._waiting:
            protocol.loop.call_soon(self._flush)
        self._waiting.append(protocol)

    def _flush(self) -> None:
        waiting, self._waiting = self._waiting, []
        for protocol in waiting:
            try:
                protocol.flush()
            except Exception:
                # The others have to be sent theirs.
                log.exception("socket cannot be written", extra={"action": "internal_error"})
                protocol.transport.abort()


class SocketProtocol(WebSocketsSansIOProtocol):
    """One socket; the server is given this class."""

    # Of the server; an adopted socket has it.
    _outbox: Outbox

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.close_timeout = CLOSE_SECONDS
        self._is_ingest = False
        self._handler: SocketHandler | None = None
        self._is_adopted = False
        # Whole frames that go at the end of the loop's turn.
        self._unsent: bytes | None = None

    def handle_connect(self, event: Any) -> None:
        self._is_ingest = event.path.partition("?")[0] == INGEST_PATH
        if self._is_ingest:
            self.conn.max_message_size = MAX_BODY_BYTES
        super().handle_connect(event)
        if not self.handshake_complete and not self._is_ingest:
            # Its task has not begun.
            self.scope["state"][TRANSPORT] = self

    def shutdown(self) -> None:
        """SIGTERM. A socket that ingests reads nothing more, answers the frames it has, and closes itself."""
        self.flush()
        if not (self._is_ingest and self.handshake_complete) or self.close_sent:
            super().shutdown()
            self._leave()
            return
        self.stop_keepalive()
        if not self.read_paused:
            self.read_paused = True
            self.transport.pause_reading()
        self.queue.put_nowait({"type": "websocket.disconnect", "code": 1012})

    # Below the application.

    def adopt(self, handler: SocketHandler) -> None:
        """From now on messages go to the handler, those that wait first. The application may return."""
        self._is_adopted, self._handler = True, handler
        self._outbox = self.app_state.setdefault(OUTBOX, Outbox())
        # What only the handshake needed: most of a socket's memory.
        for name in ("scope", "request", "response"):
            self.__dict__.pop(name, None)
        if (connection := self.transport.get_extra_info("socket")) is not None:
            with suppress(OSError):
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        while not self.queue.empty() and self._handler is not None:
            message: Any = self.queue.get_nowait()
            if message["type"] == "websocket.disconnect":
                self._leave()
            elif message.get("text") is not None:
                handler.text(message["text"])
            else:
                handler.binary()
        if self.transport.is_closing():
            self._leave()
        self.hold_reading(False)

    def write(self, data: bytes) -> None:
        """Writes whole frames, with what else is written in this turn of the loop; nothing to one that is closing."""
        if self._unsent is None:
            self._unsent = data
            self._outbox.add(self)
        else:
            self._unsent += data

    def flush(self) -> None:
        """Sends what was written so far."""
        data, self._unsent = self._unsent, None
        if data is not None and not self.close_sent and not self.transport.is_closing():
            self.transport.write(data)

    def end(self, code: int, reason: str) -> None:
        """Closes with a code, and cuts the connection of a peer that does not answer it in time."""
        if self.close_sent or self.transport.is_closing():
            return
        self.flush()
        with suppress(InvalidState):
            self.conn.send_close(code, reason)
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.close_sent = True
        self.stop_keepalive()
        self.hold_reading(False)
        self.close_timer = self.loop.call_later(self.close_timeout, self.transport.abort)
        self._leave()

    def hold_reading(self, is_held: bool) -> None:
        """Whether what comes is left in the kernel, where it holds back its sender."""
        if is_held != self.read_paused and not self.transport.is_closing():
            self.read_paused = is_held
            (self.transport.pause_reading if is_held else self.transport.resume_reading)()

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """A task that the server waits for when it stops."""
        task = self.loop.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return task

    def _leave(self) -> None:
        handler, self._handler = self._handler, None
        if handler is not None:
            handler.gone()
            if self.close_timer is None:
                # Ended by the other side, which may have left what we wrote: that would be waited for without end.
                self.close_timer = self.loop.call_later(self.close_timeout, self.transport.abort)

    async def run_asgi(self) -> None:
        """As the stock one, but a socket that is adopted lives on when the application has returned."""
        try:
            await self.app(self.scope, self.receive, self.send)
        except ClientDisconnected:
            pass
        except BaseException:
            self.logger.exception("Exception in ASGI application\n")
            self.send_500_response()
        else:
            self.send_500_response()
        if not self._is_adopted and self.close_timer is None:
            self.transport.close()

    def send_receive_event_to_app(self) -> None:
        if not self._is_adopted:
            super().send_receive_event_to_app()
            return
        data, self.frames = b"".join(self.frames), []
        if self.close_sent or self._handler is None:
            return
        if self.curr_msg_data_type == "bytes":
            self._handler.binary()
            return
        try:
            text = data.decode()
        except UnicodeDecodeError:
            self.conn.send_close(1007)
            self.handle_parser_exception()
            return
        self._handler.text(text)

    def handle_close(self, event: Any) -> None:
        super().handle_close(event)
        self._leave()

    def handle_parser_exception(self) -> None:
        super().handle_parser_exception()
        self._leave()

    def keepalive_timeout(self) -> None:
        super().keepalive_timeout()
        self._leave()

    def connection_lost(self, exc: Exception | None) -> None:
        self._leave()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._handler is not None:
            self._handler.blocked()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._handler is not None:
            self._handler.unblocked()


def transport_of(scope: Scope) -> SocketProtocol:
    """What a socket's handler is given to. Only our server has it: `python -m web`."""
    found: SocketProtocol = scope["state"][TRANSPORT]
    return found


def text_frame(data: bytes) -> bytes:
    """A whole text message of a server (RFC 6455, 5.2)."""
    return b"".join((frame_head(len(data)), data))


def frame_head(length: int) -> bytes:
    """The head of a text message of so many bytes."""
    if length < 126:
        return bytes((0x81, length))
    if length < 65536:
        return b"\x81\x7e" + length.to_bytes(2, "big")
    return b"\x81\x7f" + length.to_bytes(8, "big")
