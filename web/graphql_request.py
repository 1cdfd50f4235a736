"""GraphQL over HTTP: the shape of a request, and which media type answers it. Pure.

Source: the GraphQL over HTTP specification (graphql.github.io/graphql-over-http).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import msgspec

from core.errors import InvalidRequest
from schema.trusted import SCHEME

JSON = "application/json"
GRAPHQL_JSON = "application/graphql-response+json"
EVENT_STREAM = "text/event-stream"
MAX_BODY_BYTES = 256 * 1024
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class GraphQLRequest:
    """One operation as asked for: by its document's text, by the hash of one that is known, or by both."""

    query: str | None
    variables: dict[str, Any] = field(default_factory=dict)
    operation_name: str | None = None
    hash: str | None = None


def decode_json(body: bytes | str) -> object:
    """Any JSON value.

    Raises:
        InvalidRequest: not JSON, not UTF-8, too deep, or with numbers that no double holds.
    """
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ValueError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)[:200]
        raise InvalidRequest(f"The body is not JSON: {reason}.", code="BAD_REQUEST") from None


def request_of(value: object) -> GraphQLRequest:
    """A request from a decoded body or message payload.

    Raises:
        InvalidRequest: 400, of another shape; names the field.
    """
    if isinstance(value, list):
        raise InvalidRequest("Batching is off: send one operation a request.", code="BATCHING_DISABLED")
    if not isinstance(value, dict):
        raise InvalidRequest('The body must be an object: {"query": "..."}.', code="BAD_REQUEST")
    checked: dict[str, Any] = {}
    for name, kind in (("variables", dict), ("operationName", str), ("extensions", dict), ("documentId", str)):
        found = value.get(name)
        if found is not None and not isinstance(found, kind):
            wanted = "an object" if kind is dict else "a string"
            raise InvalidRequest(f"`{name}` must be {wanted}.", code="BAD_REQUEST", field=name)
        checked[name] = found
    hash = _hash_of(checked["documentId"], checked["extensions"] or {})
    query = value.get("query")
    if not isinstance(query, str) and (query is not None or hash is None):
        raise InvalidRequest("`query` must be a string.", code="BAD_REQUEST", field="query")
    return GraphQLRequest(query, checked["variables"] or {}, checked["operationName"], hash)


def _hash_of(document_id: str | None, extensions: dict[str, Any]) -> str | None:
    """The hash of the document that is meant, by `documentId` or by the extension `persistedQuery`."""
    persisted = extensions.get("persistedQuery")
    if document_id is None and persisted is None:
        return None
    hash: object = None
    if document_id is not None:
        name, form = "documentId", f'"{SCHEME}<64 hex digits>"'
        if document_id.startswith(SCHEME):
            hash = document_id.removeprefix(SCHEME)
    else:
        name, form = "extensions.persistedQuery", "{version: 1, sha256Hash: <64 hex digits>}"
        if isinstance(persisted, dict) and persisted.get("version") == 1:
            hash = persisted.get("sha256Hash")
    if not isinstance(hash, str) or not _SHA256.fullmatch(hash):
        raise InvalidRequest(f"`{name}` must be {form}.", code="BAD_REQUEST", field=name)
    return hash


def check_content_type(header: str) -> None:
    """Only JSON in UTF-8: a form could be sent by any page.

    Raises:
        InvalidRequest: 415.
    """
    media, _, parameters = header.lower().partition(";")
    charset = parameters.replace(" ", "").removeprefix("charset=").strip('"')
    if media.strip() != JSON or charset not in ("", "utf-8", "utf8"):
        raise InvalidRequest(
            "Content-Type must be application/json (UTF-8).", code="UNSUPPORTED_MEDIA_TYPE", status=415
        )


def negotiated(accept: str) -> str:
    """The media type of the answer.

    Raises:
        InvalidRequest: 406, neither type is accepted.
    """
    if not accept.strip():
        return JSON
    for part in accept.lower().split(","):
        media, _, parameters = part.strip().partition(";")
        if "q=0" in parameters.replace(" ", "").split(";") or "charset=" in parameters and "utf" not in parameters:
            continue
        if media in (JSON, GRAPHQL_JSON):
            return media
        if media in ("*/*", "application/*"):
            return JSON
    raise InvalidRequest(f"Accept must allow {GRAPHQL_JSON} or {JSON}.", code="NOT_ACCEPTABLE", status=406)


def check_accepts_stream(accept: str) -> None:
    """Raises InvalidRequest: 406, an event stream is not accepted."""
    for part in accept.lower().split(",") if accept.strip() else ["*/*"]:
        media, _, parameters = part.strip().partition(";")
        if media in (EVENT_STREAM, "text/*", "*/*") and "q=0" not in parameters.replace(" ", "").split(";"):
            return
    raise InvalidRequest(f"Accept must allow {EVENT_STREAM}.", code="NOT_ACCEPTABLE", status=406)
