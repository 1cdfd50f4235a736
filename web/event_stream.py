"""A response of server-sent events without an end of its own: it ends when its reader goes or takes nothing, when its
credentials do, or when the server stops."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import ExitStack, aclosing, suppress
from typing import TypeVar

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from core.errors import CloudMetricsError
from web.credentials import Credentials
from web.graphql_request import EVENT_STREAM
from web.http_protocol import abort_of, stopping_of, until_gone
from web.sockets import SEND_SECONDS

HEADERS = {
    "Content-Type": f"{EVENT_STREAM}; charset=utf-8",
    "Cache-Control": "no-cache, no-transform",
    # nginx would gather frames.
    "X-Accel-Buffering": "no",
}
HEARTBEAT = b":\n\n"

T = TypeVar("T")


class EventStream(Response):
    """The response. Whatever ends it, its generator is closed and the places are given back. `last_words`: what is
    said when the credentials end."""

    def __init__(
        self,
        events: AsyncGenerator[bytes, None],
        credentials: Credentials,
        places: ExitStack,
        last_words: Callable[[CloudMetricsError], bytes],
    ) -> None:
        super().__init__(headers=HEADERS)
        # Its length is not known.
        del self.headers["content-length"]
        self._events = events
        self._credentials = credentials
        self._places = places
        self._last_words = last_words

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._places:
            pump = asyncio.create_task(self._pump(scope, send))
            ends = [
                asyncio.create_task(until_gone(receive)),
                asyncio.create_task(stopping_of(scope).wait()),
            ]
            credentials = asyncio.create_task(self._credentials.ended())
            tasks = [pump, *ends, credentials]
            try:
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
            if pump.cancelled():
                # Without a refusal the server stops, or nobody is there.
                words = b"" if credentials.cancelled() else self._last_words(credentials.result())
                await _say(scope, send, words, is_last=True)
            elif (error := pump.exception()) is not None:
                raise error

    async def _pump(self, scope: Scope, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        async with aclosing(self._events) as events:
            async for data in events:
                await _say(scope, send, data)
        await _say(scope, send, b"", is_last=True)


async def beating(results: AsyncGenerator[T, None], seconds: float) -> AsyncIterator[T | None]:
    """The results, and None whenever there was none for so long."""
    waiting: asyncio.Task[T] | None = None
    try:
        while True:
            waiting = waiting or asyncio.ensure_future(anext(results))
            done, _ = await asyncio.wait({waiting}, timeout=seconds)
            if not done:
                yield None
                continue
            found, waiting = waiting, None
            try:
                yield found.result()
            except StopAsyncIteration:
                return
    finally:
        if waiting is not None:
            waiting.cancel()
            # Its generator can be closed only once it has stopped.
            with suppress(asyncio.CancelledError, StopAsyncIteration, Exception):
                await waiting


async def _say(scope: Scope, send: Send, data: bytes, *, is_last: bool = False) -> None:
    """Sends, or cuts the connection of a reader that takes nothing."""
    try:
        async with asyncio.timeout(SEND_SECONDS):
            await send({"type": "http.response.body", "body": data, "more_body": not is_last})
    except TimeoutError:
        abort_of(scope)()
