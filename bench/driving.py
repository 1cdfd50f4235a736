"""What a fan-out server is told on stdin while it is measured: `rate N` messages a second to each tenant, 0 none, or
`flood`, as many as its readers take. The same for ours and for peers in Python; `limits/fanout.c` and
`peers/graphql_ws.mjs` read the same words."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable

FLOOD = -1


def now_us() -> int:
    """What a message bears as its total, so that its age can be told in another process."""
    return time.monotonic_ns() // 1000


class Driver:
    """Calls `say` with the number of a message for all tenants; in a flood the next one when `is_taken`."""

    def __init__(self, say: Callable[[int], None], is_taken: Callable[[], bool] = lambda: True) -> None:
        self._say = say
        self._is_taken = is_taken
        self._rate = 0
        self._changed = asyncio.Event()

    async def run(self) -> None:
        """Until stdin ends."""
        loop = asyncio.get_running_loop()
        ended = asyncio.Event()
        loop.add_reader(0, self._read, ended)
        speaking = asyncio.create_task(self._speak())
        await ended.wait()
        speaking.cancel()

    def _read(self, ended: asyncio.Event) -> None:
        line = sys.stdin.readline()
        if not line:
            asyncio.get_running_loop().remove_reader(0)
            ended.set()
            return
        word, _, number = line.strip().partition(" ")
        self._rate = FLOOD if word == "flood" else int(number)
        self._changed.set()

    async def _speak(self) -> None:
        while True:
            if self._rate == 0:
                self._changed.clear()
                await self._changed.wait()
                due = time.monotonic()
            elif self._rate == FLOOD:
                if self._is_taken():
                    self._say(now_us())
                await asyncio.sleep(0)
            else:
                self._say(now_us())
                due = max(due + 1 / self._rate, time.monotonic() - 1)
                await asyncio.sleep(max(0.0, due - time.monotonic()))
