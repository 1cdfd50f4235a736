"""Commands of many requests on one connection: those that come while a turn is under way go out together as the next.

A call by itself costs the client more than the server. Under load a turn carries the commands of several requests in
one write, and their answers come in one read; a request that is alone is sent at once.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from typing import Any

from redis.exceptions import ConnectionError as ValkeyConnectionError
from redis.exceptions import ResponseError

from core.resets import resets_as_away
from core.valkey import open_connection

RETRY_PAUSE_SECONDS = 0.02
_END = b"\r\n"

_Ask = tuple[Sequence[bytes], asyncio.Future[list[Any]]]


class Turns:
    """Only for commands that may be sent twice: one retry heals a restarted server."""

    def __init__(self, url: str, *, seconds: float) -> None:
        self._connection = open_connection(url, seconds=seconds)
        self._seconds = seconds
        self._waiting: list[_Ask] = []
        self._runner: asyncio.Task[None] | None = None

    async def ask(self, *commands: bytes) -> list[Any]:
        """The answers to commands as `command` makes them, within about twice `seconds`.

        Raises:
            RedisError, OSError, TimeoutError: no answer, or one of them was refused.
        """
        answers: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()
        self._waiting.append((commands, answers))
        if self._runner is None:
            self._runner = asyncio.create_task(self._take_turns())
        return await answers

    async def close(self) -> None:
        if self._runner is not None:
            self._runner.cancel()
            await asyncio.gather(self._runner, return_exceptions=True)
        await self._connection.disconnect()

    async def _take_turns(self) -> None:
        turn: list[_Ask] = []
        try:
            while self._waiting:
                turn, self._waiting = self._waiting, []
                try:
                    async with asyncio.timeout(self._seconds):
                        await self._exchange(turn)
                except Exception as error:
                    _fail(turn, error)
        finally:
            self._runner = None
            _fail(turn + self._waiting, ConnectionError("the connection was closed"))
            self._waiting = []

    async def _exchange(self, turn: Sequence[_Ask]) -> None:
        sent = [part for commands, _ in turn for part in commands]
        try:
            with resets_as_away():
                await self._connection.send_packed_command(sent)
                first = await self._answer()
        except (ValkeyConnectionError, OSError):
            # A server that was restarted closed the old connection. Nothing was answered yet.
            await asyncio.sleep(RETRY_PAUSE_SECONDS)
            with resets_as_away():
                await self._connection.send_packed_command(sent)
                first = await self._answer()
        following = [first]
        for commands, future in turn:
            answers = following + [await self._answer() for _ in commands[len(following) :]]
            following = []
            refusal = next((answer for answer in answers if isinstance(answer, ResponseError)), None)
            if future.done():
                continue
            if refusal is None:
                future.set_result(answers)
            else:
                future.set_exception(refusal)

    async def _answer(self) -> Any:
        try:
            return await self._connection.read_response(timeout=math.inf)
        except ResponseError as refusal:
            # It is an answer like any other: what follows it on the connection is still to be read.
            return refusal


def command(words: Sequence[bytes], members: bytes = b"", count: int = 0) -> bytes:
    """A command in the server's protocol; `members` are `count` more arguments, as `parts` makes them."""
    head = b"".join([b"$%d\r\n%b\r\n" % (len(word), word) for word in words])
    return b"*%d\r\n%b%b" % (len(words) + count, head, members)


def parts(joined: bytes, size: int) -> bytes:
    """Arguments of `size` bytes each, out of one string of all: a join in C, not an object and a call for each."""
    before = b"$%d\r\n" % size
    pieces = [joined[at : at + size] for at in range(0, len(joined), size)]
    return before + (_END + before).join(pieces) + _END


def _fail(turn: Sequence[_Ask], error: Exception) -> None:
    for _, future in turn:
        if not future.done():
            future.set_exception(error)
