"""uvicorn's WebSocket protocol, with what its settings cannot say: a bound on messages for each path, and an end in
which a socket that ingests is answered before it is closed."""

from __future__ import annotations

from typing import Any

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from core.events import MAX_BODY_BYTES

INGEST_PATH = "/v1/events/ws"
MAX_MESSAGE_BYTES = 64 * 1024
# How long a peer may take to say that it has read our close; less than a stop may take in all.
CLOSE_SECONDS = 2.0


class SocketProtocol(WebSocketsSansIOProtocol):
    """One socket; the server is given this class."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.close_timeout = CLOSE_SECONDS
        self._is_ingest = False

    def handle_connect(self, event: Any) -> None:
        self._is_ingest = event.path.partition("?")[0] == INGEST_PATH
        if self._is_ingest:
            self.conn.max_message_size = MAX_BODY_BYTES
        super().handle_connect(event)

    def shutdown(self) -> None:
        """SIGTERM. A socket that ingests reads nothing more, answers the frames it has, and closes itself."""
        if not (self._is_ingest and self.handshake_complete) or self.close_sent:
            super().shutdown()
            return
        self.stop_keepalive()
        if not self.read_paused:
            self.read_paused = True
            self.transport.pause_reading()
        self.queue.put_nowait({"type": "websocket.disconnect", "code": 1012})
