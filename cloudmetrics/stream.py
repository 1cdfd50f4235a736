"""A live series as any client gets it: `graphql-transport-ws` (enisdenjo/graphql-ws, PROTOCOL.md)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import websockets
from websockets.asyncio.client import connect

from core.errors import CloudMetricsError

OPEN_SECONDS = 15.0
DOCUMENT = "subscription($q: MetricQuery!) { series(query: $q) { kind seq watermark columns } }"

Frame = dict[str, Any]


class StreamRefused(CloudMetricsError):
    """The server answered the subscription, or the whole socket, with an error."""

    default_code = "stream_refused"


@asynccontextmanager
async def open_stream(url: str, key: str, question: dict[str, Any]) -> AsyncIterator[AsyncIterator[Frame]]:
    """The frames of `subscription series` for a question.

    Raises:
        StreamRefused: there is no socket, or no such series.
    """
    protocol = websockets.Subprotocol("graphql-transport-ws")
    try:
        async with asyncio.timeout(OPEN_SECONDS):
            socket = await connect(f"{url.replace('http', 'ws', 1)}/graphql", subprotocols=[protocol], proxy=None)
    except (OSError, TimeoutError, websockets.WebSocketException) as error:
        raise StreamRefused(f"no GraphQL socket at {url}: {error!r}"[:300]) from None
    try:
        await _say(socket, type="connection_init", payload={"authorization": f"Bearer {key}"})
        await _say(socket, type="subscribe", id="1", payload={"query": DOCUMENT, "variables": {"q": question}})
        yield _frames(socket)
    finally:
        await socket.close()


async def _frames(socket: Any) -> AsyncIterator[Frame]:
    try:
        async for text in socket:
            message = json.loads(text)
            match message["type"]:
                case "next" if "errors" not in message["payload"]:
                    yield message["payload"]["data"]["series"]
                case "next":
                    raise StreamRefused(_messages(message["payload"]["errors"]))
                case "error":
                    raise StreamRefused(_messages(message["payload"]))
                case "ping":
                    await _say(socket, type="pong")
    except websockets.ConnectionClosed as closed:
        raise StreamRefused(f"the server closed the socket: {closed}") from None


def _messages(errors: list[dict[str, Any]]) -> str:
    return "; ".join(str(error["message"]) for error in errors)


async def _say(socket: Any, **message: Any) -> None:
    await socket.send(json.dumps(message))
