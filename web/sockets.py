"""What every WebSocket of ours does alike: it is closed with a code and a reason, sends within a bound, and takes so
many messages."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress

from starlette.websockets import WebSocket, WebSocketDisconnect

SEND_SECONDS = 30.0
CLOSE_SECONDS = 2.0


class ProtocolViolation(Exception):
    """The socket is closed with this code and reason."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        # A close frame holds 123 bytes of reason (RFC 6455, 5.5).
        self.reason = reason.encode()[:120].decode(errors="ignore")


class ReaderGone(Exception):
    """The other side has closed, or takes nothing any more."""


class MessageBudget:
    """How many messages a socket may send: a burst, then so many a second."""

    def __init__(self, *, burst: int, a_second: float, what: str = "messages") -> None:
        self._burst, self._a_second, self._what = burst, a_second, what
        self._left = float(burst)
        self._at = time.monotonic()

    def spend(self) -> None:
        """One message.

        Raises:
            ProtocolViolation: 4429, too many.
        """
        now = time.monotonic()
        self._left = min(self._burst, self._left + (now - self._at) * self._a_second) - 1
        self._at = now
        if self._left < 0:
            raise ProtocolViolation(4429, f"More than {self._a_second:.0f} {self._what} a second; send fewer.")


class Speaker:
    """The sending half of a socket, for any number of tasks."""

    def __init__(self, socket: WebSocket) -> None:
        self._socket = socket
        self._sending = asyncio.Lock()

    async def send(self, text: str) -> None:
        """Sends, or closes: a reader that takes nothing for half a minute is gone.

        Raises:
            ReaderGone: nobody is there any more.
        """
        try:
            async with self._sending:
                async with asyncio.timeout(SEND_SECONDS):
                    await self._socket.send_text(text)
        except TimeoutError:
            await self.close(4508, "Too slow: nothing was taken for half a minute.")
            raise ReaderGone from None
        except (RuntimeError, WebSocketDisconnect):
            raise ReaderGone from None

    async def close(self, code: int, reason: str) -> None:
        with suppress(RuntimeError, WebSocketDisconnect, TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._socket.close(code, reason)
