"""`WS /graphql`: graphql-transport-ws. Close codes: 4400 malformed, 4401 not initialised, no good key or token, or one
that has expired, 4403 a key, session or membership that has ended, or a lowered role, 4406 no such protocol, 4408
nothing said in time, 4409 id in use, 4429 initialised twice, too many messages, sockets or guessed keys, 4508 a
reader that takes nothing. One too many of an address, or in all, is answered 429 before it is accepted.

The application does the handshake; then a `Connection` has the socket, below the application (docs/decisions/0035).
"""

from __future__ import annotations

from contextlib import ExitStack

from starlette.responses import JSONResponse
from starlette.websockets import WebSocket, WebSocketDisconnect

from core.errors import TooMany
from core.networks import network_of
from web.crowd import Crowd
from web.errors import error_body, request_id_of, retry_headers, status_of
from web.graphql_connection import Arrival, Connection
from web.graphql_door import GraphQLDoor
from web.graphql_messages import PROTOCOL
from web.peer import client_address
from web.socket_protocol import transport_of


class GraphQLSockets:
    """The endpoint; counts its sockets before it accepts one."""

    def __init__(self, door: GraphQLDoor) -> None:
        self._door = door
        self._crowd = Crowd(what="GraphQL sockets", remedy="run several operations on one, or close one")

    async def connect(self, socket: WebSocket) -> None:
        """The handshake of one socket."""
        address = client_address(socket, self._door.services.settings)
        with ExitStack() as places:
            try:
                places.enter_context(self._crowd.arrived(network_of(address)))
                waiting = places.enter_context(ExitStack())
                waiting.enter_context(self._crowd.unknown())
            except TooMany as refusal:
                request_id = request_id_of(socket.scope)
                headers = {"X-Request-Id": request_id, **retry_headers(refusal)}
                body = error_body(refusal, request_id)
                await socket.send_denial_response(JSONResponse(body, status_of(refusal), headers))
                return
            is_spoken = PROTOCOL in socket.scope["subprotocols"]
            try:
                await socket.accept(subprotocol=PROTOCOL if is_spoken else None)
                if not is_spoken:
                    await socket.close(4406, f"Speak {PROTOCOL}.")
                    return
            except WebSocketDisconnect:
                return
            authorization = socket.headers.get("authorization", "")
            request_id = request_id_of(socket.scope)
            # Given back by the connection from here on.
            kept = places.pop_all()
            arrival = Arrival(address, request_id, authorization, self._crowd, kept, waiting)
            transport = transport_of(socket.scope)
            transport.adopt(Connection(transport, self._door, arrival))
