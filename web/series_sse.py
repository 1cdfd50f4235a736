"""`GET /api/stream/series?question=ID` (up to 20 times): saved questions as server-sent events; the initial state, then
what changed at most every 5 s. `id:` is a frame's cursor, which comes back as `Last-Event-ID` (or `?last_event_id=`);
one that is too old or none begins with a GAP and the whole. Frames are unnamed events; `refused` and `going_away` are
the last of a stream that ends.

Who asks says so by `Authorization`. A browser's `EventSource` can set no header: `POST /api/stream/tickets` with one
gives a ticket for `?ticket=`, good once and for half a minute. A credential itself in an address is refused."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import ExitStack, aclosing
from typing import Any
from weakref import WeakKeyDictionary

import msgspec
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from core.errors import CloudMetricsError, InvalidRequest, LiveUnavailable
from core.networks import network_of
from core.tickets import LIFE_SECONDS, Tickets
from query.frames import Change, Frame
from resolvers.context import Context
from resolvers.live_log import GoingAway
from resolvers.saved_streams import saved_frames, saved_key
from web.auth.callers import Caller
from web.auth.strangers import refuse_stranger
from web.credentials import Credentials
from web.crowd import Crowd
from web.errors import error_body, request_id_of
from web.event_stream import EventStream
from web.graphql_door import GraphQLDoor, refuse_when_empty
from web.ingest.rest import cors_headers
from web.peer import client_address

STREAM = "/api/stream/series"
TICKETS = "/api/stream/tickets"
RETRY_MILLISECONDS = 2000
# What a question costs a share link, as the field of `Subscription` does.
COST_OF_QUESTION = 10
SECRETS = ("cm_sk_", "cm_pk_", "cm_sl_", "eyJ")

_encoder = msgspec.json.Encoder()


class SeriesStreams:
    """Both endpoints; counts its streams as sockets are counted."""

    def __init__(self, door: GraphQLDoor, tickets: Tickets) -> None:
        self._door = door
        self._tickets = tickets
        self._crowd = Crowd(what="streams of series", remedy="ask several questions on one, or close one")
        self._encoded: WeakKeyDictionary[Frame, bytes] = WeakKeyDictionary()

    def routes(self) -> list[BaseRoute]:
        """Where they are."""
        return [
            Route(STREAM, self.get, methods=["GET"]),
            Route(TICKETS, self.ticket, methods=["POST"]),
            *(Route(path, self.options, methods=["OPTIONS"]) for path in (STREAM, TICKETS)),
        ]

    async def get(self, request: Request) -> Response:
        """Opens a stream. Raises CloudMetricsError: refused, for whatever reason."""
        request.state.headers = cors_headers(request)
        request_id = request_id_of(request.scope)
        address = client_address(request, self._door.services.settings)
        with ExitStack() as opening:
            places = opening.enter_context(ExitStack())
            places.enter_context(self._crowd.arrived(network_of(address)))
            authorization = await self._authorization(request, address)
            caller, context = await self._asker(request, authorization, address)
            places.enter_context(self._crowd.known(caller.principal.tenant.id))
            ids = request.query_params.getlist("question")
            await self._door.spend(caller, COST_OF_QUESTION * max(1, len(ids)))
            # What is wrong with the questions is answered with its status, before anything is streamed.
            await saved_key(context, ids)
            resume_from = request.headers.get("last-event-id") or request.query_params.get("last_event_id") or None
            credentials = Credentials(self._door, authorization, address, caller)
            events = self._events(context, ids, resume_from, request_id)
            answer = EventStream(events, credentials, places.pop_all(), lambda error: _refusal(error, request_id))
        return answer

    async def ticket(self, request: Request) -> Response:
        """A ticket for who sends its `Authorization`. Raises CloudMetricsError."""
        request.state.headers = cors_headers(request)
        authorization = request.headers.get("authorization", "")
        await self._asker(request, authorization, client_address(request, self._door.services.settings))
        ticket = await self._tickets.make(authorization)
        return JSONResponse({"ticket": ticket, "expires_in": LIFE_SECONDS}, headers={"Cache-Control": "no-store"})

    async def options(self, request: Request) -> Response:
        """The browser's preflight."""
        headers = cors_headers(request)
        if headers:
            headers["Access-Control-Allow-Methods"] = "GET, POST, OPTIONS"
            headers["Access-Control-Allow-Headers"] += ", last-event-id"
        request.state.headers = headers
        return Response(status_code=204)

    async def _authorization(self, request: Request, address: str) -> str:
        if any(value.startswith(SECRETS) for value in request.query_params.values()):
            raise InvalidRequest(
                "A key or token in an address ends up in logs: send it as Authorization, or get a ticket by POST "
                f"{TICKETS}. Whoever saw this address may have it: replace it.",
                code="credentials_in_url",
            )
        ticket = request.query_params.get("ticket")
        if ticket is None:
            return request.headers.get("authorization", "")
        try:
            return await self._tickets.take(ticket)
        except LiveUnavailable:
            raise
        except CloudMetricsError as refusal:
            raise await self._stranger(request, address, refusal) from None

    async def _asker(self, request: Request, authorization: str, address: str) -> tuple[Caller, Context]:
        try:
            caller = await self._door.identify(authorization, address)
        except CloudMetricsError as refusal:
            raise await self._stranger(request, address, refusal) from None
        allowance = await self._door.take(caller)
        request.state.headers |= allowance.headers()
        refuse_when_empty(allowance)
        return caller, self._door.context(caller, allowance, request_id_of(request.scope))

    async def _stranger(self, request: Request, address: str, refusal: CloudMetricsError) -> CloudMetricsError:
        allowance, answer = await refuse_stranger(self._door.services.limiter, address, refusal)
        request.state.headers |= allowance.headers()
        return answer

    async def _events(
        self, context: Context, ids: list[str], resume_from: str | None, request_id: str
    ) -> AsyncGenerator[bytes, None]:
        yield b"retry: %d\n\n" % RETRY_MILLISECONDS
        try:
            async with aclosing(saved_frames(context, ids, resume_from)) as frames:
                async for frame in frames:
                    yield self._event(frame)
        except GoingAway as end:
            yield _ended("going_away", end, request_id)
        except CloudMetricsError as error:
            yield _refusal(error, request_id)

    def _event(self, frame: Frame) -> bytes:
        """A frame as an event, encoded once for all who read it. JSON has no line break, so its data is one line."""
        data = self._encoded.get(frame)
        if data is None:
            text = _encoder.encode(
                {
                    "kind": frame.kind,
                    "seq": frame.seq,
                    "epoch": frame.epoch,
                    "cursor": frame.cursor,
                    "watermark": frame.watermark,
                    "changes": [_change(change) for change in frame.changes],
                }
            )
            data = self._encoded[frame] = b"id: %s\ndata: %s\n\n" % (frame.cursor.encode(), text)
        return data


def _change(change: Change) -> dict[str, Any]:
    told: dict[str, Any] = {"index": change.index, "from": change.from_, "to": change.to, "columns": change.json}
    if change.fault is not None:
        told["fault"] = {"code": change.fault.code.upper(), "message": change.fault.message}
    return told


def _refusal(error: CloudMetricsError, request_id: str) -> bytes:
    return _ended("refused", error, request_id)


def _ended(event: str, error: CloudMetricsError, request_id: str) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (event.encode(), _encoder.encode(error_body(error, request_id)))
