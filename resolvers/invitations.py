"""Where invitations come from, and what changes them."""

from __future__ import annotations

from core import invitations
from core.invitations import Invitation
from core.permissions import Role
from resolvers.context import Context
from resolvers.global_ids import uuid_of
from resolvers.members import authority_of, place_of
from resolvers.pages import Page, asked

KIND = "Invitation"


async def list_invitations(context: Context, first: int | None, after: str | None, has_ended: bool) -> Page[Invitation]:
    """A page of invitations, newest first.

    Raises:
        BadInput: `first` or `after` cannot be used.
    """
    page = asked(context, KIND, first, after)
    database, tenant_id = context.backends.database, context.principal.tenant.id
    start = place_of(page.place) if page.place is not None else None
    found = await invitations.list_invitations(database, tenant_id, most=page.rows, has_all=has_ended, before=start)
    return page.page(
        found,
        lambda invitation: f"{invitation.created_at.isoformat()}|{invitation.id}",
        lambda: invitations.count_invitations(database, tenant_id, has_ended),
    )


async def invite_member(context: Context, email: str, role: Role) -> Invitation:
    """Errors as `core.invitations.invite_member`. The link goes by mail alone."""
    backends = context.backends
    issued = await invitations.invite_member(backends.database, backends.settings, authority_of(context), email, role)
    return issued.invitation


async def resend_invitation(context: Context, id: str) -> Invitation:
    """Errors as `core.invitations.resend_invitation`."""
    backends = context.backends
    issued = await invitations.resend_invitation(
        backends.database, backends.settings, authority_of(context), uuid_of(id, KIND)
    )
    return issued.invitation


async def revoke_invitation(context: Context, id: str) -> Invitation:
    """Errors as `core.invitations.revoke_invitation`."""
    return await invitations.revoke_invitation(context.backends.database, authority_of(context), uuid_of(id, KIND))
