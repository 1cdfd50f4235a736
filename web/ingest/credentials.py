"""Who sends events: a publishable key, an unsigned secret key, or a signed request. Nothing else in the request
decides the tenant."""

from __future__ import annotations

import time
from dataclasses import dataclass

from starlette.requests import HTTPConnection, Request

from core.errors import InvalidRequest, PermissionDenied, Unauthenticated
from core.keys import SECRET_PREFIX, check_signature, parse_signature
from core.tenancy import KeyKind
from web.auth.keys import KeyRing, KnownKey


@dataclass(frozen=True, slots=True)
class Sender:
    """A known key, and what a signed request makes the ids of its events from."""

    known: KnownKey
    seed: bytes = b""
    signed_ms: int = 0

    @property
    def is_browser(self) -> bool:
        return self.known.key.kind is KeyKind.PUBLISHABLE


async def identify(request: Request, body: bytes, keys: KeyRing, address: str) -> Sender:
    """The sender of an ingest request from an address.

    Raises:
        Unauthenticated, PermissionDenied, InvalidRequest, TooMany: each names what to send instead.
        DatabaseUnavailable: a key that was never seen cannot be looked up now.
    """
    if request.headers.get("x-cm-signature") is not None or request.headers.get("x-cm-key") is not None:
        return await _signed(request, body, keys, address)
    return Sender(await known_by_bearer(request, bearer_of(request), keys, address))


async def known_by_bearer(connection: HTTPConnection, text: str, keys: KeyRing, address: str) -> KnownKey:
    """The key that this text bears, if it may be borne, and from where this request or socket comes; same errors."""
    known = await keys.by_bearer(text, address, is_for_events=True)
    if known.key.kind is KeyKind.SECRET and not known.key.is_unsigned:
        raise Unauthenticated(
            "This secret key signs: send its id and a signature (X-CM-Key and X-CM-Signature; on a socket `key` and "
            "`signature` in the first message), or make a key with --unsigned.",
            code="signature_required",
        )
    if known.key.kind is KeyKind.PUBLISHABLE:
        _check_origin(connection, known)
    return known


def bearer_of(connection: HTTPConnection) -> str:
    """The bearer key in the headers or, where none can be set, in the address; same errors."""
    scheme, _, token = connection.headers.get("authorization", "").partition(" ")
    in_query = connection.query_params.get("key", "")
    if in_query.startswith(SECRET_PREFIX):
        raise InvalidRequest(
            "A secret key must not stand in an address, where logs keep it; revoke it, and send the next in a header.",
            code="credentials_in_url",
            field="key",
        )
    if scheme.lower() == "bearer":
        return token.strip()
    if in_query:
        return in_query
    raise Unauthenticated("Send Authorization: Bearer cm_pk_…, or X-CM-Key and X-CM-Signature with a secret key.")


async def _signed(request: Request, body: bytes, keys: KeyRing, address: str) -> Sender:
    if len(request.headers.getlist("x-cm-signature")) != 1 or len(request.headers.getlist("x-cm-key")) != 1:
        raise Unauthenticated("Send exactly one X-CM-Key and one X-CM-Signature.", code="malformed_signature")
    signature = parse_signature(request.headers["x-cm-signature"])
    known = await keys.by_id(request.headers["x-cm-key"], address)
    path = request.scope["path"]
    check_signature(signature, known.secrets, now=time.time(), method=request.method, path=path, body=body)
    return Sender(known, seed=signature.digests[0].encode(), signed_ms=signature.timestamp * 1000)


def _check_origin(connection: HTTPConnection, known: KnownKey) -> None:
    origin = connection.headers.get("origin")
    if origin is None or "*" in known.key.origins or origin in known.key.origins:
        return
    raise PermissionDenied(
        f"The origin {origin[:200]} is not in this key's list; add it with `key create --origin`.",
        code="origin_not_allowed",
    )
