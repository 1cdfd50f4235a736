"""`POST /graphql/stream`: GraphQL over server-sent events, one operation a connection ("distinct connections mode" of
npm graphql-sse, PROTOCOL.md). A caller or a body that is not accepted is answered in JSON with its status; what is
wrong with the document is told in the stream, as the protocol wants it: `event: next` with a result each, then
`event: complete`. A stream that ends without `complete` is to be opened anew: the server stopped."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import ExitStack, aclosing
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from core.errors import CloudMetricsError
from core.networks import network_of
from web.credentials import Credentials
from web.crowd import Crowd
from web.errors import request_id_of, retry_headers, status_of
from web.event_stream import HEADERS, HEARTBEAT, EventStream, beating
from web.graphql_door import GraphQLDoor
from web.graphql_errors import is_of_document, request_errors
from web.graphql_http import GraphQLHttp
from web.graphql_operation import Operation
from web.graphql_request import JSON, check_accepts_stream
from web.ingest.rest import cors_headers
from web.peer import client_address

COMPLETE = b"event: complete\ndata:\n\n"

_encoder = msgspec.json.Encoder()


class GraphQLStreams:
    """The endpoint; counts its streams as sockets are counted."""

    def __init__(self, door: GraphQLDoor, http: GraphQLHttp) -> None:
        self._door = door
        self._http = http
        self._crowd = Crowd(what="GraphQL streams", remedy="use one WebSocket for many operations, or close one")

    def routes(self, path: str) -> list[BaseRoute]:
        """What answers at its path."""
        return [
            Route(path, self.post, methods=["POST"]),
            Route(path, self.options, methods=["OPTIONS"]),
            Route(path, self.refuse, methods=["GET", "PUT", "DELETE", "PATCH"]),
        ]

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
        address = client_address(request, self._door.services.settings)
        credentials = Credentials(self._door, request.headers.get("authorization", ""), address, caller)
        events = self._events(operation, request_id)
        return EventStream(events, credentials, places, lambda error: _refusal(error, request_id) + COMPLETE)

    async def _events(self, operation: Operation, request_id: str) -> AsyncGenerator[bytes, None]:
        # At once, so that the other side knows that it is open.
        yield HEARTBEAT
        try:
            async with aclosing(operation.results()) as results:
                async for data in beating(results, self._door.services.settings.heartbeat_seconds):
                    yield HEARTBEAT if data is None else _next(data)
        except CloudMetricsError as error:
            yield _refusal(error, request_id)
        yield COMPLETE

    async def options(self, request: Request) -> Response:
        """The browser's preflight."""
        return await self._http.options(request)

    async def refuse(self, request: Request) -> Response:
        """A GET could be made by any page, with what it asks for in an address."""
        return await self._http.refuse(request)


def _next(payload: dict[str, Any]) -> bytes:
    """One event; JSON has no line break, so its data is one line."""
    return b"event: next\ndata: " + _encoder.encode(payload) + b"\n\n"


def _refusal(error: CloudMetricsError, request_id: str) -> bytes:
    return _next({"errors": request_errors(error, request_id)})
