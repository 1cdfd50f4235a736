"""`POST /graphql`: one operation a request, JSON only."""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from core.errors import CloudMetricsError, InvalidRequest
from web.auth.callers import Caller
from web.auth.strangers import refuse_stranger
from web.errors import request_id_of, retry_headers, status_of
from web.graphql_door import GraphQLDoor, refuse_when_empty
from web.graphql_errors import is_of_document, request_errors
from web.graphql_operation import Operation, prepare
from web.graphql_request import (
    JSON,
    MAX_BODY_BYTES,
    check_content_type,
    decode_json,
    negotiated,
    request_of,
)
from web.http_protocol import unless_gone
from web.ingest.body import read_body
from web.ingest.rest import cors_headers
from web.peer import client_address

_encoder = msgspec.json.Encoder()
# What nobody reads: the other side has closed (a number of nginx).
GONE = 499


class GraphQLHttp:
    """The endpoint."""

    def __init__(self, door: GraphQLDoor) -> None:
        self._door = door

    async def post(self, request: Request) -> Response:
        """Executes one query or mutation."""
        request_id = request_id_of(request.scope)
        request.state.headers = cors_headers(request)
        media = JSON
        try:
            media = negotiated(request.headers.get("accept", ""))
            result = await self._execute(request, request_id)
            return Response(status_code=GONE) if result is None else self._answer(result, 200, media)
        except CloudMetricsError as error:
            status = status_of(error)
            if status == 500:
                raise
            if media == JSON and is_of_document(error):
                status = 200
            answer = self._answer({"errors": request_errors(error, request_id)}, status, media)
            answer.headers.update(retry_headers(error))
            return answer

    async def refuse(self, request: Request) -> Response:
        """Queries come by POST: a GET could be made by any page, and lands in logs."""
        body = request_errors(
            InvalidRequest("Send operations by POST with a JSON body.", code="METHOD_NOT_ALLOWED"),
            request_id_of(request.scope),
        )
        return Response(_encoder.encode({"errors": body}), 405, {"Allow": "POST"}, JSON)

    async def options(self, request: Request) -> Response:
        """The browser's preflight."""
        request.state.headers = cors_headers(request)
        return Response(status_code=204)

    async def asked(self, request: Request, request_id: str) -> tuple[Caller, Operation]:
        """Who asks, and the operation of a request's body.

        Raises:
            CloudMetricsError: refused, for whatever reason.
        """
        caller = await self._identify(request)
        allowance = await self._door.take(caller)
        request.state.headers |= allowance.headers()
        refuse_when_empty(allowance)
        check_content_type(request.headers.get("content-type", ""))
        asked = request_of(decode_json(await read_body(request, MAX_BODY_BYTES)))
        return caller, await prepare(self._door, caller, asked, allowance, request_id)

    async def _execute(self, request: Request, request_id: str) -> dict[str, Any] | None:
        """The answer; None where nobody waits for it any more."""
        _, operation = await self.asked(request, request_id)
        if operation.is_subscription:
            raise InvalidRequest(
                "Subscriptions come by WebSocket (graphql-transport-ws on /graphql) or by POST /graphql/stream.",
                code="BAD_REQUEST",
            )
        return (
            await unless_gone(request.receive, operation.result()) if operation.is_query else await operation.result()
        )

    async def _identify(self, request: Request) -> Caller:
        services = self._door.services
        address = client_address(request, services.settings)
        try:
            return await self._door.identify(request.headers.get("authorization", ""), address)
        except CloudMetricsError as refusal:
            allowance, answer = await refuse_stranger(services.limiter, address, refusal)
            request.state.headers |= allowance.headers()
            raise answer from None

    @staticmethod
    def _answer(body: dict[str, Any], status: int, media: str) -> Response:
        return Response(_encoder.encode(body), status, {"Content-Type": f"{media}; charset=utf-8"})
