"""GraphQL errors as they leave: expected ones with their code, anything else masked behind the request id."""

from __future__ import annotations

import logging
from typing import Any

from graphql import GraphQLError

from core.errors import CloudMetricsError, Retryable
from schema.prepare import DocumentInvalid, without_suggestion
from web.errors import status_of

log = logging.getLogger("web.graphql")


def request_errors(error: CloudMetricsError, request_id: str) -> list[dict[str, Any]]:
    """Errors of a request that was not executed."""
    if isinstance(error, DocumentInvalid):
        return [
            {**_shape(found), "extensions": {"code": error.code, "requestId": request_id}} for found in error.errors
        ]
    return [{"message": error.message, "extensions": extensions_of(error, request_id)}]


def is_of_document(error: CloudMetricsError) -> bool:
    """Whether a well-formed request is refused for what it asks: older clients, and streams, read such errors only
    from a 200."""
    return status_of(error) == 400 and error.code not in ("BAD_REQUEST", "BATCHING_DISABLED")


def field_errors(errors: list[GraphQLError] | None, request_id: str) -> list[dict[str, Any]]:
    """Errors of fields that were executed."""
    return [_field_error(error, request_id) for error in errors or []]


def extensions_of(error: CloudMetricsError, request_id: str) -> dict[str, Any]:
    """`code`, `requestId`, and where they apply `field` and `retryAfter`."""
    found: dict[str, Any] = {"code": error.code.upper(), "requestId": request_id}
    if error.field:
        found["field"] = error.field
    if isinstance(error, Retryable):
        found["retryAfter"] = error.retry_after
    return found


def _field_error(error: GraphQLError, request_id: str) -> dict[str, Any]:
    original = error.original_error
    shape = _shape(error)
    if isinstance(original, CloudMetricsError) and status_of(original) != 500:
        return {**shape, "message": original.message, "extensions": extensions_of(original, request_id)}
    if original is None or isinstance(original, GraphQLError):
        # graphql-core's own: a variable or argument of the wrong form.
        return {**shape, "extensions": {"code": "BAD_USER_INPUT", "requestId": request_id}}
    log.error("resolver failed", exc_info=original, extra={"action": "internal_error", "request_id": request_id})
    message = f"Something went wrong; tell us the request id {request_id}."
    return {**shape, "message": message, "extensions": {"code": "INTERNAL", "requestId": request_id}}


def _shape(error: GraphQLError) -> dict[str, Any]:
    shape: dict[str, Any] = {"message": without_suggestion(error.message)[:500]}
    if error.locations:
        shape["locations"] = [{"line": place.line, "column": place.column} for place in error.locations]
    if error.path:
        shape["path"] = error.path
    return shape
