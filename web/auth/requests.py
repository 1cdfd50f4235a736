"""What every request of sign-in has in common: JSON of a known shape, from no other site, counted by address."""

from __future__ import annotations

from typing import TypeVar
from urllib.parse import urlsplit

import msgspec
from starlette.requests import Request

from core.errors import InvalidRequest, PermissionDenied
from core.sessions import Origin
from core.settings import Settings
from web.errors import request_id_of
from web.ingest.body import read_body
from web.ingest.rest import check_content_type
from web.peer import client_address

MAX_BODY_BYTES = 16 * 1024
# What may see a token may keep it nowhere (RFC 6749, 5.1).
NO_STORE = {"Cache-Control": "no-store", "Pragma": "no-cache"}

T = TypeVar("T")


async def asked(request: Request, shape: type[T]) -> T:
    """The body of a request, of a shape (a msgspec struct).

    Raises:
        InvalidRequest: 415 another content type, 413 more than 16 KiB, 400 another shape; names the field.
    """
    check_content_type(request)
    body = await read_body(request, MAX_BODY_BYTES)
    try:
        return msgspec.json.decode(body or b"{}", type=shape)
    except msgspec.ValidationError as error:
        reason, _, place = str(error).partition(" - at `$")
        raise InvalidRequest(
            f"The body is not what is asked for here: {reason}.", code="invalid_body", field=place.strip(".`") or None
        ) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)[:200]
        raise InvalidRequest(f"The body is not JSON: {reason}.", code="invalid_json") from None


def refuse_other_sites(request: Request, settings: Settings) -> None:
    """A page of another site may send a browser's cookie here, but not without saying where it comes from.

    Raises:
        PermissionDenied: another origin than this one.
    """
    origin = request.headers.get("origin")
    if origin is None:
        is_ours = request.headers.get("sec-fetch-site", "none") in ("none", "same-origin")
    else:
        host = urlsplit(origin).netloc if origin != "null" else ""
        is_ours = origin == settings.public_base or (host != "" and host == request.headers.get("host"))
    if not is_ours:
        raise PermissionDenied("Sign-in is for pages of this origin alone.", code="cross_site")


def is_browser(request: Request) -> bool:
    """Whether a page sends it: browsers say so themselves, and no page can leave it out of a POST."""
    return "origin" in request.headers or "sec-fetch-site" in request.headers


def origin_of(request: Request, settings: Settings) -> Origin:
    """Where a request comes from, for a session and the trail."""
    return Origin(
        client_address(request, settings), request.headers.get("user-agent", ""), request_id_of(request.scope)
    )
