"""Peer of Q1: the same screen as a stock Strawberry application answers it: lists of objects, from memory, its own
ASGI application with its defaults. Started by the runner as `python -m bench.peers.stock_strawberry <port>`."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta

import strawberry
import uvicorn
from strawberry.asgi import GraphQL

POINTS = 1440


@strawberry.type
class Point:
    t: datetime
    v: float


@strawberry.type
class Series:
    points: list[Point]
    total: float


START = datetime.now(UTC).replace(second=0, microsecond=0) - timedelta(minutes=POINTS)
SERIES = Series(points=[Point(t=START + timedelta(minutes=n), v=float(n % 97)) for n in range(POINTS)], total=1.0)


@strawberry.type
class Query:
    @strawberry.field
    async def series(self, metric: str) -> Series:
        return SERIES


app = GraphQL[None, None](strawberry.Schema(Query))

if __name__ == "__main__":
    uvicorn.run(
        app, host="127.0.0.1", port=int(sys.argv[1]), http="httptools", loop="uvloop", access_log=False,
        log_level="warning",
    )  # fmt: skip
