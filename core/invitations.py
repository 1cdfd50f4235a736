"""Invitations to a tenant: made, sent again, revoked, listed. What accepting one does is in `core/acceptance.py`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, NewType
from uuid import UUID, uuid4

from core.audit import audit
from core.database import Database, Session
from core.errors import Conflict, NotFound, TooMany
from core.link_tokens import LinkKind, hash_of, new_token
from core.mail import MailKind, Message, put_message
from core.members import Authority, Standing, stand
from core.outbox import MessageState
from core.people import checked_email
from core.permissions import Permission, Role
from core.queries import named
from core.settings import Settings
from core.tenancy import TenantId

InvitationId = NewType("InvitationId", UUID)

FIND_STANDING = named("invitations", "find_invitee")
COUNT_SEATS = named("invitations", "count_seats")
LOCK = named("invitations", "lock_invitation")
INSERT = named("invitations", "insert_invitation")
RENEW = named("invitations", "renew_invitation")
REVOKE = named("invitations", "revoke_invitation")
CANCEL_MESSAGE = named("outbox", "cancel_message")
MAIL_STATE = named("invitations", "mail_state").text
LIST = named("invitations", "list_invitations").filled(mail=MAIL_STATE)
LOAD = named("invitations", "load_invitations").filled(mail=MAIL_STATE)
COUNT = named("invitations", "count_invitations")

LIFE = timedelta(days=7)
# Nobody's mailbox is filled by a tenant: one message a minute to an address, so many a day in all.
RESEND_PAUSE = timedelta(minutes=1)
MOST_A_DAY = 200
PATH = "/auth/invitation"


class InvitationState(StrEnum):
    """What became of an invitation so far."""

    OPEN = "open"
    ACCEPTED = "accepted"
    REVOKED = "revoked"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True, kw_only=True)
class Invitation:
    """An invitation of one e-mail address to one tenant. `mail`: what became of its message."""

    id: InvitationId
    email: str
    role: Role
    invited_by: str
    created_at: datetime
    sent_at: datetime
    expires_at: datetime
    revoked_at: datetime | None
    accepted_at: datetime | None
    mail: MessageState

    @property
    def state(self) -> InvitationState:
        if self.accepted_at:
            return InvitationState.ACCEPTED
        if self.revoked_at:
            return InvitationState.REVOKED
        return InvitationState.OPEN if self.expires_at > datetime.now(UTC) else InvitationState.EXPIRED


@dataclass(frozen=True, slots=True)
class Issued:
    """An invitation and its link, which is in the message and nowhere else."""

    invitation: Invitation
    link: str


async def invite_member(database: Database, settings: Settings, authority: Authority, email: str, role: Role) -> Issued:
    """Invites an address, and puts the message into the outbox. Whether the address is known elsewhere changes nothing.

    Raises:
        BadInput: no address.
        PermissionDenied: the authority may not make members of that role.
        Conflict: `already_a_member`, `already_invited`.
        TooMany: the tier's members, or a day's invitations, are used up.
    """
    email = checked_email(email)
    invitation_id, token = InvitationId(uuid4()), new_token(LinkKind.INVITATION)
    async with database.as_tenant(authority.author.tenant_id, is_write=True) as session:
        standing = await stand(session, authority)
        standing.require_for(role)
        await _refuse_known(session, email)
        await _take_seat(session, standing)
        message_id, link = await _put(session, settings, authority.author.tenant_id, standing, email, role, token)
        await session.execute(
            INSERT,
            invitation_id,
            email,
            role.value,
            hash_of(token, LinkKind.INVITATION),
            authority.author.actor,
            message_id,
            LIFE,
        )
        diff = {"email": email, "role": role.value}
        await audit(session, authority.author, "invitation.create", str(invitation_id), diff)
        return Issued(await _find(session, invitation_id), link)


async def resend_invitation(
    database: Database, settings: Settings, authority: Authority, invitation_id: UUID
) -> Issued:
    """A new link for another seven days; the one before is good no more.

    Raises:
        NotFound: no invitation of the tenant's.
        PermissionDenied: as `invite_member`.
        Conflict: `invitation_ended`: accepted or revoked.
        TooMany: within a minute of the last message, or as `invite_member`.
    """
    token = new_token(LinkKind.INVITATION)
    async with database.as_tenant(authority.author.tenant_id, is_write=True) as session:
        standing = await stand(session, authority)
        standing.require(Permission.MEMBERS_WRITE)
        before, message_id = await _lock_open(session, invitation_id)
        standing.require_for(before.role)
        elapsed = datetime.now(UTC) - before.sent_at
        if elapsed < RESEND_PAUSE:
            raise TooMany("It was sent less than a minute ago.", retry_after=(RESEND_PAUSE - elapsed).total_seconds())
        await _take_seat(session, standing, is_new=before.state is InvitationState.EXPIRED)
        await session.execute(CANCEL_MESSAGE, message_id, "sent again with another link")
        message_id, link = await _put(
            session, settings, authority.author.tenant_id, standing, before.email, before.role, token
        )
        await session.execute(RENEW, invitation_id, hash_of(token, LinkKind.INVITATION), message_id, LIFE)
        diff = {"email": before.email, "role": before.role.value}
        await audit(session, authority.author, "invitation.resend", str(invitation_id), diff)
        return Issued(await _find(session, invitation_id), link)


async def revoke_invitation(database: Database, authority: Authority, invitation_id: UUID) -> Invitation:
    """Ends an invitation; its link is good no more.

    Raises:
        NotFound, PermissionDenied, Conflict: as `resend_invitation`.
    """
    async with database.as_tenant(authority.author.tenant_id, is_write=True) as session:
        standing = await stand(session, authority)
        standing.require(Permission.MEMBERS_WRITE)
        before, message_id = await _lock_open(session, invitation_id)
        await session.execute(CANCEL_MESSAGE, message_id, "the invitation was revoked")
        await session.execute(REVOKE, invitation_id)
        diff = {"email": before.email, "role": before.role.value}
        await audit(session, authority.author, "invitation.revoke", str(invitation_id), diff)
        return await _find(session, invitation_id)


async def list_invitations(
    database: Database, tenant_id: TenantId, *, most: int, has_all: bool, before: tuple[datetime, UUID] | None
) -> list[Invitation]:
    """A tenant's invitations, newest first, from a place on: those that wait for an answer, or all."""
    async with database.as_tenant(tenant_id) as session:
        rows = await session.fetch(LIST, most, has_all, *(before or (None, None)))
    return [invitation_of(row) for row in rows]


