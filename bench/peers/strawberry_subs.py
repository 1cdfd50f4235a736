"""Peer of F2: live series as they are usually written with Strawberry: a type, an async generator and a queue for each
subscriber, on uvicorn. Started by the runner as `python -m bench.peers.strawberry_subs <port>`; who says which key in
`connection_init` is of that key's tenant, and nothing is checked."""

from __future__ import annotations

import asyncio
import sys
import time
from collections import defaultdict
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import strawberry
import uvicorn
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from strawberry.asgi import GraphQL
from strawberry.scalars import JSON
from strawberry.subscriptions import GRAPHQL_TRANSPORT_WS_PROTOCOL

from bench.driving import Driver, now_us

queues: defaultdict[str, set[asyncio.Queue[tuple[int, int]]]] = defaultdict(set)
numbers: defaultdict[str, int] = defaultdict(int)


@strawberry.type
class SeriesFrame:
    kind: str
    seq: int
    epoch: str
    cursor: str
    watermark: datetime
    columns: JSON


@strawberry.input
class TimeRange:
    last: str


@strawberry.input
class MetricQuery:
    metric: str
    range: TimeRange
    interval: str


@strawberry.type
class Query:
    hello: str = "hello"


@strawberry.type
class Subscription:
    @strawberry.subscription
    async def series(self, info: strawberry.Info[Any, None], query: MetricQuery) -> AsyncGenerator[SeriesFrame, None]:
        queue: asyncio.Queue[tuple[int, int]] = asyncio.Queue()
        listeners = queues[info.context["connection_params"]["authorization"]]
        listeners.add(queue)
        try:
            yield frame_of("SNAPSHOT", 1, now_us())
            while True:
                yield frame_of("DELTA", *await queue.get())
        finally:
            listeners.discard(queue)


def frame_of(kind: str, seq: int, number: int) -> SeriesFrame:
    minute = int(time.time()) // 60 * 60_000
    columns: Any = {"timestamps": [minute], "series": [{"labels": {}, "values": [number], "total": number}]}
    epoch = "0123456789abcdef0123456789abcdef"
    return SeriesFrame(
        kind=kind, seq=seq, epoch=epoch, cursor=f"{epoch}.{seq}", watermark=datetime.now(UTC), columns=columns
    )


def say_to_all(number: int) -> None:
    for tenant, listeners in queues.items():
        numbers[tenant] += 1
        for queue in listeners:
            queue.put_nowait((numbers[tenant], number))


def is_taken() -> bool:
    return all(queue.empty() for listeners in queues.values() for queue in listeners)


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    driving = asyncio.create_task(Driver(say_to_all, is_taken).run())
    yield
    driving.cancel()


schema = strawberry.Schema(query=Query, subscription=Subscription)
graphql: Any = GraphQL(schema, subscription_protocols=[GRAPHQL_TRANSPORT_WS_PROTOCOL])
app = Starlette(routes=[WebSocketRoute("/graphql", graphql)], lifespan=lifespan)

if __name__ == "__main__":
    uvicorn.run(
        app, host="127.0.0.1", port=int(sys.argv[1]), ws="websockets-sansio", loop="uvloop", access_log=False,
        log_level="warning", ws_per_message_deflate=False,
    )  # fmt: skip
