"""Messages of the ingest socket. Pure.

The server says `hello`, `ready` once the sender is known, and to every frame `ack` or `refused`. The client says
`auth` where its handshake bore no key, then frames; a frame is the body of `POST /v1/events`, and `seq` is its number
on this socket, counted by both sides from 1: so even a frame that cannot be read has a name.
"""

from __future__ import annotations

import math

import msgspec

from core.errors import CloudMetricsError, Retryable
from core.events import MAX_BODY_BYTES, MAX_DECODED_BYTES
from core.ingest import EventResult, Receipt
from core.ratelimit import Allowance
from web.errors import error_body
from web.ingest.body import decompress
from web.sockets import ProtocolViolation

WINDOW_FRAMES = 32
AUTH_SECONDS = 5.0
MAX_AUTH_LENGTH = 2048
_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"


class Auth(msgspec.Struct, frozen=True, tag_field="type", tag="auth"):
    """`authorization` is `Bearer` and a key; or `key` is a key's id and `signature` that of the nonce."""

    authorization: str = ""
    key: str = ""
    signature: str = ""


class RateLimit(msgspec.Struct, frozen=True):
    """What `RateLimit-*` says of a request."""

    limit: int
    remaining: int
    reset: int


class Hello(msgspec.Struct, frozen=True, tag_field="type", tag="hello"):
    """The first message. `window`: frames that may wait for their answer; more are not read before."""

    nonce: str
    request_id: str
    window: int = WINDOW_FRAMES
    max_frame_bytes: int = MAX_BODY_BYTES
    auth_seconds: float = AUTH_SECONDS


class Ready(msgspec.Struct, frozen=True, tag_field="type", tag="ready"):
    """The sender is known; frames are read from here on."""


class Ack(msgspec.Struct, frozen=True, tag_field="type", tag="ack"):
    """What a 202 says of a frame."""

    seq: int
    request_id: str
    accepted: int
    results: list[EventResult]
    rate_limit: RateLimit


class Refused(msgspec.Struct, frozen=True, tag_field="type", tag="refused", omit_defaults=True):
    """Nothing of a frame was taken. `status` is what a request would have got; `retry_after`, in seconds, is there
    when the same frame may be sent again."""

    seq: int
    status: int
    error: dict[str, object]
    retry_after: int = 0
    rate_limit: RateLimit | None = None


_encoder = msgspec.json.Encoder()
_auth_decoder = msgspec.json.Decoder(Auth)


def encode(message: Hello | Ready | Ack | Refused) -> str:
    return _encoder.encode(message).decode()


def decode_auth(message: str | bytes) -> Auth:
    """The client's first message.

    Raises:
        ProtocolViolation: 4400, it is something else.
    """
    if len(message) > MAX_AUTH_LENGTH:
        raise ProtocolViolation(4400, f"The first message has more than {MAX_AUTH_LENGTH} bytes; send auth first.")
    try:
        auth = _auth_decoder.decode(message)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        auth = Auth()
    # Without a tag msgspec takes any object, such as a frame that came too early.
    if not auth.authorization and not auth.key:
        raise ProtocolViolation(4400, 'Send {"type": "auth", "authorization": "Bearer ..."} first.')
    return auth


def body_of(message: str | bytes) -> bytes:
    """The body of a frame: text as it is, bytes by their beginning: gzip, zstd, or JSON as it is.

    Raises:
        InvalidRequest: as for a compressed body.
    """
    if isinstance(message, str):
        return message.encode()
    encoding = "gzip" if message.startswith(_GZIP) else "zstd" if message.startswith(_ZSTD) else ""
    return decompress(message, encoding, MAX_DECODED_BYTES)


def ack(seq: int, receipt: Receipt, allowance: Allowance) -> str:
    return encode(Ack(seq, receipt.request_id, receipt.accepted, receipt.results, _rate_limit(allowance)))


def refused(seq: int, error: CloudMetricsError, status: int, request_id: str, allowance: Allowance | None) -> str:
    retry_after = max(1, math.ceil(error.retry_after)) if isinstance(error, Retryable) else 0
    body = error_body(error, request_id)["error"]
    return encode(Refused(seq, status, body, retry_after, _rate_limit(allowance) if allowance else None))


def _rate_limit(allowance: Allowance) -> RateLimit:
    return RateLimit(allowance.limit, allowance.remaining, allowance.reset_seconds)
