"""Live fan-out: `broadcaster` as the facade, over a backend of ours.

The stock Redis backend never recovers from a server restart, loses the first subscription on redis-py 8 and queues
without bound. Here a lost connection is made again, its channels subscribed again, and every reader is told
`RESYNC`; a reader that is too slow loses its oldest messages and is told so as well. Silence is never the answer.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from broadcaster import Broadcast, BroadcastBackend
from broadcaster._base import Event, Subscriber
from redis.asyncio import Redis

from core.errors import LiveUnavailable
from core.resets import resets_as_away
from core.valkey import VALKEY_AWAY, open_valkey

log = logging.getLogger(__name__)

# A message that says: something may be missing, look again.
RESYNC = ""
CONTROL_CHANNEL = "cm:live:control"
QUEUE_SIZE = 256
RECONNECT_SECONDS = (0.05, 2.0)
POLL_SECONDS = 1.0
PING_SECONDS = 5
CONNECT_SECONDS = 2.0


class NewestWins(asyncio.Queue[Event | None]):
    """A bounded queue that never blocks its writer: when full, everything goes and a `RESYNC` takes its place."""

    def __init__(self) -> None:
        super().__init__(QUEUE_SIZE)

    async def put(self, item: Event | None) -> None:
        if self.full():
            while not self.empty():
                self.get_nowait()
            item = Event(item.channel, RESYNC) if item is not None else None
        self.put_nowait(item)


class ValkeyBroadcastBackend(BroadcastBackend):
    """One pub/sub connection for all channels of this process."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._publisher = open_valkey(url, seconds=CONNECT_SECONDS, connections=4)
        self._channels: set[str] = {CONTROL_CHANNEL}
        self._waiting: asyncio.Queue[Event] = asyncio.Queue()
        self._client: Redis | None = None
        self._pubsub: Any = None
        self._changing = asyncio.Lock()

    async def connect(self) -> None:
        """Nothing yet: the listener connects, so that a process starts while the server is away."""

    async def disconnect(self) -> None:
        await self._drop_connection()
        await self._publisher.aclose()

    async def subscribe(self, group: str) -> None:
        self._channels.add(group)
        async with self._changing:
            if self._pubsub is not None:
                with suppress(*VALKEY_AWAY), resets_as_away():
                    await self._pubsub.subscribe(group)

    async def unsubscribe(self, group: str) -> None:
        self._channels.discard(group)
        async with self._changing:
            if self._pubsub is not None:
                with suppress(*VALKEY_AWAY), resets_as_away():
                    await self._pubsub.unsubscribe(group)

    async def publish(self, channel: str, message: Any) -> None:
        try:
            await self._publisher.publish(channel, message)
        except VALKEY_AWAY as error:
            raise LiveUnavailable(retry_after=1.0) from error

    async def next_published(self) -> Event:
        delay = RECONNECT_SECONDS[0]
        while True:
            if not self._waiting.empty():
                return self._waiting.get_nowait()
            try:
                with resets_as_away():
                    message = await self._next_message()
                delay = RECONNECT_SECONDS[0]
            except VALKEY_AWAY:
                log.warning("live connection lost", extra={"action": "live_reconnect"})
                await self._drop_connection()
                await asyncio.sleep(delay)
                delay = min(delay * 2, RECONNECT_SECONDS[1])
                continue
            if message is not None and message["type"] == "message":
                return Event(message["channel"].decode(), message["data"].decode())

    async def _next_message(self) -> Any:
        if self._pubsub is None:
            await self._make_connection()
        return await self._pubsub.get_message(ignore_subscribe_messages=True, timeout=POLL_SECONDS)

    async def _make_connection(self) -> None:
        async with self._changing:
            client = Redis.from_url(
                self._url,
                socket_timeout=CONNECT_SECONDS,
                socket_connect_timeout=CONNECT_SECONDS,
                health_check_interval=PING_SECONDS,
            )
            pubsub = client.pubsub()
            self._client = client
            await pubsub.subscribe(*self._channels)
            self._pubsub = pubsub
        for channel in self._channels - {CONTROL_CHANNEL}:
            self._waiting.put_nowait(Event(channel, RESYNC))

    async def _drop_connection(self) -> None:
        pubsub, client, self._pubsub, self._client = self._pubsub, self._client, None, None
        for part in (pubsub, client):
            if part is not None:
                with suppress(*VALKEY_AWAY):
                    await part.aclose()


class LiveReader(Subscriber):
    """One reader of a channel."""

    def __init__(self, queue: NewestWins) -> None:
        super().__init__(queue)
        self._waiting = queue

    async def next(self) -> str:
        """The next message; `RESYNC` when some may be missing."""
        return str((await self.get()).message)

    def drain(self) -> list[str]:
        """All messages that are there already."""
        messages = []
        while not self._waiting.empty():
            event = self._waiting.get_nowait()
            if event is not None:
                messages.append(str(event.message))
        return messages


class LiveBroadcast(Broadcast):
    """`Broadcast` whose readers have bounded queues and whose first and last readers cannot overtake each other."""

    def __init__(self, url: str) -> None:
        super().__init__(backend=ValkeyBroadcastBackend(url))
        self._joining = asyncio.Lock()

    async def __aenter__(self) -> LiveBroadcast:
        await self.connect()
        return self

    async def disconnect(self) -> None:
        self._listener_task.cancel()
        with suppress(asyncio.CancelledError):
            await self._listener_task
        await self._backend.disconnect()

    @asynccontextmanager
    async def subscribe(self, channel: str) -> AsyncIterator[LiveReader]:
        queue = NewestWins()
        async with self._joining:
            readers = self._subscribers.setdefault(channel, set())
            if not readers:
                await self._backend.subscribe(channel)
            readers.add(queue)
        try:
            yield LiveReader(queue)
        finally:
            async with self._joining:
                readers.discard(queue)
                if not readers:
                    self._subscribers.pop(channel, None)
                    await self._backend.unsubscribe(channel)
            await queue.put(None)
