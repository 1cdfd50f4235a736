"""The hub: every live question is asked once for all its readers in a process, however many they are.

A stream starts with its first reader and ends a little after its last. Its frames go to a ring too, from which a reader
that was cut goes on in another process: it gets what it missed of the old epoch, then one frame that leads into the new
one.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from core.errors import BadInput, LiveUnavailable, TooMany
from core.live import RESYNC, LiveBroadcast
from core.rings import Rings
from core.rollups import decode_notice
from core.tenancy import TenantId
from core.topics import live_channel
from query.frames import Frame, Shown, after_frame, decode_frame
from resolvers.live_cursors import Cursor, digest_of, new_epoch, read_cursor
from resolvers.live_log import Reader
from resolvers.live_rings import RingWriter
from resolvers.live_stream import Asker, LiveKey, LiveStream

log = logging.getLogger(__name__)

LINGER_SECONDS = 10.0
# With up to a tenth less for each, so that those who came together do not all come back together.
LIFE_SECONDS = 3600.0
MAX_STREAMS = 2000
MAX_STREAMS_OF_TENANT = 500
# Questions asked at once, by all streams and by those of one tenant: connections are left for queries, and a tenant's
# slow questions hold no others up.
PLACES = 6
PLACES_OF_TENANT = 2


@dataclass(slots=True)
class _TenantStreams:
    """A tenant's streams, and who reads its channel for them."""

    streams: dict[LiveKey, LiveStream] = field(default_factory=dict)
    places: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(PLACES_OF_TENANT))
    is_hearing: asyncio.Event = field(default_factory=asyncio.Event)
    feed: asyncio.Task[None] | None = None


