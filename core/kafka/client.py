"""What the parts of the Kafka log share: sizes, time-outs, and what a failing broker looks like."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import ConsumerStoppedError, KafkaError, for_code
from aiokafka.protocol.commit import OffsetFetchRequest

from core.errors import LogUnavailable
from core.resets import resets_as_away

log = logging.getLogger("core.kafka")

# What a broker that is away, starting, moving or frozen looks like from here.
KAFKA_AWAY = (KafkaError, ConsumerStoppedError, OSError, TimeoutError)
# A body of 4 MiB and its header fit; a reader must be able to take what a writer may send (aio-libs/aiokafka#1173).
MAX_RECORD_BYTES = 8 * 1024 * 1024
REQUEST_SECONDS = 4.0
# Clients may hang for ever while they stop (aio-libs/aiokafka#1101).
STOP_SECONDS = 5.0
CLOSE_SECONDS = 1.0
PROBE_SECONDS = 2.0
# New topics are found within this time.
METADATA_SECONDS = 2.0
# Who has not heard of its brokers for this long, or failed all the time, is replaced.
STUCK_SECONDS = 10.0


@asynccontextmanager
async def kafka_errors() -> AsyncIterator[None]:
    """Turns what the client raises into errors of the log."""
    try:
        with resets_as_away():
            yield
    except KAFKA_AWAY as error:
        raise LogUnavailable(retry_after=1.0) from error


async def stop_within(client: Any, seconds: float = STOP_SECONDS) -> None:
    """Stops a producer, consumer or admin client, or gives up on it; its connections are closed either way."""
    stop = client.close if isinstance(client, AIOKafkaAdminClient) else client.stop
    if await _ends_within(stop(), seconds):
        return
    log.warning("a Kafka client did not stop in time", extra={"action": "leave_group"})
    for task in _tasks_of(client):
        task.cancel()
    await _ends_within(connections_of(client).close(), CLOSE_SECONDS)


async def _ends_within(work: Coroutine[Any, Any, None], seconds: float) -> bool:
    """Whether it ended well in time; if not it is left to itself: while they stop, clients swallow a cancellation, so
    that a time-out around them would wait for ever."""
    task = asyncio.create_task(work)
    try:
        done, _ = await asyncio.wait({task}, timeout=seconds)
    finally:
        task.cancel()
    return bool(done) and not task.cancelled() and task.exception() is None


async def is_answering(brokers: str) -> bool:
    """Whether a client that comes now hears of the brokers."""
    probe = AIOKafkaClient(bootstrap_servers=brokers, request_timeout_ms=int(PROBE_SECONDS * 1000))
    try:
        with resets_as_away():
            await probe.bootstrap()
        return True
    except KAFKA_AWAY:
        return False
    finally:
        await _ends_within(probe.close(), CLOSE_SECONDS)


def connections_of(client: Any) -> Any:
    """aiokafka's own client of connections and metadata, within a producer, consumer or admin client."""
    return client.client if isinstance(client, AIOKafkaProducer) else client._client


def heed_group_errors(client: Any) -> None:
    """Lets a client notice that its group's coordinator is still loading, as it is after a restart.

    The answer to OffsetFetch has an error of the group beside those of its partitions (since version 2, KIP-88), and
    aiokafka 0.14 reads only the latter: a group that is not loaded yet looks like one that never committed, and its
    members begin at the beginning of everything.
    """
    connections = connections_of(client)
    send = connections.send

    async def checked(node_id: int, request: Any, **options: Any) -> Any:
        response = await send(node_id, request, **options)
        if isinstance(request, OffsetFetchRequest) and getattr(response, "error_code", None):
            raise for_code(response.error_code)()
        return response

    connections.send = checked


class Pulse:
    """Whether a client still hears of its brokers.

    Over a connection whose other side is gone aiokafka asks for ever, since only a request of its own choice closes it;
    and what uvloop raises of a reset connection (see `core.resets`) ends the tasks that it runs for itself, of which
    nobody hears. A client asks for news of its topics every few seconds; one without any is of no use.
    """

    def __init__(self, client: Any) -> None:
        self._client = client
        self.begin_anew()
        connections_of(client).cluster.add_listener(self._hear)

    def begin_anew(self) -> None:
        self._heard_at = time.monotonic()

    def _hear(self, _: object) -> None:
        self.begin_anew()

    def is_gone(self) -> bool:
        """Whether the client will not heal by itself."""
        return has_dead_task(self._client) or time.monotonic() - self._heard_at > STUCK_SECONDS


def has_dead_task(client: Any) -> bool:
    """Whether one of the tasks that a started client runs for itself has ended."""
    return any(task.done() for task in _tasks_of(client))


def _tasks_of(client: Any) -> list[asyncio.Task[Any]]:
    owners = (
        (connections_of(client), "_sync_task"),
        (getattr(client, "_fetcher", None), "_fetch_task"),
        (getattr(client, "_coordinator", None), "_coordination_task"),
        (getattr(client, "_sender", None), "_sender_task"),
    )
    tasks = [getattr(owner, name, None) for owner, name in owners]
    return [task for task in tasks if task is not None]
