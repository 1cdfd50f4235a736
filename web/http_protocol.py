"""uvicorn's HTTP protocol, with what an answer without end needs: word that the server stops, and a way to cut a
connection whose reader takes nothing. Other servers give neither: the stream then ends with the process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from starlette.types import Scope
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

STOPPING = "stopping"
ABORT = "abort"


class HttpProtocol(HttpToolsProtocol):
    """One connection; the server is given this class."""

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["state"][ABORT] = self.transport.abort

    def shutdown(self) -> None:
        """SIGTERM. An answer that would go on is told to end."""
        if self.cycle is not None and (stopping := self.cycle.scope["state"].get(STOPPING)) is not None:
            stopping.set()
        super().shutdown()


def stopping_of(scope: Scope) -> asyncio.Event:
    """What is set when the server stops."""
    event: asyncio.Event = scope["state"].setdefault(STOPPING, asyncio.Event())
    return event


def abort_of(scope: Scope) -> Callable[[], None]:
    """What cuts the connection at once."""
    abort: Callable[[], None] = scope["state"].get(ABORT, lambda: None)
    return abort
