"""A WebSocket by hand: frames as bytes (RFC 6455, 5.2), so that what no library sends can be sent."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import struct
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

TEXT, BINARY, CLOSE, PING, PONG, CONTINUATION = 1, 2, 8, 9, 10, 0
PROTOCOL = "graphql-transport-ws"


def frame(opcode: int, payload: bytes, *, is_last: bool = True, reserved: int = 0) -> bytes:
    """One masked frame. `reserved`: the bits that extensions use."""
    head = bytes([(0x80 if is_last else 0) | reserved << 4 | opcode])
    length = len(payload)
    if length < 126:
        head += bytes([0x80 | length])
    elif length < 2**16:
        head += bytes([0x80 | 126]) + struct.pack(">H", length)
    else:
        head += bytes([0x80 | 127]) + struct.pack(">Q", length)
    # A mask of zeros leaves the payload as it is.
    return head + b"\0\0\0\0" + payload


class RawSocket:
    """The client's side."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, status: int, head: str) -> None:
        self._reader, self._writer = reader, writer
        self.status = status
        self.head = head

    @classmethod
    async def open(cls, url: str, protocol: str | None = PROTOCOL, **headers: str) -> RawSocket:
        """After the handshake, whatever came of it."""
        parts = urlsplit(url)
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        lines = {
            "Host": parts.netloc, "Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": base64.b64encode(os.urandom(16)).decode(),
            **({"Sec-WebSocket-Protocol": protocol} if protocol else {}), **headers,
        }  # fmt: skip
        request = "\r\n".join(["GET /graphql HTTP/1.1", *(f"{k}: {v}" for k, v in lines.items()), "", ""])
        writer.write(request.encode("latin-1"))
        async with asyncio.timeout(15):
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        return cls(reader, writer, int(head.split()[1]), head)

    async def send(self, *messages: object) -> None:
        """Messages as JSON texts; bytes go out as they are."""
        for message in messages:
            data = message if isinstance(message, bytes) else frame(TEXT, json.dumps(message).encode())
            self._writer.write(data)
        with suppress(ConnectionError):
            await self._writer.drain()

    async def frame(self) -> tuple[int, bytes]:
        """The next frame's opcode and payload."""
        async with asyncio.timeout(15):
            first, second = await self._reader.readexactly(2)
            length = second & 0x7F
            if length == 126:
                (length,) = struct.unpack(">H", await self._reader.readexactly(2))
            elif length == 127:
                (length,) = struct.unpack(">Q", await self._reader.readexactly(8))
            return first & 0x0F, await self._reader.readexactly(length)

    async def message(self) -> dict[str, Any]:
        """The next message.

        Raises:
            AssertionError: the socket was closed instead.
        """
        opcode, payload = await self.frame()
        assert opcode == TEXT, (opcode, payload)
        found: dict[str, Any] = json.loads(payload)
        return found

    async def close_code(self) -> tuple[int, str]:
        """Reads on until the server closes: its code and reason; 0 where it cut the connection."""
        try:
            while True:
                opcode, payload = await self.frame()
                if opcode == CLOSE:
                    return struct.unpack(">H", payload[:2])[0], payload[2:].decode()
        except (asyncio.IncompleteReadError, ConnectionError):
            return 0, ""
        finally:
            self.abort()

    def abort(self) -> None:
        self._writer.transport.abort()
