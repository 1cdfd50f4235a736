"""Messages of graphql-transport-ws. Pure. Source: PROTOCOL.md of npm graphql-ws."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from core.errors import InvalidRequest
from web.graphql_request import GraphQLRequest, decode_json, request_of
from web.sockets import ProtocolViolation

PROTOCOL = "graphql-transport-ws"
MAX_ID_LENGTH = 128

_encoder = msgspec.json.Encoder()


@dataclass(frozen=True, slots=True)
class Init:
    payload: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Subscribe:
    id: str
    request: GraphQLRequest


@dataclass(frozen=True, slots=True)
class Complete:
    id: str


@dataclass(frozen=True, slots=True)
class Ping:
    pass


@dataclass(frozen=True, slots=True)
class Pong:
    pass


ClientMessage = Init | Subscribe | Complete | Ping | Pong


def decode_message(text: str) -> ClientMessage:
    """A client's message.

    Raises:
        ProtocolViolation: 4400 with what was wrong.
    """
    try:
        message = decode_json(text)
    except InvalidRequest as error:
        raise ProtocolViolation(4400, error.message) from None
    if not isinstance(message, dict) or not isinstance(message.get("type"), str):
        raise ProtocolViolation(4400, "A message must be an object with a type.")
    payload = message.get("payload")
    match message["type"]:
        case "connection_init":
            if payload is not None and not isinstance(payload, dict):
                raise ProtocolViolation(4400, "The payload of connection_init must be an object.")
            return Init(payload or {})
        case "subscribe":
            return Subscribe(_id(message), _request(payload))
        case "complete":
            return Complete(_id(message))
        case "ping":
            return Ping()
        case "pong":
            return Pong()
    raise ProtocolViolation(4400, f"Unknown message type {message['type'][:40]!r}.")


def encode_message(kind: str, id: str | None = None, payload: object = None) -> str:
    """A server's message."""
    message: dict[str, object] = {"type": kind}
    if id is not None:
        message["id"] = id
    if payload is not None:
        message["payload"] = payload
    return _encoder.encode(message).decode()


def _id(message: dict[str, Any]) -> str:
    found = message.get("id")
    if not isinstance(found, str) or not 1 <= len(found) <= MAX_ID_LENGTH:
        raise ProtocolViolation(4400, f"id must be a string of 1 to {MAX_ID_LENGTH} characters.")
    return found


def _request(payload: object) -> GraphQLRequest:
    try:
        return request_of(payload)
    except InvalidRequest as error:
        raise ProtocolViolation(4400, f"The payload of subscribe: {error.message}") from None
