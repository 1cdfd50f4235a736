"""Fields with the permission they need, declared where they are: `guarded` for what is read, `mutation` for what is
written, `subscription` for what is listened to, `shown_to` for a type whose fields need nothing of their own.

A field's permission is its own, or its type's; `tests/schema/test_permissions.py` fails for one that has neither,
and `docs/api/permissions.md` is made from the same declarations.
"""

from __future__ import annotations

from collections.abc import Callable
from inspect import isawaitable
from typing import Annotated, Any, TypeVar, Union

import strawberry
from strawberry import Info
from strawberry.extensions import FieldExtension

from core.errors import CloudMetricsError, PermissionDenied
from core.permissions import OF_EVERYBODY, Permission
from schema.refusals import (
    ConflictError,
    LimitReached,
    NotFoundError,
    PermissionDeniedError,
    ServiceUnavailable,
    ValidationError,
    typed_error,
)

# Any mutation may be refused in each of these ways.
REFUSALS = (ValidationError, PermissionDeniedError, NotFoundError, ConflictError, LimitReached, ServiceUnavailable)
PERMISSION = "permission"
COST = "cost"
MUTATION_COST = 10

C = TypeVar("C", bound=type)


class Guard(FieldExtension):
    """Asks before the resolver runs whether the caller may.

    Raises:
        PermissionDenied: the caller has not the permission.
    """

    def __init__(self, permission: Permission) -> None:
        self.permission = permission

    def resolve(self, next_: Callable[..., Any], source: Any, info: Info, **kwargs: Any) -> Any:
        info.context.principal.require(self.permission)
        return next_(source, info, **kwargs)

    async def resolve_async(self, next_: Callable[..., Any], source: Any, info: Info, **kwargs: Any) -> Any:
        info.context.principal.require(self.permission)
        found = next_(source, info, **kwargs)
        # A subscription's resolver gives a generator, which is nothing to wait for.
        return await found if isawaitable(found) else found


class Refuse(FieldExtension):
    """Answers an expected error as one of the union's types, its path within `input`; who may not leaves an entry in
    the audit trail. The last of a field's extensions is the outermost: it stands around `Guard`."""

    async def resolve_async(self, next_: Callable[..., Any], source: Any, info: Info, **kwargs: Any) -> Any:
        try:
            return await next_(source, info, **kwargs)
        except CloudMetricsError as error:
            if isinstance(error, PermissionDenied):
                context = info.context
                await context.backends.refused.note(context.author, info.field_name, error.message)
            return typed_error(error, ["input"])


def guarded(permission: Permission, description: str, *, cost: int | None = None, **given: Any) -> Any:
    """A field that only callers with the permission may read; `cost` is what it costs before its selection. Used as a
    decorator, or with `resolver=`."""
    return strawberry.field(
        description=needing(permission, description),
        extensions=[Guard(permission)],
        metadata={PERMISSION: permission, COST: cost},
        **given,
    )


def mutation(
    permission: Permission,
    resolver: Callable[..., Any],
    payload: type,
    description: str,
    *,
    also: tuple[type, ...] = (),
) -> Any:
    """A field `verbNoun(input:)` that answers a union `VerbNounResult` of its payload `VerbNounPayload` and the typed
    refusals; `also` are further ones of its own."""
    name = payload.__name__.removesuffix("Payload") + "Result"
    members: Any = Union[(payload, *also, *REFUSALS)]
    union = strawberry.union(name, description=f"{description} Or a typed refusal.")
    return strawberry.mutation(
        resolver=resolver,
        graphql_type=Annotated[members, union],
        description=needing(permission, description),
        extensions=[Guard(permission), Refuse()],
        metadata={PERMISSION: permission, COST: MUTATION_COST},
    )


def subscription(permission: Permission, resolver: Callable[..., Any], description: str, *, cost: int) -> Any:
    """A stream that only callers with the permission may listen to."""
    return strawberry.subscription(
        resolver=resolver,
        description=needing(permission, description),
        extensions=[Guard(permission)],
        metadata={PERMISSION: permission, COST: cost},
    )


def needing(permission: Permission, description: str) -> str:
    """A description that says what the field needs; introspection alone is to be enough."""
    return description if permission in OF_EVERYBODY else f"{description} Needs `{permission.value}`."


def shown_to(permission: Permission) -> Callable[[C], C]:
    """A type whose fields are read by whoever may reach it: those with the permission."""

    def mark(cls: C) -> C:
        cls.permission_of_type = permission  # type: ignore[attr-defined]
        return cls

    return mark