async def count_invitations(database: Database, tenant_id: TenantId, has_all: bool) -> int:
    async with database.as_tenant(tenant_id) as session:
        row = await session.fetchrow(COUNT, has_all)
    return int(row["count"]) if row else 0


async def load_invitations(database: Database, tenant_id: TenantId, ids: Sequence[UUID]) -> list[Invitation | None]:
    """Invitations by their ids, in that order; None for what is none."""
    async with database.as_tenant(tenant_id) as session:
        rows = await session.fetch(LOAD, list(ids))
    found: dict[UUID, Invitation] = {invitation.id: invitation for invitation in map(invitation_of, rows)}
    return [found.get(id) for id in ids]


def invitation_of(row: Any) -> Invitation:
    """An invitation from a row of the look-up queries."""
    return Invitation(
        id=InvitationId(UUID(int=row["id"].int)),
        email=row["email"],
        role=Role(row["role"]),
        invited_by=row["invited_by"],
        created_at=row["created_at"],
        sent_at=row["sent_at"],
        expires_at=row["expires_at"],
        revoked_at=row["revoked_at"],
        accepted_at=row["accepted_at"],
        mail=MessageState(row["mail"]),
    )


def members_full(standing_limit: int) -> TooMany:
    """The refusal of one member more than the tier has."""
    return TooMany(
        f"The tier has {standing_limit} members, invitations that are open included; remove a member, revoke an "
        "invitation, or move to a higher tier.",
        retry_after=3600.0,
        code="member_limit",
    )


async def _refuse_known(session: Session, email: str) -> None:
    """Raises Conflict for a member, and for an open invitation; one that has expired makes room."""
    row = await session.fetchrow(FIND_STANDING, email)
    assert row is not None
    if row["is_member"]:
        raise Conflict("There is a member with that e-mail.", code="already_a_member", field="email")
    if row["open_id"] is not None and not row["is_expired"]:
        raise Conflict(
            "That e-mail is invited already; resendInvitation sends the invitation again.",
            code="already_invited",
            field="email",
        )
    if row["open_id"] is not None:
        await session.execute(REVOKE, row["open_id"])


async def _take_seat(session: Session, standing: Standing, *, is_new: bool = True) -> None:
    """Raises TooMany where the tenant has no room for one more, or has sent enough today."""
    row = await session.fetchrow(COUNT_SEATS)
    assert row is not None
    limit = standing.limits.members
    if is_new and limit is not None and row["members"] + row["open"] >= limit:
        raise members_full(limit)
    if row["sent_today"] >= MOST_A_DAY:
        raise TooMany(
            f"A tenant sends at most {MOST_A_DAY} invitations in 24 hours; come back later.",
            retry_after=3600.0,
            code="invitation_limit",
        )


async def _put(
    session: Session, settings: Settings, tenant_id: TenantId, standing: Standing, email: str, role: Role, token: str
) -> tuple[UUID, str]:
    """Puts the message into the outbox: its id, and the link."""
    link = f"{settings.public_base}{PATH}?token={token}"
    text = (
        f"{standing.name} invites you to {standing.tenant_name} on CloudMetrics, as {role.value}.\n\n"
        f"To accept, open this link within 7 days:\n\n{link}\n\n"
        "It works once, for you alone; do not pass it on. If you expected no invitation, do nothing.\n"
    )
    message = Message(kind=MailKind.INVITATION, recipient=email, subject=_subject(standing.tenant_name), text=text)
    message_id = await put_message(session, message, tenant_id=tenant_id, master_key=settings.master_key_bytes())
    return message_id, link


def _subject(tenant_name: str) -> str:
    return f"Invitation to {tenant_name[:100]} on CloudMetrics"


async def _lock_open(session: Session, invitation_id: UUID) -> tuple[Invitation, UUID]:
    """An invitation that can still be accepted or sent again, for this transaction alone, and its message."""
    row = await session.fetchrow(LOCK, invitation_id)
    if row is None:
        raise NotFound("There is no Invitation with that id.", field="id")
    invitation = invitation_of(row)
    if invitation.state in (InvitationState.ACCEPTED, InvitationState.REVOKED):
        raise Conflict(
            f"The invitation was {invitation.state.value} already; invite the address anew where it is needed.",
            code="invitation_ended",
            field="id",
        )
    return invitation, UUID(int=row["message_id"].int)


async def _find(session: Session, invitation_id: UUID) -> Invitation:
    (row,) = await session.fetch(LOAD, [invitation_id])
    return invitation_of(row)
