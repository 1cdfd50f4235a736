"""`WS /graphql`: graphql-transport-ws. Close codes: 4400 malformed, 4401 not initialised or no good key, 4403 a key
that was revoked, 4406 no such protocol, 4408 nothing said in time, 4409 id in use, 4429 initialised twice or too many
messages, 4508 a reader that takes nothing."""

from __future__ import annotations

import asyncio
import logging

from graphql import OperationType
from starlette.websockets import WebSocket, WebSocketDisconnect

from core.errors import CloudMetricsError, DatabaseUnavailable, InvalidRequest, Unauthenticated
from web.auth.keys import KnownKey
from web.errors import request_id_of
from web.graphql_door import GraphQLDoor, authorization_of, refuse_when_empty
from web.graphql_errors import field_errors, request_errors
from web.graphql_messages import (
    PROTOCOL,
    Complete,
    Init,
    Ping,
    Subscribe,
    decode_message,
    encode_message,
)
from web.sockets import MessageBudget, ProtocolViolation, ReaderGone, Speaker

log = logging.getLogger("web.graphql")

INIT_SECONDS = 5.0
RECHECK_SECONDS = 10.0
MAX_OPERATIONS = 20
MAX_CONNECTIONS = 2000
MESSAGE_BURST = 1000
MESSAGES_A_SECOND = 100


class GraphQLSockets:
    """The endpoint; counts its sockets before it accepts one."""

    def __init__(self, door: GraphQLDoor) -> None:
        self._door = door
        self._open = 0

    async def connect(self, socket: WebSocket) -> None:
        """One socket, from handshake to close."""
        if self._open >= MAX_CONNECTIONS:
            # Closing before accepting answers the handshake with 403.
            await socket.close(1013)
            return
        self._open += 1
        try:
            is_spoken = PROTOCOL in socket.scope["subprotocols"]
            await socket.accept(subprotocol=PROTOCOL if is_spoken else None)
            if not is_spoken:
                await socket.close(4406, f"Speak {PROTOCOL}.")
                return
            await Connection(socket, self._door).run()
        except (WebSocketDisconnect, ReaderGone):
            return
        finally:
            self._open -= 1


class Connection:
    """One accepted socket and its operations."""

    def __init__(self, socket: WebSocket, door: GraphQLDoor) -> None:
        self._socket = socket
        self._door = door
        self._authorization = ""
        self._operations: dict[str, asyncio.Task[None]] = {}
        self._speaker = Speaker(socket)
        self._budget = MessageBudget(burst=MESSAGE_BURST, a_second=MESSAGES_A_SECOND)

    async def run(self) -> None:
        watch: asyncio.Task[None] | None = None
        try:
            await self._initialise()
            watch = asyncio.create_task(self._recheck())
            while True:
                await self._handle(await self._receive())
        except ProtocolViolation as violation:
            await self._speaker.close(violation.code, violation.reason)
        finally:
            tasks = [*self._operations.values(), *([watch] if watch else [])]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _receive(self) -> object:
        message = await self._socket.receive()
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(message.get("code", 1005))
        self._budget.spend()
        text = message.get("text")
        if text is None:
            raise ProtocolViolation(4400, "Messages must be text.")
        return decode_message(text)

    async def _initialise(self) -> None:
        try:
            async with asyncio.timeout(INIT_SECONDS):
                while True:
                    message = await self._receive()
                    if isinstance(message, Init):
                        break
                    if isinstance(message, Subscribe):
                        raise ProtocolViolation(4401, "Send connection_init first.")
                    if isinstance(message, Ping):
                        await self._speaker.send(encode_message("pong"))
                self._authorization = authorization_of(message.payload) or self._socket.headers.get("authorization", "")
                await self._known()
        except TimeoutError:
            raise ProtocolViolation(4408, f"No connection_init within {INIT_SECONDS:.0f} s.") from None
        await self._speaker.send(encode_message("connection_ack"))

    async def _known(self) -> KnownKey:
        try:
            return await self._door.identify(self._authorization)
        except Unauthenticated as error:
            raise ProtocolViolation(4401, error.message) from None
        except DatabaseUnavailable:
            raise ProtocolViolation(1013, "Keys cannot be looked up right now; try again.") from None

    async def _recheck(self) -> None:
        """A key that was revoked ends its sockets, whatever they are doing."""
        while True:
            await asyncio.sleep(RECHECK_SECONDS)
            try:
                await self._door.identify(self._authorization)
            except Unauthenticated:
                await self._speaker.close(4403, "The key was revoked or has expired.")
                return
            except DatabaseUnavailable:
                continue

    async def _handle(self, message: object) -> None:
        match message:
            case Init():
                raise ProtocolViolation(4429, "Too many initialisation requests.")
            case Ping():
                await self._speaker.send(encode_message("pong"))
            case Complete():
                task = self._operations.pop(message.id, None)
                if task is not None:
                    task.cancel()
            case Subscribe():
                await self._start(message)

    async def _start(self, message: Subscribe) -> None:
        if message.id in self._operations:
            raise ProtocolViolation(4409, f"Subscriber for {message.id} already exists")
        if len(self._operations) >= MAX_OPERATIONS:
            error = InvalidRequest(
                f"A socket has at most {MAX_OPERATIONS} operations; open another.", code="SUBSCRIPTION_LIMIT"
            )
            payload = request_errors(error, request_id_of(self._socket.scope))
            await self._speaker.send(encode_message("error", message.id, payload))
            return
        self._operations[message.id] = asyncio.create_task(self._run(message))

    async def _run(self, message: Subscribe) -> None:
        request_id = request_id_of(self._socket.scope)
        try:
            ending = encode_message("complete", message.id)
            try:
                await self._execute(message, request_id)
            except CloudMetricsError as error:
                ending = encode_message("error", message.id, request_errors(error, request_id))
            except ProtocolViolation as violation:
                await self._speaker.close(violation.code, violation.reason)
                return
            self._operations.pop(message.id, None)
            await self._speaker.send(ending)
        except ReaderGone:
            self._operations.pop(message.id, None)
        except Exception:
            log.exception("operation failed", extra={"action": "internal_error", "request_id": request_id})
            await self._speaker.close(1011, "Something went wrong.")

    async def _execute(self, message: Subscribe, request_id: str) -> None:
        asked = message.request
        known = await self._known()
        refuse_when_empty(await self._door.take(known))
        prepared = self._door.documents.prepare(asked.query, asked.operation_name, asked.variables)
        context = self._door.context(known, None, request_id)
        if prepared.kind is not OperationType.SUBSCRIPTION:
            result = await self._door.schema.execute(
                asked.query, asked.variables, context_value=context, operation_name=asked.operation_name
            )
            await self._next(message.id, result, request_id)
            return
        stream = await self._door.schema.subscribe(
            asked.query, asked.variables, context_value=context, operation_name=asked.operation_name
        )
        if not hasattr(stream, "__aiter__"):
            await self._next(message.id, stream, request_id)
            return
        try:
            async for result in stream:
                await self._next(message.id, result, request_id)
        finally:
            await stream.aclose()

    async def _next(self, id: str, result: object, request_id: str) -> None:
        payload: dict[str, object] = {"data": getattr(result, "data", None)}
        if errors := getattr(result, "errors", None):
            payload["errors"] = field_errors(errors, request_id)
        await self._speaker.send(encode_message("next", id, payload))
