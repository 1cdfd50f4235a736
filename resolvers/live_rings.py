"""Writes what streams tell to their rings, some moments later and all streams at once: readers never wait for it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field

from core.errors import LiveUnavailable
from core.rings import KEPT_SECONDS, RingPart, Rings
from query.frames import encode_frame
from resolvers.live_stream import LiveStream

log = logging.getLogger(__name__)

WRITE_SECONDS = 0.05
RETRY_SECONDS = 1.0
MAX_RING_BYTES = 4 * 1024 * 1024
# A base is written again after so many frames or seconds: what is added up from it stays short.
BASE_FRAMES = 100
BASE_SECONDS = 60.0


@dataclass(slots=True)
class _Ring:
    """What the ring of one stream has: written up to a seq, its entries as (time, seq, bytes)."""

    written: int = 0
    base_seq: int = 0
    base_at: float = float("-inf")
    is_anew: bool = False
    entries: deque[tuple[float, int, int]] = field(default_factory=deque)
    size: int = 0


class RingWriter:
    """One a process."""

    def __init__(self, rings: Rings) -> None:
        self._rings = rings
        self._kept: dict[str, _Ring] = {}
        self._waiting: dict[str, LiveStream] = {}
        self._task: asyncio.Task[None] | None = None

    def note(self, stream: LiveStream) -> None:
        """It has told something."""
        self._waiting[stream.log.epoch] = stream
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._write_all())

    def distrust(self, stream: LiveStream) -> None:
        """The server may have lost some of its ring: it is written anew with what is still here."""
        if (ring := self._kept.get(stream.log.epoch)) is not None:
            ring.is_anew = True
            self.note(stream)

    def forget(self, stream: LiveStream) -> None:
        """It has ended; its ring stays for as long as it may be asked for."""
        self._kept.pop(stream.log.epoch, None)
        self._waiting.pop(stream.log.epoch, None)

    async def close(self) -> None:
        """Writes what is left, if Valkey is there."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        with suppress(LiveUnavailable, TimeoutError):
            async with asyncio.timeout(RETRY_SECONDS):
                await self._write()

    async def _write_all(self) -> None:
        while self._waiting:
            await asyncio.sleep(WRITE_SECONDS)
            try:
                await self._write()
            except LiveUnavailable:
                log.warning("rings wait", extra={"action": "live_reconnect"})
                await asyncio.sleep(RETRY_SECONDS)

    async def _write(self) -> None:
        waiting, self._waiting = self._waiting, {}
        parts = [self._part(stream) for stream in waiting.values()]
        written = None
        try:
            written = await self._rings.write(parts)
        finally:
            if written is None:
                self._waiting = {**waiting, **self._waiting}
        for (epoch, stream), part, is_written in zip(waiting.items(), parts, written, strict=True):
            if (ring := self._kept.get(epoch)) is None:
                continue
            ring.is_anew = not is_written
            if is_written and part.entries:
                ring.written = part.entries[-1][0]
            if part.base is not None and is_written:
                ring.base_seq, ring.base_at = part.base[0], time.monotonic()
            if not is_written:
                self._waiting.setdefault(epoch, stream)

    def _part(self, stream: LiveStream) -> RingPart:
        ring = self._kept.setdefault(stream.log.epoch, _Ring())
        frames = None if ring.is_anew else stream.log.since(ring.written)
        is_anew = frames is None
        if frames is None:
            # What the ring lacks is no longer here, or it cannot be trusted: all that is here, and nothing else.
            ring.entries.clear()
            ring.size = 0
            frames = stream.log.since(stream.log.oldest - 1) or []
        entries = [(frame.seq, encode_frame(frame)) for frame in frames]
        now = time.monotonic()
        for seq, data in entries:
            ring.entries.append((now, seq, len(data)))
            ring.size += len(data)
        while ring.entries and (ring.size > MAX_RING_BYTES or ring.entries[0][0] < now - KEPT_SECONDS):
            ring.size -= ring.entries.popleft()[2]
        oldest = ring.entries[0][1] if ring.entries else stream.log.seq + 1
        is_base_due = is_anew or stream.log.seq - ring.base_seq >= BASE_FRAMES or ring.base_seq < oldest - 1
        base = None
        if stream.log.is_answered and (is_base_due or now - ring.base_at > BASE_SECONDS):
            base = (stream.log.seq, encode_frame(stream.log.snapshot()))
        return RingPart(stream.key.tenant_id, stream.log.epoch, entries, base, oldest, is_anew)
