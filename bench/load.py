"""The load: keep-alive connections over raw sockets, each sending its next request when the last was answered.

It is a tenth of the cost of an HTTP client, so that the one core it shares with the servers beside it does not limit
what is measured; requests are built and signed before the clock starts.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

LENGTH = b"content-length: "
END = b"\r\n\r\n"


@dataclass(slots=True)
class Outcome:
    """What came back: answers by status, the seconds it took, and one refusal's text. `expected`: the good status."""

    expected: int = 202
    seconds: float = 0.0
    statuses: Counter[int] = field(default_factory=Counter)
    latencies: list[float] = field(default_factory=list)
    refusal: str = ""

    @property
    def accepted(self) -> int:
        return self.statuses[self.expected]

    def checked(self) -> Outcome:
        """Itself, when every answer had the good status.

        Raises:
            RuntimeError: a round with refusals measures refusals.
        """
        if set(self.statuses) - {self.expected} or not self.accepted:
            raise RuntimeError(f"not only {self.expected}: {dict(self.statuses)}; {self.refusal}")
        return self


class _Connection(asyncio.Protocol):
    """One keep-alive connection; `ended` is done when there is nothing left to send."""

    def __init__(self, requests: Iterator[bytes], outcome: Outcome) -> None:
        self._requests = requests
        self._outcome = outcome
        self._until = 0.0
        self._buffer = bytearray()
        self._whole = 0
        self._sent_at = 0.0
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    # uvloop's transport is no asyncio.Transport.
    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def begin(self, until: float) -> None:
        """Sends the first request; none after `until`."""
        self._until = until
        self._send()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        # A large answer comes in many parts: its head is read once.
        if not self._whole:
            head = self._buffer.find(END)
            if head < 0:
                return
            at = self._buffer[:head].lower().find(LENGTH) + len(LENGTH)
            self._whole = head + len(END) + int(self._buffer[at : self._buffer.find(b"\r\n", at)])
        if len(self._buffer) < self._whole:
            return
        status = int(self._buffer[9:12])
        self._outcome.statuses[status] += 1
        self._outcome.latencies.append(time.perf_counter() - self._sent_at)
        # GraphQL says by 200 that it has failed.
        is_failed = status == 200 and b'"errors":[' in self._buffer[:3000]
        if is_failed:
            self._outcome.statuses[-status] += 1
        if is_failed or status != self._outcome.expected:
            self._outcome.refusal = self._buffer[:800].decode()
        self._buffer, self._whole = bytearray(), 0
        self._send()

    def connection_lost(self, error: Exception | None) -> None:
        if not self.ended.done():
            self.ended.set_exception(error or ConnectionError("the server closed the connection"))

    def _send(self) -> None:
        self._sent_at = time.perf_counter()
        request = next(self._requests, None) if self._sent_at < self._until else None
        if request is None:
            self.ended.set_result(None)
            self._transport.close()
        else:
            self._transport.write(request)


async def send_all(
    port: int, requests: Iterable[bytes], *, seconds: float, connections: int = 16, expected: int = 202
) -> Outcome:
    """Sends until all were sent or time is up; what is under way is finished."""
    outcome = Outcome(expected=expected)
    following = iter(requests)
    loop = asyncio.get_running_loop()
    made = [
        await loop.create_connection(lambda: _Connection(following, outcome), "127.0.0.1", port)
        for _ in range(connections)
    ]
    started = time.perf_counter()
    for _, protocol in made:
        protocol.begin(started + seconds)
    await asyncio.gather(*(protocol.ended for _, protocol in made))
    outcome.seconds = time.perf_counter() - started
    return outcome
