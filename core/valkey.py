"""Clients of Valkey (or Redis 7.2+), each for one use, opened in one place.

redis-py retries ten times by default, which makes a limiter wait seconds when the server is frozen: every client
here has its own short time-outs. Blocking reads block for less than their socket time-out.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.connection import AbstractConnection, BlockingConnectionPool, ConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import ConstantBackoff
from redis.exceptions import OutOfMemoryError, ReadOnlyError, RedisError, ResponseError

from core.resets import resets_as_away

OnConnect = Callable[[Any], Awaitable[None]]

# What a server that is away, starting, full or frozen looks like from here.
VALKEY_AWAY = (RedisError, OSError, TimeoutError)

# Refusals that pass: the server is full, loading, only a copy, or cannot write its file.
_PASSING = (OutOfMemoryError, ReadOnlyError)


def is_refusal(error: BaseException) -> bool:
    """Whether the server refuses this command for good: to send it again would be refused again."""
    return isinstance(error, ResponseError) and not isinstance(error, _PASSING) and not str(error).startswith("MISCONF")


class _Valkey(Redis):
    """A client whose calls can be cancelled.

    redis-py sends with `asyncio.wait_for`, which on Python 3.11 swallows a cancellation that comes just when the
    sending is done (python/cpython#86296): a loop of calls under `asyncio.timeout` would then run for ever.
    """

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        task = asyncio.current_task()
        cancelled = task.cancelling() if task else 0
        with resets_as_away():
            answer = await super().execute_command(*args, **options)  # type: ignore[no-untyped-call]
        if task and task.cancelling() > cancelled:
            raise asyncio.CancelledError
        return answer


def open_valkey(url: str, *, seconds: float, connections: int = 16, on_connect: OnConnect | None = None) -> Redis:
    """A client whose every call ends within about twice `seconds`; one retry heals a restarted server. `on_connect`
    takes the place of how a connection begins."""
    pool = BlockingConnectionPool.from_url(
        url,
        max_connections=connections,
        timeout=seconds,
        socket_timeout=seconds,
        socket_connect_timeout=min(seconds, 2.0),
        retry=Retry(ConstantBackoff(0.02), 1),
        health_check_interval=0,
        redis_connect_func=on_connect,
    )
    return _Valkey.from_pool(pool)


def open_connection(url: str, *, seconds: float) -> AbstractConnection:
    """One connection, made when it is first used and again when it was lost; its caller bounds what a call takes."""
    pool = ConnectionPool.from_url(
        url, socket_timeout=None, socket_connect_timeout=min(seconds, 2.0), retry=Retry(ConstantBackoff(0.02), 1)
    )
    connection: AbstractConnection = pool.make_connection()  # type: ignore[no-untyped-call]
    return connection
