"""Clients of Valkey (or Redis 7.2+), each for one use, opened in one place.

redis-py retries ten times by default, which makes a limiter wait seconds when the server is frozen: every client
here has its own short time-outs. Blocking reads block for less than their socket time-out.
"""

from __future__ import annotations

from redis.asyncio import Redis
from redis.asyncio.connection import BlockingConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import ConstantBackoff
from redis.exceptions import RedisError

# What a server that is away, starting, full or frozen looks like from here.
VALKEY_AWAY = (RedisError, OSError, TimeoutError)


def open_valkey(url: str, *, seconds: float, connections: int = 16) -> Redis:
    """A client whose every call ends within about twice `seconds`; one retry heals a restarted server."""
    pool = BlockingConnectionPool.from_url(
        url,
        max_connections=connections,
        timeout=seconds,
        socket_timeout=seconds,
        socket_connect_timeout=min(seconds, 2.0),
        retry=Retry(ConstantBackoff(0.02), 1),
        health_check_interval=0,
    )
    return Redis(connection_pool=pool)
