"""What the resolver of a live subscription gives: frames for whoever iterates it, and a place among a stream's readers
for whoever is to be told by a call, so that a thousand readers need no task and no queue each."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

from query.frames import Frame
from resolvers.context import Context
from resolvers.live_log import Reader
from resolvers.live_stream import LiveKey
from resolvers.series import Asking, live_frames


@dataclass(frozen=True, slots=True)
class LiveSource:
    """A stream as one caller may see it. Nothing is asked before it is iterated or read. Frames are shared: the same
    object for all readers of a stream, and never changed, so that who encodes one does so once."""

    context: Context
    key: LiveKey
    resume_from: str | None = None

    def __aiter__(self) -> AsyncIterator[Frame]:
        return live_frames(self.context, self.key, self.resume_from)

    def reading(self, wake: Callable[[], None]) -> AbstractAsyncContextManager[Reader]:
        """A place among its readers, whom `wake` tells that there may be something to take.

        Raises:
            BadInput: the cursor is none; TooMany: too many streams.
        """
        return self.context.backends.hub.reading(self.key, Asking(self.context), wake, self.resume_from)
