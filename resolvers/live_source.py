"""What the resolver of a live subscription gives: frames for whoever iterates it, and, so that a thousand readers need
no task and no queue each, frames by a call. All in one event loop; no call here waits."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol, runtime_checkable


class FrameReader(Protocol):
    """One who takes frames, in their order."""

    def offer(self, frame: object) -> bool:
        """Takes a frame, or has no room for it: False. Then nothing is offered, no heartbeat either, until it says
        that it is ready again; what it gets first is a GAP and a SNAPSHOT."""
        ...

    def end(self, error: Exception | None) -> None:
        """There will be no more; with the error that was the cause, or because it is over. Called at most once, and
        not after `close`."""
        ...


class Listening(Protocol):
    """A reader's place with a source."""

    def ready(self) -> None:
        """It has room again, after it had none."""
        ...

    def close(self) -> None:
        """It wants no more; any number of times."""
        ...


@runtime_checkable
class LiveSource(Protocol):
    """The stream as one reader sees it: first what is its own (a SNAPSHOT, or what it missed since its cursor), then
    the frames that it shares with others. A shared frame is the same object for all of them, and is never changed: who
    encodes it does so once. Nothing runs and nothing is asked before it is iterated or listened to."""

    def __aiter__(self) -> AsyncIterator[object]: ...

    def listen(self, reader: FrameReader) -> Listening:
        """From now on the reader is offered frames, perhaps within this call already.

        Raises:
            CloudMetricsError: what was asked cannot be streamed.
        """
        ...
