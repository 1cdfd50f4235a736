"""Limit of Q2: twelve answers that are ready in Valkey, fetched by one MGET, joined and sent. Nobody is asked who they
are, nothing is parsed and nothing checked. Started by the runner as `python -m bench.limits.mget_join <port>`."""

from __future__ import annotations

import os
import sys
from typing import Any

import uvicorn
from redis.asyncio import Redis
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from bench.dashboard import WIDGETS

NAMES = [name for name, _, _ in WIDGETS]
KEYS = [f"bench:fragment:{name}" for name in NAMES]
client = Redis.from_url(os.environ["CLOUDMETRICS_REDIS_URL"])


async def screen(request: Request) -> Response:
    await request.body()
    fragments: Any = await client.mget(KEYS)
    body = b",".join(b'"%s":%s' % (name.encode(), fragment) for name, fragment in zip(NAMES, fragments, strict=True))
    return Response(b'{"data":{' + body + b"}}", media_type="application/json")


app = Starlette(routes=[Route("/graphql", screen, methods=["POST"])])

if __name__ == "__main__":
    uvicorn.run(
        app, host="127.0.0.1", port=int(sys.argv[1]), http="httptools", loop="uvloop", access_log=False,
        log_level="warning",
    )  # fmt: skip
