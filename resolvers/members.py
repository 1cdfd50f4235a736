"""Where members come from, and what changes them."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from core import members
from core.errors import BadInput
from core.members import Authority, Member
from core.permissions import Permission, Role
from core.tenancy import MAX_NAME_LENGTH, PersonId
from resolvers.context import Context
from resolvers.global_ids import uuid_of
from resolvers.pages import Page, asked

KIND = "Member"


async def list_members(context: Context, first: int | None, after: str | None, search: str | None) -> Page[Member]:
    """A page of members, who is there longest first.

    Raises:
        BadInput: `first`, `after` or `search` cannot be used.
    """
    page, wanted = asked(context, KIND, first, after), search or ""
    if len(wanted) > MAX_NAME_LENGTH or "\x00" in wanted:
        raise BadInput(f"search has at most {MAX_NAME_LENGTH} characters, none of them NUL.", field="search")
    database, tenant_id = context.backends.database, context.principal.tenant.id
    start = place_of(page.place) if page.place is not None else None
    found = await members.list_members(database, tenant_id, most=page.rows, search=wanted, after=start)
    return page.page(
        found,
        lambda member: f"{member.since.isoformat()}|{member.person_id}",
        lambda: members.count_members(database, tenant_id, wanted),
    )


def may_see_address(context: Context, member: Member) -> bool:
    """Whether the caller may know a member's e-mail, and when it was last there: its own, or who changes members."""
    principal = context.principal
    return principal.person_id == member.person_id or principal.may(Permission.MEMBERS_WRITE)


async def change_member_role(context: Context, id: str, role: Role) -> Member:
    """Errors as `core.members.change_member_role`."""
    person_id = PersonId(uuid_of(id, KIND))
    return await members.change_member_role(context.backends.database, authority_of(context), person_id, role)


async def remove_member(context: Context, id: str) -> None:
    """Errors as `core.members.remove_member`."""
    person_id = PersonId(uuid_of(id, KIND))
    await members.remove_member(context.backends.database, authority_of(context), person_id)


async def leave_tenant(context: Context, slug: str) -> None:
    """Errors as `core.members.leave_tenant`, and:

    Raises:
        BadInput: the slug is another tenant's.
    """
    if slug != context.principal.tenant.slug:
        raise BadInput(f"slug must be that of the tenant to leave: {context.principal.tenant.slug}.", field="slug")
    await members.leave_tenant(context.backends.database, authority_of(context))


def authority_of(context: Context) -> Authority:
    return Authority.of(context.principal, context.request_id)


def place_of(text: str) -> tuple[datetime, UUID]:
    """A page's place: a moment and an id."""
    stamp, _, id = text.partition("|")
    return datetime.fromisoformat(stamp), UUID(id)
