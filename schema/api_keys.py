"""API keys, for the tenant's administrator: what each may, until when, and when it was used. A secret is shown once."""

from __future__ import annotations

from datetime import datetime
from typing import cast

import strawberry
from strawberry import UNSET, Info

from core.api_keys import CreatedKey, KeyRecord
from core.key_requests import UNCHANGED, KeyChange, KeyRequest
from core.permissions import Permission, Scope
from core.tenancy import KeyKind
from resolvers.api_keys import create_api_key, live_secrets, revoke_api_key, rotate_api_key, update_api_key
from resolvers.context import Context
from resolvers.global_ids import global_id
from schema.described import enum_of
from schema.guarded import guarded, mutation, shown_to
from schema.node import Node

KeyKindType = enum_of(
    KeyKind,
    "Where a key may be.",
    name="ApiKeyKind",
    SECRET="On servers: it signs requests, or bears itself.",
    PUBLISHABLE="In pages and apps: it only sends events.",
)
ScopeType = enum_of(
    Scope,
    "What a key may be used for.",
    name="ApiKeyScope",
    EVENTS_WRITE="Send events.",
    METRICS_READ="Read metrics, events and questions.",
    ADMIN="What an administrator may, and both others.",
)


@shown_to(Permission.KEYS_READ)
@strawberry.type(description="A live secret of a key: that there is one, never what it is.")
class ApiKeySecret:
    created_at: datetime = strawberry.field(description="When it was made.")
    ends_at: datetime | None = strawberry.field(description="When it ends; null while no other has taken its place.")


@shown_to(Permission.KEYS_READ)
@strawberry.type(description="A key with which programs call.")
class ApiKey(Node):
    @strawberry.field(description="Global id.")
    def id(self) -> strawberry.ID:
        return strawberry.ID(global_id("ApiKey", _record(self).key_id))

    key_id: str = strawberry.field(
        description="Its public name, such as key_4mz…: `X-CM-Key`, and in usage and metrics."
    )
    name: str = strawberry.field(description="What it is for.")
    kind: KeyKindType = strawberry.field(description="For servers or for pages.")  # type: ignore[valid-type]

    @strawberry.field(description="What it may be used for.")
    def scopes(self) -> list[ScopeType]:  # type: ignore[valid-type]
        return sorted(_record(self).scopes)

    origins: list[str] = strawberry.field(description="Pages that may use a publishable key; * is all.")
    is_unsigned: bool = strawberry.field(description="Whether a secret key may send itself instead of signing.")
    created_at: datetime = strawberry.field(description="When it was made.")
    expires_at: datetime | None = strawberry.field(description="When it ends by itself; null is never.")
    last_used_at: datetime | None = strawberry.field(description="Within a minute; null is never.")
    revoked_at: datetime | None = strawberry.field(description="When it was ended; null while it was not.")

    @guarded(Permission.KEYS_READ, "Its live secrets, newest first: one, or two while one takes the other's place.")
    async def secrets(self, info: Info[Context, None]) -> list[ApiKeySecret]:
        return cast("list[ApiKeySecret]", await live_secrets(info.context, _record(self).key_id))

    @classmethod
    def is_type_of(cls, obj: object, info: object) -> bool:
        return isinstance(obj, KeyRecord)


@strawberry.input(description="What is asked of a new key.")
class CreateApiKeyInput:
    name: str = strawberry.field(description="What it is for, up to 200 characters.")
    kind: KeyKindType = strawberry.field(default=KeyKind.SECRET, description="For servers or for pages.")  # type: ignore[valid-type]
    scopes: list[ScopeType] = strawberry.field(description="At least one; a publishable key has EVENTS_WRITE alone.")  # type: ignore[valid-type]
    origins: list[str] = strawberry.field(
        default_factory=list,
        description="Of a publishable key: up to 100, such as https://shop.example; * is all, none is no page.",
    )
    is_unsigned: bool = strawberry.field(
        default=False, description="Of a secret key: whether it may send itself instead of signing."
    )
    expires_at: datetime | None = strawberry.field(
        default=None, description="RFC 3339 with a zone, such as 2027-01-31T00:00:00Z; null is never."
    )


@strawberry.input(description="Which key gets a second secret, and how long both live.")
class RotateApiKeyInput:
    id: strawberry.ID = strawberry.field(description="The key's global id.")
    overlap_hours: int = strawberry.field(
        default=24, description="How long the secret before lives on, 0 to 168; one that was ending already ends now."
    )


