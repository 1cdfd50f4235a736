"""A person's sessions."""

from __future__ import annotations

from datetime import datetime
from typing import cast

import strawberry
from strawberry import Info

from core.own_sessions import SessionRow
from core.permissions import Permission
from resolvers.context import Context
from resolvers.global_ids import global_id
from resolvers.sessions import revoke_other_sessions, revoke_session
from schema.guarded import mutation, shown_to
from schema.node import Node


@shown_to(Permission.IDENTITY_READ)
@strawberry.type(description="Where a person has signed in. Only the person itself sees it.")
class Session(Node):
    @strawberry.field(description="Global id.")
    def id(self) -> strawberry.ID:
        return strawberry.ID(global_id("Session", str(cast(SessionRow, self).id)))

    tenant_slug: str = strawberry.field(description="Slug of the tenant that it is in now.")
    method: str = strawberry.field(description="How the person signed in, such as password, oidc or saml.")
    address: str = strawberry.field(description="The address that it was last refreshed from.")
    agent: str = strawberry.field(description="What the client calls itself, as it says.")
    is_locked: bool = strawberry.field(
        description="Whether it may not leave its tenant, since the tenant's identity provider opened it."
    )
    created_at: datetime = strawberry.field(description="When the person signed in.")
    last_used_at: datetime = strawberry.field(description="To a minute.")
    expires_at: datetime = strawberry.field(
        description="When it ends at the latest; after 14 idle days it ends before."
    )

    @strawberry.field(description="Whether it is the one that asks.")
    def is_current(self, info: Info[Context, None]) -> bool:
        return bool(cast(SessionRow, self).id == info.context.principal.session_id)

    @classmethod
    def is_type_of(cls, obj: object, info: object) -> bool:
        return isinstance(obj, SessionRow)


@strawberry.input(description="Which session to end.")
class RevokeSessionInput:
    id: strawberry.ID = strawberry.field(description="Its global id.")


@strawberry.input(description="Which sessions to end beside the others.")
class RevokeOtherSessionsInput:
    include_current: bool = strawberry.field(
        default=False, description="Whether the one that asks ends too: signs out everywhere."
    )


@shown_to(Permission.PROFILE_WRITE)
@strawberry.type(description="It has ended: requests are refused within 5 s, sockets closed within 30 s.")
class RevokeSessionPayload:
    id: strawberry.ID = strawberry.field(description="As given.")


@shown_to(Permission.PROFILE_WRITE)
@strawberry.type(description="They have ended.")
class RevokeOtherSessionsPayload:
    ended_sessions: int = strawberry.field(description="How many there were.")


async def resolve_revoke_session(info: Info[Context, None], input: RevokeSessionInput) -> RevokeSessionPayload:
    """Ends one of the caller's sessions."""
    await revoke_session(info.context, input.id)
    return RevokeSessionPayload(id=input.id)


async def resolve_revoke_other_sessions(
    info: Info[Context, None], input: RevokeOtherSessionsInput
) -> RevokeOtherSessionsPayload:
    """Ends all of them but one, or that one too."""
    ended = await revoke_other_sessions(info.context, include_current=input.include_current)
    return RevokeOtherSessionsPayload(ended_sessions=ended)


@strawberry.type
class SessionMutations:
    revoke_session = mutation(
        Permission.PROFILE_WRITE,
        resolve_revoke_session,
        RevokeSessionPayload,
        "Ends one of the person's own sessions.",
    )
    revoke_other_sessions = mutation(
        Permission.PROFILE_WRITE,
        resolve_revoke_other_sessions,
        RevokeOtherSessionsPayload,
        "Ends all of the person's sessions but the one that asks.",
    )
