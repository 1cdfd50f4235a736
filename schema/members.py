"""Members of a tenant, and what changes them."""

from __future__ import annotations

from datetime import datetime
from typing import cast

import strawberry
from strawberry import Info

from core.members import Member as MemberRow
from core.permissions import Permission
from resolvers.context import Context
from resolvers.global_ids import global_id
from resolvers.members import change_member_role, leave_tenant, may_see_address, remove_member
from schema.guarded import mutation, shown_to
from schema.node import Node
from schema.roles import RoleType


@shown_to(Permission.MEMBERS_READ)
@strawberry.type(description="A person in the tenant.")
class Member(Node):
    @strawberry.field(description="Global id.")
    def id(self) -> strawberry.ID:
        return strawberry.ID(global_id("Member", str(cast(MemberRow, self).person_id)))

    @strawberry.field(description="The person's id, as the audit trail names it after `person:`.")
    def person_id(self) -> str:
        return str(cast(MemberRow, self).person_id)

    name: str = strawberry.field(description="As the person wants to be called.")

    @strawberry.field(description="Its e-mail; null for whoever has not `members:write` and is not that person.")
    def email(self, info: Info[Context, None]) -> str | None:
        member = cast(MemberRow, self)
        return member.email or None if may_see_address(info.context, member) else None

    role: RoleType = strawberry.field(description="What it may.")  # type: ignore[valid-type]
    since: datetime = strawberry.field(description="When it became a member.")

    @strawberry.field(description="When it was last active here; null where `email` is, or for never.")
    def last_seen_at(self, info: Info[Context, None]) -> datetime | None:
        member = cast(MemberRow, self)
        return member.last_seen_at if may_see_address(info.context, member) else None

    @classmethod
    def is_type_of(cls, obj: object, info: object) -> bool:
        return isinstance(obj, MemberRow)


@strawberry.input(description="Another role for a member.")
class ChangeMemberRoleInput:
    id: strawberry.ID = strawberry.field(description="The member's global id.")
    role: RoleType = strawberry.field(  # type: ignore[valid-type]
        description="The role from now on. `OWNER`, and the role of an owner, are changed by owners alone."
    )


@strawberry.input(description="Whose membership ends.")
class RemoveMemberInput:
    id: strawberry.ID = strawberry.field(description="The member's global id.")


@strawberry.input(description="Which tenant to leave.")
class LeaveTenantInput:
    slug: str = strawberry.field(description="The tenant's slug, typed again, so that nobody leaves by mistake.")


@shown_to(Permission.MEMBERS_WRITE)
@strawberry.type(description="The member as it is now.")
class ChangeMemberRolePayload:
    member: Member = strawberry.field(description="With its new role.")


@shown_to(Permission.MEMBERS_WRITE)
@strawberry.type(description="It is no member any more; its sessions here have ended.")
class RemoveMemberPayload:
    id: strawberry.ID = strawberry.field(description="As given.")


@shown_to(Permission.PROFILE_WRITE)
@strawberry.type(description="You are no member any more; this token is good no longer.")
class LeaveTenantPayload:
    slug: str = strawberry.field(description="As given.")


async def resolve_change_member_role(
    info: Info[Context, None], input: ChangeMemberRoleInput
) -> ChangeMemberRolePayload:
    """Gives a member another role."""
    member = await change_member_role(info.context, input.id, input.role)
    return ChangeMemberRolePayload(member=cast(Member, member))


async def resolve_remove_member(info: Info[Context, None], input: RemoveMemberInput) -> RemoveMemberPayload:
    """Ends a membership."""
    await remove_member(info.context, input.id)
    return RemoveMemberPayload(id=input.id)


async def resolve_leave_tenant(info: Info[Context, None], input: LeaveTenantInput) -> LeaveTenantPayload:
    """Ends one's own membership."""
    await leave_tenant(info.context, input.slug)
    return LeaveTenantPayload(slug=input.slug)


@strawberry.type
class MemberMutations:
    change_member_role = mutation(
        Permission.MEMBERS_WRITE,
        resolve_change_member_role,
        ChangeMemberRolePayload,
        "Gives a member another role. Only owners make or unmake owners, nobody raises himself, and the last owner "
        "stays one; open invitations of whoever comes down are revoked.",
    )
    remove_member = mutation(
        Permission.MEMBERS_WRITE,
        resolve_remove_member,
        RemoveMemberPayload,
        "Ends a membership at once, with the sessions here and the open invitations of that person. Only owners remove "
        "owners, and the last one stays.",
    )
    leave_tenant = mutation(
        Permission.PROFILE_WRITE,
        resolve_leave_tenant,
        LeaveTenantPayload,
        "Ends one's own membership. The last owner cannot leave.",
    )
