"""One accepted socket of graphql-transport-ws, and its operations. Everything that comes is a call (see
`socket_protocol`); a task runs while a caller is looked up and an operation is prepared or executed, and none while a
live stream waits for its next frame."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Coroutine
from contextlib import ExitStack, aclosing
from dataclasses import dataclass
from typing import Any, Protocol

from core.errors import (
    CloudMetricsError,
    DatabaseUnavailable,
    InvalidRequest,
    PermissionDenied,
    TooMany,
    Unauthenticated,
)
from core.permissions import Permission
from core.tenancy import TenantId
from web.auth.callers import Caller
from web.auth.look_ups import UNCONFIRMED_SECONDS
from web.auth.strangers import refuse_stranger
from web.crowd import Crowd
from web.graphql_door import GraphQLDoor, authorization_of, refuse_when_empty
from web.graphql_errors import request_errors
from web.graphql_messages import ClientMessage, Complete, Init, Ping, Subscribe, decode_message, encode_message
from web.graphql_operation import Operation, prepare
from web.live_reader import LiveReader
from web.socket_protocol import SocketProtocol, text_frame
from web.sockets import SEND_SECONDS, MessageBudget, ProtocolViolation

log = logging.getLogger("web.graphql")

INIT_SECONDS = 5.0
RECHECK_SECONDS = 10.0
MAX_OPERATIONS = 20
MESSAGE_BURST = 1000
MESSAGES_A_SECOND = 100
PONG = text_frame(encode_message("pong").encode())


@dataclass(frozen=True, slots=True)
class Arrival:
    """Where a socket comes from, what its handshake said, and its places in the crowd."""

    address: str
    request_id: str
    authorization: str
    crowd: Crowd
    places: ExitStack
    waiting: ExitStack

    def is_of(self, tenant_id: TenantId) -> None:
        """It is known by now. Raises TooMany when its tenant has too many."""
        self.places.enter_context(self.crowd.known(tenant_id))
        self.waiting.close()


class Running(Protocol):
    """An operation that goes on: a task, or a reader of a stream."""

    def cancel(self) -> object: ...


class Connection:
    """The socket's handler; its places are given back when it has gone."""

    def __init__(self, transport: SocketProtocol, door: GraphQLDoor, arrival: Arrival) -> None:
        self._transport = transport
        self._door = door
        self._arrival = arrival
        self._authorization = ""
        # All that an operation of it may have been started with; None until it is known who asks.
        self._given: frozenset[Permission] | None = None
        self._expires_at: float | None = None
        self._confirmed_at = 0.0
        self._operations: dict[str, Running] = {}
        self._budget = MessageBudget(burst=MESSAGE_BURST, a_second=MESSAGES_A_SECOND)
        # Messages that come while the sender is looked up.
        self._held: list[str] | None = None
        self._looking: asyncio.Task[None] | None = None
        self._timer = transport.loop.call_later(INIT_SECONDS, self._say_nothing_came)
        self._blocked: asyncio.TimerHandle | None = None
        self.is_blocked = False
        # Writes whole frames.
        self.write = transport.write

    # What the transport calls.

    def text(self, text: str) -> None:
        try:
            self._budget.spend()
            if self._held is not None:
                self._held.append(text)
            else:
                self._handle(decode_message(text))
        except ProtocolViolation as violation:
            self.close(violation)

    def binary(self) -> None:
        self._transport.end(4400, "Messages must be text.")

    def blocked(self) -> None:
        """Whoever reads nothing is not read either, and after half a minute is gone."""
        self.is_blocked = True
        self._transport.hold_reading(True)
        self._blocked = self._transport.loop.call_later(
            SEND_SECONDS, self._transport.end, 4508, "Too slow: nothing was taken for half a minute."
        )

    def unblocked(self) -> None:
        self.is_blocked = False
        if self._blocked is not None:
            self._blocked.cancel()
            self._blocked = None
        self._transport.hold_reading(self._held is not None)
        for running in list(self._operations.values()):
            if isinstance(running, LiveReader):
                running.wake()

    def gone(self) -> None:
        self._timer.cancel()
        if self._blocked is not None:
            self._blocked.cancel()
        if self._looking is not None:
            self._looking.cancel()
        operations, self._operations = self._operations, {}
        for running in operations.values():
            running.cancel()
        self._arrival.places.close()

    # What the operations call.

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        return self._transport.spawn(work)

    def send(self, kind: str, id: str | None = None, payload: object = None) -> None:
        self._transport.write(text_frame(encode_message(kind, id, payload).encode()))

    def close(self, violation: ProtocolViolation) -> None:
        self._transport.end(violation.code, violation.reason)

    def fail(self, what: str) -> None:
        """Ends the socket for a fault of ours; called where an error is handled."""
        log.exception(what, extra={"action": "internal_error", "request_id": self._arrival.request_id})
        self._transport.end(1011, "Something went wrong.")

    def finish(self, id: str, error: CloudMetricsError | None = None) -> None:
        """An operation's end, told."""
        if self._operations.pop(id, None) is None:
            return
        if error is None:
            self.send("complete", id)
        else:
            self.send("error", id, request_errors(error, self._arrival.request_id))

    # Messages.

    def _handle(self, message: ClientMessage) -> None:
        match message:
            case Ping():
                self._transport.write(PONG)
            case Init() if self._given is not None:
                raise ProtocolViolation(4429, "Too many initialisation requests.")
            case Init():
                self._held = []
                self._transport.hold_reading(True)
                self._looking = self._transport.spawn(self._initialise(message))
            case Subscribe() if self._given is None:
                raise ProtocolViolation(4401, "Send connection_init first.")
            case Subscribe():
                self._start(message)
            case Complete():
                running = self._operations.pop(message.id, None)
                if running is not None:
                    running.cancel()

    def _say_nothing_came(self) -> None:
        self._transport.end(4408, f"No connection_init within {INIT_SECONDS:.0f} s.")

    async def _initialise(self, message: Init) -> None:
        self._authorization = authorization_of(message.payload) or self._arrival.authorization
        try:
            caller = await self._introduced()
            self._arrival.is_of(caller.principal.tenant.id)
        except TooMany as refusal:
            self.close(ProtocolViolation(4429, refusal.message))
            return
        except ProtocolViolation as violation:
            self.close(violation)
            return
        except Exception:
            self.fail("initialisation failed")
            return
        self._looking = None
        self._given, self._expires_at = caller.principal.permissions, caller.expires_at
        self._confirmed_at = time.monotonic()
        self._timer.cancel()
        self._timer = self._transport.loop.call_later(RECHECK_SECONDS, self._look_again)
        self.send("connection_ack")
        held, self._held = self._held or [], None
        for text in held:
            try:
                self._handle(decode_message(text))
            except ProtocolViolation as violation:
                self.close(violation)
                return
        self._transport.hold_reading(self.is_blocked)

    async def _introduced(self) -> Caller:
        """Who the first message says it is; keys that are guessed count as they do in requests."""
        try:
            return await self._door.identify(self._authorization, self._arrival.address)
        except DatabaseUnavailable:
            raise ProtocolViolation(1013, "Keys cannot be looked up right now; try again.") from None
        except (Unauthenticated, PermissionDenied, TooMany) as error:
            _, answer = await refuse_stranger(self._door.services.limiter, self._arrival.address, error)
            raise ProtocolViolation(_code_of(answer), answer.message) from None

    # Credentials, looked at again while the socket lives.

    def _look_again(self) -> None:
        self._looking = self._transport.spawn(self._recheck())

    async def _recheck(self) -> None:
        """Nobody waits for it, so what it dies of ends the socket too."""
        try:
            await self._confirm()
        except ProtocolViolation as violation:
            self.close(violation)
        except Exception:
            self.fail("re-check failed")
        else:
            self._timer = self._transport.loop.call_later(RECHECK_SECONDS, self._look_again)

    async def _confirm(self) -> None:
        """A key or session that was revoked, a member that was removed, a role that was lowered and a token that has
        expired end the socket, whatever it is doing; so does a while in which they cannot be looked up.

        Raises:
            ProtocolViolation: how it ends.
        """
        if self._expires_at is not None and self._expires_at <= time.time():
            raise ProtocolViolation(4401, "The access token has expired; connect with a new one.")
        try:
            now = await self._door.identify(self._authorization, self._arrival.address)
        except Unauthenticated:
            raise ProtocolViolation(4403, "The key or session was revoked or has expired.") from None
        except PermissionDenied as error:
            raise ProtocolViolation(4403, error.message) from None
        except (DatabaseUnavailable, TooMany):
            if time.monotonic() - self._confirmed_at > UNCONFIRMED_SECONDS:
                raise ProtocolViolation(1013, "Keys cannot be looked up right now; try again.") from None
            return
        self._confirmed_at = time.monotonic()
        if not (self._given or frozenset()) <= now.principal.permissions:
            raise ProtocolViolation(4403, "You may less than when you connected; connect again.")

    # Operations.

    def _start(self, message: Subscribe) -> None:
        if message.id in self._operations:
            raise ProtocolViolation(4409, f"Subscriber for {message.id} already exists")
        if len(self._operations) >= MAX_OPERATIONS:
            error = InvalidRequest(
                f"A socket has at most {MAX_OPERATIONS} operations; open another.", code="SUBSCRIPTION_LIMIT"
            )
            self.send("error", message.id, request_errors(error, self._arrival.request_id))
            return
        self._operations[message.id] = self._transport.spawn(self._run(message))

    async def _run(self, message: Subscribe) -> None:
        try:
            operation = await self._prepared(message)
            reader = LiveReader(self, message.id)
            if await operation.listen(reader):
                # Goes on without this task, unless it is over already, or nobody wants it any more.
                if self._operations.get(message.id) is asyncio.current_task():
                    self._operations[message.id] = reader
                else:
                    reader.cancel()
                return
            await self._execute(message.id, operation)
            self.finish(message.id)
        except CloudMetricsError as error:
            self.finish(message.id, error)
        except ProtocolViolation as violation:
            self.close(violation)
        except Exception:
            self.fail("operation failed")

    async def _prepared(self, message: Subscribe) -> Operation:
        try:
            known = await self._door.identify(self._authorization, self._arrival.address)
        except (Unauthenticated, PermissionDenied, TooMany) as error:
            raise ProtocolViolation(_code_of(error), error.message) from None
        except DatabaseUnavailable:
            raise ProtocolViolation(1013, "Keys cannot be looked up right now; try again.") from None
        self._given = (self._given or frozenset()) | known.principal.permissions
        allowance = await self._door.take(known)
        refuse_when_empty(allowance)
        return await prepare(self._door, known, message.request, allowance, self._arrival.request_id)

    async def _execute(self, id: str, operation: Operation) -> None:
        # Closed with the operation: a generator that is left to the collector still listens.
        async with aclosing(operation.results()) as results:
            async for payload in results:
                await self._transport.writable.wait()
                self.send("next", id, payload)


def _code_of(error: CloudMetricsError) -> int:
    match error:
        case TooMany():
            return 4429
        case PermissionDenied():
            return 4403
    return 4401
