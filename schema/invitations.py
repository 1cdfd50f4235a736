"""Invitations to a tenant, and what changes them."""

from __future__ import annotations

from datetime import datetime
from typing import cast

import strawberry
from strawberry import Info

from core.invitations import Invitation as InvitationRow
from core.invitations import InvitationState
from core.outbox import MessageState
from core.permissions import Permission
from resolvers.context import Context
from resolvers.global_ids import global_id
from resolvers.invitations import invite_member, resend_invitation, revoke_invitation
from schema.described import enum_of
from schema.guarded import mutation, shown_to
from schema.node import Node
from schema.roles import RoleType

InvitationStateType = enum_of(
    InvitationState,
    "What became of an invitation so far.",
    OPEN="It can be accepted.",
    ACCEPTED="Its person is a member.",
    REVOKED="It was taken back.",
    EXPIRED="Its seven days are over.",
)
MessageStateType = enum_of(
    MessageState,
    "What became of a message.",
    name="MailState",
    WAITING="It waits for a server or its next attempt.",
    SENT="A server took it.",
    GIVEN_UP="No server would take it.",
)


@shown_to(Permission.MEMBERS_WRITE)
@strawberry.type(description="An invitation of one e-mail address; its link is good once, for seven days.")
class Invitation(Node):
    @strawberry.field(description="Global id.")
    def id(self) -> strawberry.ID:
        return strawberry.ID(global_id("Invitation", str(cast(InvitationRow, self).id)))

    email: str = strawberry.field(description="Who is invited.")
    role: RoleType = strawberry.field(description="As what.")  # type: ignore[valid-type]
    state: InvitationStateType = strawberry.field(description="What became of it.")  # type: ignore[valid-type]
    mail: MessageStateType = strawberry.field(description="What became of its message.")  # type: ignore[valid-type]
    invited_by: str = strawberry.field(description="Who invites, as the audit trail names it.")
    created_at: datetime = strawberry.field(description="When it was made.")
    sent_at: datetime = strawberry.field(description="When its last message was written.")
    expires_at: datetime = strawberry.field(description="Until when its link is good.")
    revoked_at: datetime | None = strawberry.field(description="When it was revoked.")
    accepted_at: datetime | None = strawberry.field(description="When it was accepted.")

    @classmethod
    def is_type_of(cls, obj: object, info: object) -> bool:
        return isinstance(obj, InvitationRow)


@strawberry.input(description="Whom to invite.")
class InviteMemberInput:
    email: str = strawberry.field(description="An address such as ada@example.com.")
    role: RoleType = strawberry.field(description="As what; `OWNER` by owners alone.")  # type: ignore[valid-type]


@strawberry.input(description="Which invitation to send again.")
class ResendInvitationInput:
    id: strawberry.ID = strawberry.field(description="Its global id.")


@strawberry.input(description="Which invitation to revoke.")
class RevokeInvitationInput:
    id: strawberry.ID = strawberry.field(description="Its global id.")


@shown_to(Permission.MEMBERS_WRITE)
@strawberry.type(description="The message is on its way; it alone has the link.")
class InviteMemberPayload:
    invitation: Invitation = strawberry.field(description="As it was made.")


@shown_to(Permission.MEMBERS_WRITE)
@strawberry.type(description="Another message is on its way; the link before it is good no more.")
class ResendInvitationPayload:
    invitation: Invitation = strawberry.field(description="With its new end.")


@shown_to(Permission.MEMBERS_WRITE)
@strawberry.type(description="Its link is good no more.")
class RevokeInvitationPayload:
    invitation: Invitation = strawberry.field(description="As it is now.")


async def resolve_invite_member(info: Info[Context, None], input: InviteMemberInput) -> InviteMemberPayload:
    """Invites an address."""
    invitation = await invite_member(info.context, input.email, input.role)
    return InviteMemberPayload(invitation=cast(Invitation, invitation))


async def resolve_resend_invitation(info: Info[Context, None], input: ResendInvitationInput) -> ResendInvitationPayload:
    """Sends an invitation again."""
    invitation = await resend_invitation(info.context, input.id)
    return ResendInvitationPayload(invitation=cast(Invitation, invitation))


async def resolve_revoke_invitation(info: Info[Context, None], input: RevokeInvitationInput) -> RevokeInvitationPayload:
    """Ends an invitation."""
    invitation = await revoke_invitation(info.context, input.id)
    return RevokeInvitationPayload(invitation=cast(Invitation, invitation))


@strawberry.type
class InvitationMutations:
    invite_member = mutation(
        Permission.MEMBERS_WRITE,
        resolve_invite_member,
        InviteMemberPayload,
        "Invites an address by mail. Whether it has an account in another tenant is told nowhere. The tier's members, "
        "open invitations included, are the limit.",
    )
    resend_invitation = mutation(
        Permission.MEMBERS_WRITE,
        resolve_resend_invitation,
        ResendInvitationPayload,
        "Sends an invitation again, with another link, for seven days more; once a minute.",
    )
    revoke_invitation = mutation(
        Permission.MEMBERS_WRITE,
        resolve_revoke_invitation,
        RevokeInvitationPayload,
        "Ends an invitation that was not accepted.",
    )