class LiveHub:
    """The streams of one process. `secret` signs epochs."""

    def __init__(self, live: LiveBroadcast, rings: Rings, *, secret: bytes, heartbeat_seconds: float) -> None:
        self._live = live
        self._rings = rings
        self._writer = RingWriter(rings)
        self._secret = secret
        self._heartbeat_seconds = heartbeat_seconds
        self._streams: dict[LiveKey, LiveStream] = {}
        self._tasks: dict[LiveKey, asyncio.Task[None]] = {}
        self._endings: dict[LiveKey, asyncio.TimerHandle] = {}
        self._tenants: dict[TenantId, _TenantStreams] = {}
        self._places = asyncio.Semaphore(PLACES)

    @asynccontextmanager
    async def reading(
        self,
        key: LiveKey,
        asker: Asker,
        wake: Callable[[], None],
        resume_from: str | None = None,
        *,
        is_forgiving: bool = False,
    ) -> AsyncIterator[Reader]:
        """A place among the readers of a stream. With `resume_from`, a frame's cursor, it goes on from there: with
        what was missed, or, where that is no longer known, with a GAP and the whole; so too, when it `is_forgiving`,
        with a cursor that is none.

        Raises:
            BadInput: the cursor is none that this tenant was ever sent.
            TooMany: there are as many streams as there may be.
        """
        cursor = None
        try:
            cursor = read_cursor(resume_from, key.tenant_id, self._secret) if resume_from is not None else None
        except BadInput:
            if not is_forgiving:
                raise
        stream = self._stream(key, asker)
        reader = Reader(stream, wake, time.monotonic() + LIFE_SECONDS * random.uniform(0.9, 1.0))
        stream.readers.add(reader)
        try:
            if cursor is None:
                reader.begin(is_gap=resume_from is not None)
            else:
                await self._place(stream, reader, cursor)
            yield reader
        finally:
            stream.readers.discard(reader)
            if not stream.readers and self._streams.get(key) is stream:
                self._end_later(key)

    async def close(self) -> None:
        """Ends all streams."""
        for ending in self._endings.values():
            ending.cancel()
        tasks = [*self._tasks.values(), *(part.feed for part in self._tenants.values() if part.feed)]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._writer.close()

    def streams(self) -> Sequence[LiveStream]:
        """Those that run now."""
        return list(self._streams.values())

    def _stream(self, key: LiveKey, asker: Asker) -> LiveStream:
        stream = self._streams.get(key)
        if stream is not None and stream.error is None:
            if (ending := self._endings.pop(key, None)) is not None:
                ending.cancel()
            stream.asker = asker
            return stream
        if stream is not None:
            self._end(key)
        self._check_room(key.tenant_id)
        of_tenant = self._tenants.setdefault(key.tenant_id, _TenantStreams())
        places = (of_tenant.places, self._places)
        stream = LiveStream(key, new_epoch(key, self._secret), asker, places, self._heartbeat_seconds)
        stream.on_frame = self._writer.note
        self._streams[key] = of_tenant.streams[key] = stream
        if of_tenant.feed is None:
            of_tenant.feed = asyncio.create_task(self._feed(key.tenant_id, of_tenant))
        self._tasks[key] = asyncio.create_task(stream.run(of_tenant.is_hearing))
        return stream

    def _check_room(self, tenant_id: TenantId) -> None:
        for count, most, where in (
            (
                len(self._tenants[tenant_id].streams) if tenant_id in self._tenants else 0,
                MAX_STREAMS_OF_TENANT,
                "of this tenant",
            ),
            (len(self._streams), MAX_STREAMS, "in all"),
        ):
            if count >= most:
                raise TooMany(
                    f"There are {most} different live questions {where} in this process, the most there may be; "
                    "ask some of the same, or end some.",
                    retry_after=LINGER_SECONDS,
                    code="too_many_streams",
                )

    def _end_later(self, key: LiveKey) -> None:
        loop = asyncio.get_running_loop()
        self._endings[key] = loop.call_later(LINGER_SECONDS, self._end, key)

    def _end(self, key: LiveKey) -> None:
        if (ending := self._endings.pop(key, None)) is not None:
            ending.cancel()
        self._writer.forget(self._streams.pop(key))
        self._tasks.pop(key).cancel()
        of_tenant = self._tenants[key.tenant_id]
        del of_tenant.streams[key]
        if not of_tenant.streams:
            del self._tenants[key.tenant_id]
            if of_tenant.feed is not None:
                of_tenant.feed.cancel()

    async def _feed(self, tenant_id: TenantId, of_tenant: _TenantStreams) -> None:
        """Passes word of a tenant's changes on; read and decoded once for all its streams."""
        async with self._live.subscribe(live_channel(tenant_id)) as channel:
            of_tenant.is_hearing.set()
            while True:
                message = await channel.next()
                if message == RESYNC:
                    for stream in of_tenant.streams.values():
                        stream.hear_of_gap()
                        self._writer.distrust(stream)
                    continue
                notice = decode_notice(message)
                for stream in of_tenant.streams.values():
                    stream.hear(notice)

    async def _place(self, stream: LiveStream, reader: Reader, cursor: Cursor) -> None:
        if cursor.digest != digest_of(stream.key):
            reader.begin(is_gap=True)
            return
        if cursor.epoch == stream.log.epoch and (missed := stream.log.since(cursor.seq)) is not None:
            reader.follow(missed)
            return
        found = await self._kept(stream, cursor)
        if found is None:
            reader.begin(is_gap=True)
        elif cursor.epoch != stream.log.epoch:
            reader.resume(*found)
        elif (rest := stream.log.since(found[0][-1].seq if found[0] else cursor.seq)) is not None:
            reader.follow([*found[0], *rest])
        else:
            reader.begin(is_gap=True)

    async def _kept(self, stream: LiveStream, cursor: Cursor) -> tuple[list[Frame], list[Shown]] | None:
        """What the ring of an epoch has after a cursor, and what a reader has after that; None where it cannot say."""
        try:
            base, entries = await self._rings.read(stream.key.tenant_id, cursor.epoch)
            frames = [decode_frame(data) for _, data in entries]
            start = decode_frame(base) if base is not None else None
        except (LiveUnavailable, ValueError):
            return None
        if start is None or not frames or not frames[0].seq - 1 <= cursor.seq <= frames[-1].seq:
            return None
        if frames[-1].seq - frames[0].seq != len(frames) - 1 or not frames[0].seq - 1 <= start.seq <= frames[-1].seq:
            return None
        has = after_frame([], start)
        for frame in frames:
            if frame.seq > start.seq:
                has = after_frame(has, frame)
        if len(has) != len(stream.key.questions):
            return None
        missed = [frame for frame in frames if frame.seq > cursor.seq]
        return missed, has
