"""The frames of a live stream that its process still has, and the readers that follow them.

Readers share frames: each keeps only its place, so that one that takes nothing costs nothing and delays nobody. When
what it has not taken is no longer here, it gets a GAP and the whole as it is then.
"""

from __future__ import annotations

import itertools
import time
from collections import deque
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Protocol

from core.errors import CloudMetricsError, Retryable
from query.frames import Change, Frame, FrameKind, Shown, bridge, whole

KEPT_SECONDS = 300.0
MAX_KEPT_BYTES = 512 * 1024
# A reader that is further behind is told the whole, which is shorter.
MAX_BEHIND = 64
RECONNECT_SECONDS = 1.0


class GoingAway(Retryable):
    """The stream has lived its time; open it anew with `resumeFrom`, the last frame's cursor."""

    status = 503
    default_code = "going_away"


class FrameLog:
    """Frames of one epoch, oldest first, without a hole; bounded by time and bytes, but for the newest."""

    def __init__(self, epoch: str, questions: int) -> None:
        self.epoch = epoch
        self.seq = 0
        self.shown = [Shown()] * questions
        self.watermark: datetime | None = None
        # Before there is an answer a reader has nothing to begin with.
        self.is_answered = False
        self.newest: tuple[Frame, ...] = ()
        self._frames: deque[tuple[float, Frame]] = deque()
        self._bytes = 0
        self._snapshot: Frame | None = None

    def add(self, kind: FrameKind, changes: Sequence[Change] = ()) -> Frame:
        """The next frame."""
        self.seq += 1
        frame = Frame(kind, self.seq, self.epoch, self.watermark, tuple(changes))
        now = time.monotonic()
        self._frames.append((now, frame))
        self._bytes += frame.size
        while len(self._frames) > 1 and (self._bytes > MAX_KEPT_BYTES or self._frames[0][0] < now - KEPT_SECONDS):
            self._bytes -= self._frames.popleft()[1].size
        self._snapshot = None
        self.newest = (frame,)
        return frame

    def since(self, seq: int) -> list[Frame] | None:
        """The frames after one; None when some of them are no longer here, or it never was."""
        count = self.seq - seq
        if not 0 <= count <= len(self._frames):
            return None
        return [frame for _, frame in itertools.islice(self._frames, len(self._frames) - count, None)]

    @property
    def oldest(self) -> int:
        """The first that is still here."""
        return self.seq - len(self._frames) + 1

    def snapshot(self) -> Frame:
        """The whole as of the newest frame; made once for all who begin here."""
        if self._snapshot is None:
            self._snapshot = Frame(FrameKind.SNAPSHOT, self.seq, self.epoch, self.watermark, whole(self.shown))
        return self._snapshot

    def gap(self) -> Frame:
        """What stands before that snapshot for a reader that missed something."""
        return Frame(FrameKind.GAP, max(0, self.seq - 1), self.epoch, self.watermark)


class Source(Protocol):
    """What readers read: a running stream. `error`: what it ended of."""

    log: FrameLog
    error: CloudMetricsError | None


class Reader:
    """One reader's place in a stream. `wake` is called, in the event loop, when there may be something to take; it
    must not block."""

    def __init__(self, source: Source, wake: Callable[[], None], ends_at: float) -> None:
        self._source = source
        self.wake = wake
        self._ends_at = ends_at
        self._owed: list[Frame] = []
        self._place: int | None = None
        # What it has already, of another epoch or before a hole; None: nothing.
        self._has: list[Shown] | None = None
        self._is_over = False

    def begin(self, *, is_gap: bool = False) -> None:
        """Begins with the whole."""
        log = self._source.log
        if is_gap:
            self._owed.append(log.gap())
        if log.is_answered:
            self._owed.append(log.snapshot())
        self._place = log.seq

    def follow(self, missed: Sequence[Frame]) -> None:
        """Goes on in this epoch after these."""
        self._owed.extend(missed)
        self._place = self._source.log.seq

    def resume(self, missed: Sequence[Frame], has: Sequence[Shown]) -> None:
        """Gets what it missed of another epoch, after which it `has` this; the difference follows."""
        self._owed.extend(missed)
        self._has = list(has)
        self._place = self._source.log.seq

    def take(self) -> Sequence[Frame]:
        """What there is for it now, in order; often nothing.

        Raises:
            GoingAway: it has read for as long as a reader may.
            CloudMetricsError: the stream ended.
        """
        if self._is_over:
            raise GoingAway(retry_after=RECONNECT_SECONDS)
        log = self._source.log
        if self._place == log.seq - 1 and self._has is None and not self._owed:
            # As nearly always, for each of a thousand readers: up to date, and one frame is new.
            self._place = log.seq
            self._is_over = time.monotonic() > self._ends_at
            return log.newest
        frames, self._owed = self._owed, []
        frames += self._bridged() if self._has is not None else self._followed()
        if not frames and self._source.error is not None:
            raise self._source.error
        # What it is given now is its last: a stream that always has something must end as well.
        self._is_over = time.monotonic() > self._ends_at
        return frames

    def _followed(self) -> list[Frame]:
        log = self._source.log
        place, self._place = self._place, log.seq
        assert place is not None
        missed = log.since(place) if log.seq - place <= MAX_BEHIND else None
        if missed is not None:
            return missed
        return [log.gap(), log.snapshot()] if log.is_answered else []

    def _bridged(self) -> list[Frame]:
        """From another epoch into this one: once there is an answer, what differs. Until then only heartbeats."""
        log = self._source.log
        if not log.is_answered:
            return self._followed()
        assert self._has is not None
        kind, changes = bridge(self._has, log.shown)
        self._has, self._place = None, log.seq
        return [Frame(kind, log.seq, log.epoch, log.watermark, changes)]
