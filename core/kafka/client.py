"""What the parts of the Kafka log share: sizes, time-outs, and what a failing broker looks like."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiokafka.errors import ConsumerStoppedError, KafkaError

from core.errors import LogUnavailable

log = logging.getLogger("core.kafka")

# What a broker that is away, starting, moving or frozen looks like from here.
KAFKA_AWAY = (KafkaError, ConsumerStoppedError, OSError, TimeoutError)
# A body of 4 MiB and its header fit; a reader must be able to take what a writer may send (aio-libs/aiokafka#1173).
MAX_RECORD_BYTES = 8 * 1024 * 1024
REQUEST_SECONDS = 4.0
# Clients may hang for ever while they stop (aio-libs/aiokafka#1101).
STOP_SECONDS = 5.0
# New topics are found within this time.
METADATA_SECONDS = 2.0


@asynccontextmanager
async def kafka_errors() -> AsyncIterator[None]:
    """Turns what the client raises into errors of the log."""
    try:
        yield
    except KAFKA_AWAY as error:
        raise LogUnavailable(retry_after=1.0) from error


async def stop_within(client: Any, seconds: float = STOP_SECONDS) -> None:
    """Stops a producer, consumer or admin client, or gives up on it."""
    try:
        async with asyncio.timeout(seconds):
            await client.stop()
    except KAFKA_AWAY:
        log.warning("a Kafka client did not stop in time", extra={"action": "leave_group"})
