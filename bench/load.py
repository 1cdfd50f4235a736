"""The load: keep-alive connections over raw sockets, each sending its next request when the last was answered.

It is a tenth of the cost of an HTTP client, so that the one core it shares with the servers beside it does not limit
what is measured; requests are built and signed before the clock starts.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

LENGTH = b"content-length: "
END = b"\r\n\r\n"


@dataclass(slots=True)
class Outcome:
    """What came back: answers by status, the seconds it took, and one refusal's text."""

    seconds: float = 0.0
    statuses: Counter[int] = field(default_factory=Counter)
    latencies: list[float] = field(default_factory=list)
    refusal: str = ""

    @property
    def accepted(self) -> int:
        return self.statuses[202]

    def checked(self) -> Outcome:
        """Itself, when every answer was a 202.

        Raises:
            RuntimeError: a round with refusals measures refusals.
        """
        if set(self.statuses) - {202} or not self.accepted:
            raise RuntimeError(f"not only 202: {dict(self.statuses)}; {self.refusal}")
        return self


class _Connection(asyncio.Protocol):
    """One keep-alive connection; `ended` is done when there is nothing left to send."""

    def __init__(self, requests: Iterator[bytes], outcome: Outcome, until: float) -> None:
        self._requests = requests
        self._outcome = outcome
        self._until = until
        self._buffer = b""
        self._sent_at = 0.0
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    # uvloop's transport is no asyncio.Transport.
    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._send()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head = self._buffer.find(END)
        if head < 0:
            return
        at = self._buffer.lower().find(LENGTH, 0, head) + len(LENGTH)
        length = int(self._buffer[at : self._buffer.find(b"\r\n", at)])
        if len(self._buffer) < head + len(END) + length:
            return
        status = int(self._buffer[9:12])
        self._outcome.statuses[status] += 1
        self._outcome.latencies.append(time.perf_counter() - self._sent_at)
        if status != 202:
            self._outcome.refusal = self._buffer[head + 4 : head + 300].decode()
        self._buffer = b""
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


async def send_all(port: int, requests: Sequence[bytes], *, seconds: float, connections: int = 16) -> Outcome:
    """Sends until all were sent or time is up; what is under way is finished."""
    outcome = Outcome()
    following = iter(requests)
    started = time.perf_counter()
    loop = asyncio.get_running_loop()
    ends = []
    for _ in range(connections):
        _, protocol = await loop.create_connection(
            lambda: _Connection(following, outcome, started + seconds), "127.0.0.1", port
        )
        ends.append(protocol.ended)
    await asyncio.gather(*ends)
    outcome.seconds = time.perf_counter() - started
    return outcome
