"""uvicorn's HTTP protocol, with what its settings cannot say: how much of a head it keeps; and for an answer without
end, word that the server stops, and a way to cut a connection whose reader takes nothing.

The parser keeps what is not whole yet, a header of 500 MB too. Counted is what arrives without any progress: without
the end of a head, a piece of a body, or the end of a message; so trailers and chunk extensions are counted as well.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from starlette.types import Receive, Scope
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_HEAD_BYTES = 64 * 1024
T = TypeVar("T")

STOPPING = "stopping"
ABORT = "abort"
_TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-type: application/json\r\nconnection: close\r\n"
_BODY = b'{"error":{"code":"head_too_large","message":"The request line and headers have more than 65536 bytes."}}'


class HttpProtocol(HttpToolsProtocol):
    """One connection; the server is given this class."""

    _has_progressed = False
    _kept_bytes = 0

    def data_received(self, data: bytes) -> None:
        self._has_progressed = False
        super().data_received(data)
        self._kept_bytes = 0 if self._has_progressed else self._kept_bytes + len(data)
        if self._kept_bytes > MAX_HEAD_BYTES and not self.transport.is_closing():
            length = b"content-length: " + str(len(_BODY)).encode() + b"\r\n\r\n"
            self.transport.write(_TOO_LARGE + length + _BODY)
            self.transport.close()

    def on_headers_complete(self) -> None:
        self._has_progressed = True
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._has_progressed = True
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._has_progressed = True
        super().on_message_complete()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["state"][ABORT] = self.transport.abort

    def shutdown(self) -> None:
        """SIGTERM. An answer that would go on is told to end."""
        if self.cycle is not None and (stopping := self.cycle.scope["state"].get(STOPPING)) is not None:
            stopping.set()
        super().shutdown()


def stopping_of(scope: Scope) -> asyncio.Event:
    """What is set when the server stops; never by another server than ours."""
    event: asyncio.Event = scope["state"].setdefault(STOPPING, asyncio.Event())
    return event


def abort_of(scope: Scope) -> Callable[[], None]:
    """What cuts the connection at once; nothing with another server than ours."""
    abort: Callable[[], None] = scope["state"].get(ABORT, lambda: None)
    return abort


async def until_gone(receive: Receive) -> None:
    """Until the other side has closed."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def unless_gone(receive: Receive, work: Coroutine[Any, Any, T]) -> T | None:
    """What is awaited, after the whole body was read. When the other side closes before, it is cancelled, what it asked
    of servers with it, and there is nothing."""
    working = asyncio.current_task()
    assert working is not None
    is_gone = False

    def give_up(watch: asyncio.Task[None]) -> None:
        nonlocal is_gone
        if not watch.cancelled() and watch.exception() is None:
            is_gone = True
            working.cancel()

    watch = asyncio.create_task(until_gone(receive))
    watch.add_done_callback(give_up)
    try:
        return await work
    except asyncio.CancelledError:
        if not is_gone or working.uncancel():
            raise
        return None
    finally:
        watch.remove_done_callback(give_up)
        watch.cancel()
