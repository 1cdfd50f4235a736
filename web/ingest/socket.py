"""`WS /v1/events/ws`: frames that are bodies of `POST /v1/events`, each with an answer, in order.

Close codes: 4400 first message malformed, 4401 no good key, 4403 origin or scope missing, or a key that was revoked,
4408 no first message in 5 s or no frame in 10 minutes, 4429 too many sockets or refused frames, 4508 a reader that
takes nothing, 1007 text that is no UTF-8, 1009 a frame beyond 1 MiB, 1011 our fault or no pong, 1012 the server stops,
1013 keys cannot be looked up. Before the socket is accepted the same reasons answer with an HTTP status.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass

from starlette.responses import JSONResponse
from starlette.websockets import WebSocket, WebSocketDisconnect

from core.errors import (
    CloudMetricsError,
    DatabaseUnavailable,
    PermissionDenied,
    TooMany,
    Unauthenticated,
)
from core.ingest import Ingest
from core.keys import Signature, check_signature, parse_signature
from core.networks import network_of
from core.permissions import Permission
from core.ratelimit import Allowance
from web.auth.keys import KeyRing, KnownKey
from web.auth.strangers import refuse_stranger
from web.crowd import Crowd
from web.errors import error_body, request_id_of, retry_headers, status_of
from web.ingest.credentials import Sender, bearer_of, known_by_bearer
from web.ingest.frames import AUTH_SECONDS, Hello, Ready, ack, body_of, decode_auth, encode, refused
from web.ingest.rest import Origin, admit, counting_refusals, take
from web.peer import client_address
from web.services import Services
from web.sockets import MessageBudget, ProtocolViolation, ReaderGone, Speaker

log = logging.getLogger("web.ingest")

RECHECK_SECONDS = 10.0
IDLE_SECONDS = 600.0
REFUSED_BURST = 500
REFUSED_A_SECOND = 20
STOPPING = 1012


@dataclass(frozen=True, slots=True)
class Credential:
    """What a sender showed, to be looked at again while its socket lives."""

    bearer: str = ""
    key_id: str = ""
    signature: Signature | None = None

    async def known(
        self, socket: WebSocket, keys: KeyRing, nonce: str, address: str, *, is_first: bool = False
    ) -> KnownKey:
        """The key, if it is good still; a signature's time counts once.

        Raises:
            Unauthenticated, PermissionDenied, InvalidRequest, TooMany, DatabaseUnavailable: as for a request.
        """
        if self.signature is None:
            return await known_by_bearer(socket, self.bearer, keys, address)
        known = await keys.by_id(self.key_id, address)
        now = time.time() if is_first else self.signature.timestamp
        # The nonce stands where a request's body would: a signature that was overheard opens no second socket.
        check_signature(self.signature, known.secrets, now=now, method="GET", path=socket.url.path, body=nonce.encode())
        return known


class IngestSockets:
    """The endpoint; counts its sockets before it accepts one."""

    def __init__(self, services: Services, ingest: Ingest) -> None:
        self._services = services
        self._ingest = ingest
        self._crowd = Crowd(what="ingest sockets", remedy="send many events on one, or by POST")

    async def connect(self, socket: WebSocket) -> None:
        """One socket, from handshake to close."""
        address = client_address(socket, self._services.settings)
        with ExitStack() as places:
            try:
                places.enter_context(self._crowd.arrived(network_of(address)))
                connection = IngestConnection(socket, self._services, self._ingest, self._crowd, places)
                await connection.greet(address)
            except CloudMetricsError as refusal:
                headers = {"X-Request-Id": request_id_of(socket.scope), **retry_headers(refusal)}
                body = error_body(refusal, request_id_of(socket.scope))
                await socket.send_denial_response(JSONResponse(body, status_of(refusal), headers))
                return
            try:
                await socket.accept()
                await connection.run(address)
            except (WebSocketDisconnect, ReaderGone):
                return


class IngestConnection:
    """One socket and its sender."""

    def __init__(self, socket: WebSocket, services: Services, ingest: Ingest, crowd: Crowd, places: ExitStack) -> None:
        self._socket = socket
        self._services = services
        self._ingest = ingest
        self._crowd = crowd
        self._places = places
        self._waiting = places.enter_context(ExitStack())
        self._speaker = Speaker(socket)
        self._refusals = MessageBudget(burst=REFUSED_BURST, a_second=REFUSED_A_SECOND, what="refused frames")
        self._request_id = request_id_of(socket.scope)
        self._nonce = secrets.token_hex(16)
        self._credential: Credential | None = None
        self._address = ""

    async def greet(self, address: str) -> None:
        """Before the socket is accepted: whether it may be, and who it is where the handshake says so.

        Raises:
            CloudMetricsError: what to answer the handshake with.
        """
        headers = self._socket.headers
        if "x-cm-key" in headers or "x-cm-signature" in headers:
            raise Unauthenticated(
                "A socket is signed in its first message, over the nonce of the server's hello; leave the headers out.",
                code="signature_in_handshake",
            )
        if "authorization" in headers or "key" in self._socket.query_params:
            await self._identify(lambda: Credential(bearer_of(self._socket)), address)
        else:
            self._waiting.enter_context(self._crowd.unknown())

    async def run(self, address: str) -> None:
        watch = asyncio.create_task(self._recheck())
        try:
            await self._speaker.send(encode(Hello(self._nonce, self._request_id)))
            if self._credential is None:
                await self._authenticate(address)
            await self._speaker.send(encode(Ready()))
            await self._take_frames()
        except ProtocolViolation as violation:
            await self._speaker.close(violation.code, violation.reason)
        except (WebSocketDisconnect, ReaderGone):
            raise
        except Exception:
            log.exception("socket failed", extra={"action": "internal_error", "request_id": self._request_id})
            await self._speaker.close(1011, "Something went wrong.")
        finally:
            watch.cancel()
            await asyncio.gather(watch, return_exceptions=True)

    async def _receive(self) -> str | bytes:
        message = await self._socket.receive()
        if message["type"] == "websocket.disconnect":
            if message.get("code") == STOPPING:
                raise ProtocolViolation(STOPPING, "The server restarts; connect again.")
            raise WebSocketDisconnect(message.get("code", 1005))
        text: str | None = message.get("text")
        received: bytes = message.get("bytes") or b""
        return received if text is None else text

    async def _authenticate(self, address: str) -> None:
        try:
            async with asyncio.timeout(AUTH_SECONDS):
                said = decode_auth(await self._receive())
        except TimeoutError:
            raise ProtocolViolation(4408, f"No auth message within {AUTH_SECONDS:.0f} s.") from None

        def shown() -> Credential:
            if said.key or said.signature:
                return Credential(key_id=said.key, signature=parse_signature(said.signature))
            scheme, _, token = said.authorization.partition(" ")
            return Credential(token.strip() if scheme.lower() == "bearer" else "")

        try:
            await self._identify(shown, address)
        except CloudMetricsError as refusal:
            raise ProtocolViolation(_close_code(refusal), refusal.message) from None
        self._waiting.close()

    async def _identify(self, shown: Callable[[], Credential], address: str) -> None:
        try:
            credential = shown()
            known = await credential.known(self._socket, self._services.keys, self._nonce, address, is_first=True)
        except CloudMetricsError as refusal:
            _, answer = await refuse_stranger(self._services.limiter, address, refusal)
            raise answer from None
        known.principal().require(Permission.EVENTS_WRITE)
        self._places.enter_context(self._crowd.known(known.key.tenant.id))
        self._credential, self._address = credential, address

    async def _recheck(self) -> None:
        """A key that was revoked ends its sockets, though they say nothing."""
        while True:
            await asyncio.sleep(RECHECK_SECONDS)
            try:
                await self._known_still()
            except ProtocolViolation as violation:
                await self._speaker.close(violation.code, violation.reason)
                return
            except (DatabaseUnavailable, TooMany):
                continue

    async def _known_still(self) -> Sender | None:
        if self._credential is None:
            return None
        try:
            return Sender(await self._credential.known(self._socket, self._services.keys, self._nonce, self._address))
        except (Unauthenticated, PermissionDenied):
            raise ProtocolViolation(4403, "The key was revoked, changed or has expired.") from None

    async def _take_frames(self) -> None:
        """One after the other, so that a sender's events keep their order. A frame is not read before the one ahead
        of it is answered: the network holds back whoever sends faster, and memory one frame a socket."""
        seq = 0
        while True:
            try:
                async with asyncio.timeout(IDLE_SECONDS):
                    message = await self._receive()
            except TimeoutError:
                raise ProtocolViolation(4408, f"No frame for {IDLE_SECONDS / 60:.0f} minutes; connect again.") from None
            seq += 1
            await self._speaker.send(await self._answer(seq, message))

    async def _answer(self, seq: int, message: str | bytes) -> str:
        received_ms = int(time.time() * 1000)
        request_id = f"{self._request_id}.{seq}"
        allowance: Allowance | None = None
        try:
            sender = await self._known_still()
            assert sender is not None
            allowance = await take(self._services, sender)
            with counting_refusals(self._services, sender, received_ms):
                admit(sender, allowance)
                body = body_of(message)
            origin = Origin.of(self._socket, sender, self._services.settings)
            delivery = origin.delivery(sender, body, request_id, received_ms)
            return ack(seq, await self._ingest.accept(delivery), allowance)
        except CloudMetricsError as refusal:
            if status_of(refusal) == 500:
                log.exception("frame failed", extra={"action": "internal_error", "request_id": request_id})
            self._refusals.spend()
            return refused(seq, refusal, status_of(refusal), request_id, allowance)


def _close_code(refusal: CloudMetricsError) -> int:
    match refusal:
        case Unauthenticated():
            return 4401
        case PermissionDenied():
            return 4403
        case TooMany():
            return 4429
        case DatabaseUnavailable():
            return 1013
    return 4400
