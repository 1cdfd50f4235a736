"""`WS /graphql`: graphql-transport-ws. Close codes: 4400 malformed, 4401 not initialised, no good key or token, or one
that has expired, 4403 a key, session or membership that has ended, or a lowered role, 4406 no such protocol, 4408
nothing said in time, 4409 id in use, 4429 initialised twice, too many messages, sockets or guessed keys, 4508 a
reader that takes nothing. One too many of an address, or in all, is answered 429 before it is accepted."""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import ExitStack, aclosing
from dataclasses import dataclass

from starlette.responses import JSONResponse
from starlette.websockets import WebSocket, WebSocketDisconnect

from core.errors import (
    CloudMetricsError,
    DatabaseUnavailable,
    InvalidRequest,
    PermissionDenied,
    TooMany,
    Unauthenticated,
)
from core.networks import network_of
from core.permissions import Permission
from core.tenancy import TenantId
from web.auth.callers import Caller
from web.auth.look_ups import UNCONFIRMED_SECONDS
from web.auth.strangers import refuse_stranger
from web.crowd import Crowd
from web.errors import error_body, request_id_of, retry_headers, status_of
from web.graphql_door import GraphQLDoor, authorization_of, refuse_when_empty
from web.graphql_errors import request_errors
from web.graphql_messages import (
    PROTOCOL,
    Complete,
    Init,
    Ping,
    Subscribe,
    decode_message,
    encode_message,
)
from web.graphql_operation import prepare
from web.peer import client_address
from web.sockets import MessageBudget, ProtocolViolation, ReaderGone, Speaker

log = logging.getLogger("web.graphql")

INIT_SECONDS = 5.0
RECHECK_SECONDS = 10.0
MAX_OPERATIONS = 20
MESSAGE_BURST = 1000
MESSAGES_A_SECOND = 100


@dataclass(frozen=True, slots=True)
class Arrival:
    """Where a socket comes from, and its places in the crowd."""

    address: str
    crowd: Crowd
    places: ExitStack
    waiting: ExitStack

    def is_of(self, tenant_id: TenantId) -> None:
        """It is known by now. Raises TooMany when its tenant has too many."""
        self.places.enter_context(self.crowd.known(tenant_id))
        self.waiting.close()


class GraphQLSockets:
    """The endpoint; counts its sockets before it accepts one."""

    def __init__(self, door: GraphQLDoor) -> None:
        self._door = door
        self._crowd = Crowd(what="GraphQL sockets", remedy="run several operations on one, or close one")

    async def connect(self, socket: WebSocket) -> None:
        """One socket, from handshake to close."""
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
            await self._serve(socket, Arrival(address, self._crowd, places, waiting))

    async def _serve(self, socket: WebSocket, arrival: Arrival) -> None:
        try:
            is_spoken = PROTOCOL in socket.scope["subprotocols"]
            await socket.accept(subprotocol=PROTOCOL if is_spoken else None)
            if not is_spoken:
                await socket.close(4406, f"Speak {PROTOCOL}.")
                return
            await Connection(socket, self._door, arrival).run()
        except (WebSocketDisconnect, ReaderGone):
            return


class Connection:
    """One accepted socket and its operations."""

    def __init__(self, socket: WebSocket, door: GraphQLDoor, arrival: Arrival) -> None:
        self._socket = socket
        self._door = door
        self._arrival = arrival
        self._authorization = ""
        # All that an operation of it may have been started with.
        self._given: frozenset[Permission] = frozenset()
        self._operations: dict[str, asyncio.Task[None]] = {}
        self._speaker = Speaker(socket)
        self._budget = MessageBudget(burst=MESSAGE_BURST, a_second=MESSAGES_A_SECOND)

    async def run(self) -> None:
        watch: asyncio.Task[None] | None = None
        try:
            first = await self._initialise()
            self._given = first.principal.permissions
            watch = asyncio.create_task(self._watch(first.expires_at))
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

    async def _initialise(self) -> Caller:
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
                known = await self._introduced()
        except TimeoutError:
            raise ProtocolViolation(4408, f"No connection_init within {INIT_SECONDS:.0f} s.") from None
        try:
            self._arrival.is_of(known.principal.tenant.id)
        except TooMany as refusal:
            raise ProtocolViolation(4429, refusal.message) from None
        await self._speaker.send(encode_message("connection_ack"))
        return known

    async def _introduced(self) -> Caller:
        """Who the first message says it is; keys that are guessed count as they do in requests."""
        try:
            return await self._door.identify(self._authorization, self._arrival.address)
        except DatabaseUnavailable:
            raise ProtocolViolation(1013, "Keys cannot be looked up right now; try again.") from None
        except (Unauthenticated, PermissionDenied, TooMany) as error:
            _, answer = await refuse_stranger(self._door.services.limiter, self._arrival.address, error)
            raise ProtocolViolation(_code_of(answer), answer.message) from None

    async def _known(self) -> Caller:
        try:
            return await self._door.identify(self._authorization, self._arrival.address)
        except (Unauthenticated, PermissionDenied, TooMany) as error:
            raise ProtocolViolation(_code_of(error), error.message) from None
        except DatabaseUnavailable:
            raise ProtocolViolation(1013, "Keys cannot be looked up right now; try again.") from None

    async def _watch(self, expires_at: float | None) -> None:
        """Looks again without end; nobody waits for it, so what it dies of ends the socket too."""
        try:
            await self._recheck(expires_at)
        except Exception:
            request_id = request_id_of(self._socket.scope)
            log.exception("re-check failed", extra={"action": "internal_error", "request_id": request_id})
            await self._speaker.close(1011, "Something went wrong.")

    async def _recheck(self, expires_at: float | None) -> None:
        """A key or session that was revoked, a member that was removed, a role that was lowered and a token that has
        expired end the socket, whatever it is doing; so does a while in which they cannot be looked up."""
        confirmed_at = time.monotonic()
        while True:
            await asyncio.sleep(RECHECK_SECONDS)
            try:
                if expires_at is not None and expires_at <= time.time():
                    await self._speaker.close(4401, "The access token has expired; connect with a new one.")
                    return
                now = await self._door.identify(self._authorization, self._arrival.address)
                if not self._given <= now.principal.permissions:
                    await self._speaker.close(4403, "You may less than when you connected; connect again.")
                    return
            except Unauthenticated:
                await self._speaker.close(4403, "The key or session was revoked or has expired.")
                return
            except PermissionDenied as error:
                await self._speaker.close(4403, error.message)
                return
            except (DatabaseUnavailable, TooMany):
                if time.monotonic() - confirmed_at > UNCONFIRMED_SECONDS:
                    await self._speaker.close(1013, "Keys cannot be looked up right now; try again.")
                    return
            else:
                confirmed_at = time.monotonic()

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
        known = await self._known()
        self._given |= known.principal.permissions
        allowance = await self._door.take(known)
        refuse_when_empty(allowance)
        operation = await prepare(self._door, known, message.request, allowance, request_id)
        # Closed with the operation: a generator that is left to the collector still listens.
        async with aclosing(operation.results()) as results:
            async for payload in results:
                await self._speaker.send(encode_message("next", message.id, payload))


def _code_of(error: CloudMetricsError) -> int:
    match error:
        case TooMany():
            return 4429
        case PermissionDenied():
            return 4403
    return 4401
