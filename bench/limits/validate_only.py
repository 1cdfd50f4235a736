"""Limit of I2: what ours could be at most on this stack. Signature and typed decoding; nothing is checked, nothing
is written. Started by the runner as `python -m bench.limits.validate_only <port>`."""

from __future__ import annotations

import hashlib
import hmac
import os
import sys

import msgspec
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

SECRET = os.environ["BENCH_SECRET"].encode()
ABSENT = msgspec.Raw(b"null")


class Event(msgspec.Struct):
    id: str
    type: str
    timestamp: str
    session_id: str | None = None
    user_id: str | None = None
    properties: msgspec.Raw = ABSENT
    context: msgspec.Raw = ABSENT


class Batch(msgspec.Struct):
    events: list[Event]


decoder = msgspec.json.Decoder(Batch)


async def ingest(request: Request) -> Response:
    body = await request.body()
    stamp, digest = (part.partition("=")[2] for part in request.headers["x-cm-signature"].split(","))
    text = f"{stamp}.POST./v1/events.{hashlib.sha256(body).hexdigest()}"
    if not hmac.compare_digest(hmac.digest(SECRET, text.encode(), "sha256").hex(), digest):
        return Response(status_code=401)
    batch = decoder.decode(body)
    return Response(b'{"accepted":%d}' % len(batch.events), 202, media_type="application/json")


app = Starlette(routes=[Route("/v1/events", ingest, methods=["POST"])])

if __name__ == "__main__":
    uvicorn.run(
        app, host="127.0.0.1", port=int(sys.argv[1]), http="httptools", loop="uvloop", access_log=False,
        log_level="warning",
    )  # fmt: skip
