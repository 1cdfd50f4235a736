"""Kafka's frames as a proxy meets them: replies to Produce made to fail, Produce to a topic cut off.

A frame is its length (4 bytes), then, of a request, the number of its kind (2; 0 is Produce), version (2) and
correlation id (4); of a reply, the correlation id of its request. Up to version 8, which aiokafka speaks at most, a
reply to Produce goes on: topics (4), name (2 + n), partitions (4), partition (4), error (2).
"""

from __future__ import annotations

import struct
from collections.abc import Callable

from tests.faults.proxy import Cut

PRODUCE = 0
OUT_OF_ORDER_SEQUENCE = 45
_REQUEST = struct.Struct(">ihhi")
_REPLY = struct.Struct(">iii")


class Frames:
    """A stream's bytes as whole frames."""

    def __init__(self) -> None:
        self._rest = b""

    def take(self, data: bytes) -> list[bytes]:
        """The frames that are complete with these bytes."""
        self._rest += data
        whole = []
        while len(self._rest) >= 4 and len(self._rest) >= (end := 4 + int.from_bytes(self._rest[:4], "big")):
            whole.append(self._rest[:end])
            self._rest = self._rest[end:]
        return whole


def failing_produce(times: int, error: int = OUT_OF_ORDER_SEQUENCE) -> Callable[[], tuple[Cut, Cut]]:
    """The next replies to Produce, over all connections, say that error; the broker has the records all the same."""
    left = times

    def edits() -> tuple[Cut, Cut]:
        asked, requests, replies = set[int](), Frames(), Frames()

        def up(data: bytes) -> bytes:
            for frame in requests.take(data):
                _, kind, _, correlation = _REQUEST.unpack_from(frame)
                if kind == PRODUCE:
                    asked.add(correlation)
            return data

        def down(data: bytes) -> bytes:
            nonlocal left
            frames = replies.take(data)
            for n, frame in enumerate(frames):
                _, correlation, topics = _REPLY.unpack_from(frame)
                if correlation in asked and left > 0 and topics > 0:
                    left -= 1
                    frames[n] = _with_error(frame, error)
                asked.discard(correlation)
            return b"".join(frames)

        return up, down

    return edits


def _with_error(frame: bytes, error: int) -> bytes:
    at = _REPLY.size
    at += 2 + int.from_bytes(frame[at : at + 2], "big") + 4 + 4
    return frame[:at] + error.to_bytes(2, "big") + frame[at + 2 :]


def no_produce_to(topic: bytes) -> Callable[[], tuple[Cut, Cut]]:
    """Connections that produce to a topic are cut before the broker hears of it."""

    def edits() -> tuple[Cut, Cut]:
        requests = Frames()

        def up(data: bytes) -> bytes | None:
            frames = requests.take(data)
            for frame in frames:
                if _REQUEST.unpack_from(frame)[1] == PRODUCE and topic in frame:
                    return None
            return b"".join(frames)

        return up, lambda data: data

    return edits