@strawberry.input(description="What of a key changes; what is left out stays as it is.")
class UpdateApiKeyInput:
    id: strawberry.ID = strawberry.field(description="The key's global id.")
    name: str | None = strawberry.field(default=UNSET, description="What it is for.")
    origins: list[str] | None = strawberry.field(default=UNSET, description="All of a publishable key's origins.")
    expires_at: datetime | None = strawberry.field(default=UNSET, description="RFC 3339 with a zone; null is never.")

    def to_domain(self) -> KeyChange:
        """The change as it is made."""
        return KeyChange(
            name=None if self.name is UNSET else self.name,
            origins=None if self.origins is UNSET or self.origins is None else tuple(self.origins),
            expires_at=UNCHANGED if self.expires_at is UNSET else self.expires_at,
        )


@strawberry.input(description="Which key to end.")
class RevokeApiKeyInput:
    id: strawberry.ID = strawberry.field(description="The key's global id.")


@shown_to(Permission.KEYS_WRITE)
@strawberry.type(description="The new key, and its secret: shown now and never again.")
class CreateApiKeyPayload:
    api_key: ApiKey = strawberry.field(description="The key.")
    secret: str = strawberry.field(description="cm_sk_… or cm_pk_…; keep it where the program finds it.")


@shown_to(Permission.KEYS_WRITE)
@strawberry.type(description="The key, and its second secret: shown now and never again.")
class RotateApiKeyPayload:
    api_key: ApiKey = strawberry.field(description="The key.")
    secret: str = strawberry.field(description="The new one.")
    previous_ends_at: datetime = strawberry.field(description="When the secret before ends.")


@shown_to(Permission.KEYS_WRITE)
@strawberry.type(description="The key as it is now.")
class UpdateApiKeyPayload:
    api_key: ApiKey = strawberry.field(description="The key.")


@shown_to(Permission.KEYS_WRITE)
@strawberry.type(description="The key has ended; it is refused everywhere within 5 seconds, its sockets within 30.")
class RevokeApiKeyPayload:
    api_key: ApiKey = strawberry.field(description="The key.")


async def resolve_create_api_key(info: Info[Context, None], input: CreateApiKeyInput) -> CreateApiKeyPayload:
    """Makes a key."""
    request = KeyRequest(
        kind=input.kind,
        name=input.name,
        scopes=frozenset(input.scopes),
        origins=tuple(input.origins),
        is_unsigned=input.is_unsigned,
        expires_at=input.expires_at,
    )
    made = await create_api_key(info.context, request)
    return CreateApiKeyPayload(api_key=_shown(made.record), secret=made.secret)


async def resolve_rotate_api_key(info: Info[Context, None], input: RotateApiKeyInput) -> RotateApiKeyPayload:
    """Gives a key a second secret."""
    made: CreatedKey = await rotate_api_key(info.context, input.id, input.overlap_hours)
    ends_at = cast(datetime, made.previous_ends_at)
    return RotateApiKeyPayload(api_key=_shown(made.record), secret=made.secret, previous_ends_at=ends_at)


async def resolve_update_api_key(info: Info[Context, None], input: UpdateApiKeyInput) -> UpdateApiKeyPayload:
    """Changes a key."""
    return UpdateApiKeyPayload(api_key=_shown(await update_api_key(info.context, input.id, input.to_domain())))


async def resolve_revoke_api_key(info: Info[Context, None], input: RevokeApiKeyInput) -> RevokeApiKeyPayload:
    """Ends a key."""
    return RevokeApiKeyPayload(api_key=_shown(await revoke_api_key(info.context, input.id)))


@strawberry.type
class ApiKeyMutations:
    create_api_key = mutation(
        Permission.KEYS_WRITE,
        resolve_create_api_key,
        CreateApiKeyPayload,
        "Makes a key that may no more than who makes it; its secret is in the payload, and nowhere else.",
    )
    rotate_api_key = mutation(
        Permission.KEYS_WRITE,
        resolve_rotate_api_key,
        RotateApiKeyPayload,
        "Gives a key a second secret, so that programs change over while both live.",
    )
    update_api_key = mutation(
        Permission.KEYS_WRITE, resolve_update_api_key, UpdateApiKeyPayload, "Changes a key's name, origins or end."
    )
    revoke_api_key = mutation(Permission.KEYS_WRITE, resolve_revoke_api_key, RevokeApiKeyPayload, "Ends a key at once.")


def _record(key: object) -> KeyRecord:
    return cast(KeyRecord, key)


def _shown(record: KeyRecord) -> ApiKey:
    return cast(ApiKey, record)
