"""Typed refusals of mutations."""

from __future__ import annotations

from enum import Enum

import strawberry

from core.errors import BadInput, CloudMetricsError, Conflict, NotFound, PermissionDenied, TooMany, Unavailable
from schema.described import enum_of


class ErrorCode(Enum):
    """The kinds of refusals."""

    VALIDATION = "validation"
    PERMISSION_DENIED = "permission_denied"
    LIMIT_REACHED = "limit_reached"
    NOT_FOUND = "not_found"
    CONFLICT = "conflict"
    UNAVAILABLE = "unavailable"


enum_of(
    ErrorCode,
    "Why a mutation was refused.",
    VALIDATION="The input cannot be used as it is; `reason` has the stable code.",
    PERMISSION_DENIED="The caller may not.",
    LIMIT_REACHED="A rate, a quota or a tier's limit is used up.",
    NOT_FOUND="There is nothing with that id, for this caller.",
    CONFLICT="It contradicts what came before; `reason` has the stable code.",
    UNAVAILABLE="A part of the service is away; nothing was taken, and it may be tried again.",
)


@strawberry.interface(name="Error", description="An expected refusal.")
class Error:
    code: ErrorCode = strawberry.field(description="Its kind.")
    message: str = strawberry.field(description="Names field, limit and remedy.")
    path: list[str] = strawberry.field(description="Where in the input.")


@strawberry.type(description="The input cannot be used as it is.")
class ValidationError(Error):
    reason: str = strawberry.field(description="The stable code that REST answers, such as batch_too_large.")


@strawberry.type(name="PermissionDenied", description="The caller may not.")
class PermissionDeniedError(Error):
    pass


@strawberry.type(description="A rate or quota is used up.")
class LimitReached(Error):
    retry_after: float = strawberry.field(description="Seconds until it is worth trying again.")


@strawberry.type(description="A part of the service is away; nothing was taken.")
class ServiceUnavailable(Error):
    retry_after: float = strawberry.field(description="Seconds until it is worth trying again.")


@strawberry.type(name="NotFound", description="There is nothing with that id, for this caller.")
class NotFoundError(Error):
    pass


@strawberry.type(name="Conflict", description="It contradicts what came before: a name that is taken, another edit.")
class ConflictError(Error):
    reason: str = strawberry.field(description="The stable code.")


TypedError = ValidationError | PermissionDeniedError | NotFoundError | ConflictError | LimitReached | ServiceUnavailable


def typed_error(error: CloudMetricsError, path: list[str]) -> TypedError:
    """An expected refusal as its type; what is not expected goes on."""
    where = [*path, error.field] if error.field else path
    match error:
        case BadInput():
            return ValidationError(code=ErrorCode.VALIDATION, message=error.message, path=where, reason=error.code)
        case PermissionDenied():
            return PermissionDeniedError(code=ErrorCode.PERMISSION_DENIED, message=error.message, path=where)
        case NotFound():
            return NotFoundError(code=ErrorCode.NOT_FOUND, message=error.message, path=where)
        case Conflict():
            return ConflictError(code=ErrorCode.CONFLICT, message=error.message, path=where, reason=error.code)
        case TooMany():
            return LimitReached(
                code=ErrorCode.LIMIT_REACHED, message=error.message, path=where, retry_after=error.retry_after
            )
        case Unavailable():
            return ServiceUnavailable(
                code=ErrorCode.UNAVAILABLE, message=error.message, path=where, retry_after=error.retry_after
            )
    raise error
