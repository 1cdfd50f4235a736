"""How requests are named and errors rendered: pure ASGI, outermost. Every answer bears a request id; no traceback,
no internal text, ever leaves."""

from __future__ import annotations

import logging
import math
import re
import time
from collections.abc import Mapping
from typing import Any

import msgspec
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from core.errors import CloudMetricsError, InvalidRequest, Retryable
from core.events import new_event_id

log = logging.getLogger("web")

REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{8,128}")


def request_id_of(scope: Scope) -> str:
    """The id of a request."""
    request_id: str = scope["state"]["request_id"]
    return request_id


def status_of(error: CloudMetricsError) -> int:
    return error.answer_status if isinstance(error, InvalidRequest) else error.status


def error_body(error: CloudMetricsError, request_id: str) -> dict[str, Any]:
    """`{"error": {code, message, request_id, field?}}`; what is our own fault keeps its text to itself."""
    is_ours = status_of(error) == 500
    body = {
        "code": "internal" if is_ours else error.code,
        "message": f"Something went wrong; tell us the request id {request_id}." if is_ours else error.message,
        "request_id": request_id,
    }
    if error.field:
        body["field"] = error.field
    return {"error": body}


def retry_headers(error: CloudMetricsError) -> dict[str, str]:
    return {"Retry-After": str(max(1, math.ceil(error.retry_after)))} if isinstance(error, Retryable) else {}


class RequestLayer:
    """Gives each request an id, adds the headers that handlers leave in `request.state.headers`, renders errors.

    `shortcuts` are applications by method and path that are asked in place of the one around which this is.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self.shortcuts: dict[tuple[str, str], ASGIApp] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        request_id = _request_id(scope)
        state = scope.setdefault("state", {})
        state["request_id"] = request_id
        state["headers"] = {}
        if scope["type"] == "websocket":
            await self._app(scope, receive, send)
            return
        has_started = False

        async def send_with_headers(message: Message) -> None:
            nonlocal has_started
            if message["type"] == "http.response.start":
                has_started = True
                extra = {"X-Request-Id": request_id, **state["headers"]}
                message["headers"] = [*message["headers"], *_raw(extra)]
            await send(message)

        app = self.shortcuts.get((scope["method"], scope["path"]), self._app)
        try:
            await app(scope, receive, send_with_headers)
        except ClientDisconnect:
            return
        except Exception:
            # Answered already where it could be: what comes through here is ours to mend.
            log.exception("request failed", extra={"action": "internal_error", "request_id": request_id})
            if not has_started:
                await _send_error(send_with_headers, CloudMetricsError(), request_id)


async def _send_error(send: Any, error: CloudMetricsError, request_id: str) -> None:
    body = msgspec.json.encode(error_body(error, request_id))
    headers = {"Content-Type": "application/json", "Content-Length": str(len(body)), **retry_headers(error)}
    await send({"type": "http.response.start", "status": status_of(error), "headers": _raw(headers)})
    await send({"type": "http.response.body", "body": body})


def _raw(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.lower().encode(), value.encode("latin-1", "replace")) for name, value in headers.items()]


def _request_id(scope: Scope) -> str:
    """The caller's id where it is well formed, else one of ours."""
    for name, value in scope["headers"]:
        if name == b"x-request-id":
            text: str = value.decode("latin-1")
            if REQUEST_ID.fullmatch(text):
                return text
    return str(new_event_id(int(time.time() * 1000)))
