"""`POST /graphql/stream`: GraphQL over server-sent events, one operation a connection ("distinct connections mode" of
npm graphql-sse, PROTOCOL.md). A caller or a body that is not accepted is answered in JSON with its status; what is
wrong with the document is told in the stream, as the protocol wants it: `event: next` with a result each, then
`event: complete`. A stream that ends without `complete` is to be opened anew: the server stopped."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import ExitStack, aclosing, suppress
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from core.errors import CloudMetricsError, DatabaseUnavailable, PermissionDenied, TooMany, Unauthenticated
from core.networks import network_of
from web.auth.callers import Caller
from web.auth.look_ups import UNCONFIRMED_SECONDS
from web.crowd import Crowd
from web.errors import request_id_of, retry_headers, status_of
from web.graphql_door import GraphQLDoor
from web.graphql_errors import is_of_document, request_errors
from web.graphql_http import GraphQLHttp
from web.graphql_operation import Operation
from web.graphql_request import EVENT_STREAM, JSON, check_accepts_stream
from web.http_protocol import abort_of, stopping_of
from web.ingest.rest import cors_headers
from web.peer import client_address
from web.sockets import SEND_SECONDS

RECHECK_SECONDS = 10.0
HEADERS = {
    "Content-Type": f"{EVENT_STREAM}; charset=utf-8",
    "Cache-Control": "no-cache, no-transform",
    # nginx would gather frames.
    "X-Accel-Buffering": "no",
}
HEARTBEAT = b":\n\n"
COMPLETE = b"event: complete\ndata:\n\n"

_encoder = msgspec.json.Encoder()


class GraphQLStreams:
    """The endpoint; counts its streams as sockets are counted."""

    def __init__(self, door: GraphQLDoor, http: GraphQLHttp) -> None:
        self._door = door
        self._http = http
        self._crowd = Crowd(what="GraphQL streams", remedy="use one WebSocket for many operations, or close one")

    async def post(self, request: Request) -> Response:
        """Streams one operation's results."""
        request_id = request_id_of(request.scope)
        request.state.headers = cors_headers(request)
        places = ExitStack()
        try:
            check_accepts_stream(request.headers.get("accept", ""))
            places.enter_context(self._crowd.arrived(network_of(client_address(request, self._door.services.settings))))
            caller, operation = await self._http.asked(request, request_id)
            places.enter_context(self._crowd.known(caller.principal.tenant.id))
        except CloudMetricsError as error:
            places.close()
            status = status_of(error)
            if status == 500:
                raise
            body = {"errors": request_errors(error, request_id)}
            if is_of_document(error):
                return Response(_next(body) + COMPLETE, headers=HEADERS)
            headers = {"Content-Type": f"{JSON}; charset=utf-8", **retry_headers(error)}
            return Response(_encoder.encode(body), status, headers)
        except BaseException:
            places.close()
            raise
        return EventStream(self._door, operation, _Credentials(self._door, request, caller), places)

    async def options(self, request: Request) -> Response:
        """The browser's preflight."""
        return await self._http.options(request)

    async def refuse(self, request: Request) -> Response:
        """A GET could be made by any page, with what it asks for in an address."""
        return await self._http.refuse(request)


class _Credentials:
    """What a stream was opened with, looked at again while it lives."""

    def __init__(self, door: GraphQLDoor, request: Request, caller: Caller) -> None:
        self._door = door
        self._authorization = request.headers.get("authorization", "")
        self._address = client_address(request, door.services.settings)
        self._first = caller

    async def ended(self) -> CloudMetricsError:
        """Waits until they are good no more, or for less than before; says which."""
        confirmed_at = time.monotonic()
        while True:
            await asyncio.sleep(RECHECK_SECONDS)
            if self._first.expires_at is not None and self._first.expires_at <= time.time():
                return Unauthenticated("The access token has expired; ask with a new one.", code="token_expired")
            try:
                now = await self._door.identify(self._authorization, self._address)
            except (DatabaseUnavailable, TooMany) as error:
                if time.monotonic() - confirmed_at > UNCONFIRMED_SECONDS:
                    return error
                continue
            except CloudMetricsError as error:
                return error
            confirmed_at = time.monotonic()
            if self._first.has_lost(now):
                return PermissionDenied("You may less than when this stream was opened; ask again.")


class EventStream(Response):
    """The response. Whatever ends it, the operation's generator is closed and the places are given back."""

    def __init__(self, door: GraphQLDoor, operation: Operation, credentials: _Credentials, places: ExitStack) -> None:
        super().__init__(headers=HEADERS)
        # Its length is not known.
        del self.headers["content-length"]
        self._heartbeat_seconds = door.services.settings.heartbeat_seconds
        self._operation = operation
        self._credentials = credentials
        self._places = places

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._places:
            pump = asyncio.create_task(self._pump(scope, send))
            ends = [
                asyncio.create_task(_until_gone(receive)),
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
                await self._finish(scope, send, None if credentials.cancelled() else credentials.result())
            elif (error := pump.exception()) is not None:
                raise error

    async def _pump(self, scope: Scope, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        # At once, so that the other side knows that it is open.
        await _say(scope, send, HEARTBEAT)
        request_id = request_id_of(scope)
        try:
            async with aclosing(self._operation.results()) as results:
                async for data in beating(results, self._heartbeat_seconds):
                    await _say(scope, send, HEARTBEAT if data is None else _next(data))
        except CloudMetricsError as error:
            await _say(scope, send, _next({"errors": request_errors(error, request_id)}))
        await _say(scope, send, COMPLETE, is_last=True)

    async def _finish(self, scope: Scope, send: Send, refusal: CloudMetricsError | None) -> None:
        """The end that did not come from the operation. Without a refusal the server stops, or nobody is there."""
        data = b""
        if refusal is not None:
            data = _next({"errors": request_errors(refusal, request_id_of(scope))}) + COMPLETE
        await _say(scope, send, data, is_last=True)


async def beating(
    results: AsyncGenerator[dict[str, Any], None], seconds: float
) -> AsyncIterator[dict[str, Any] | None]:
    """The results, and None whenever there was none for so long."""
    waiting: asyncio.Task[dict[str, Any]] | None = None
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


def _next(payload: dict[str, Any]) -> bytes:
    """One event; JSON has no line break, so its data is one line."""
    return b"event: next\ndata: " + _encoder.encode(payload) + b"\n\n"


async def _say(scope: Scope, send: Send, data: bytes, *, is_last: bool = False) -> None:
    """Sends, or cuts the connection of a reader that takes nothing."""
    try:
        async with asyncio.timeout(SEND_SECONDS):
            await send({"type": "http.response.body", "body": data, "more_body": not is_last})
    except TimeoutError:
        abort_of(scope)()


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
