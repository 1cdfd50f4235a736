"""Access lists of single objects, as every kind of object shows and takes them."""

from __future__ import annotations

from enum import Enum
from typing import cast

import strawberry

from core.access import EVERYONE, AccessList, Grant, Level
from core.errors import BadInput
from core.permissions import Permission, Role
from resolvers.global_ids import global_id, uuid_of
from schema.described import enum_of
from schema.guarded import shown_to
from schema.roles import RoleType

AccessLevelType = enum_of(
    Level,
    "How much may be done with an object. Each includes the one before it, and none gives more than a role allows.",
    name="AccessLevel",
    VIEW="See it.",
    EDIT="Change what it says.",
    MANAGE="Say who may do what with it, share it and delete it.",
)


@strawberry.enum(description="Who may see a new object besides its maker and the tenant's owners.")
class InitialAccess(Enum):
    EVERYONE_VIEWS = strawberry.enum_value("everyone_views", description="All of the tenant.")
    PRIVATE = strawberry.enum_value("private", description="Nobody.")

    def to_domain(self) -> list[Grant]:
        return [Grant(EVERYONE, Level.VIEW)] if self is InitialAccess.EVERYONE_VIEWS else []


@shown_to(Permission.QUESTIONS_READ)
@strawberry.type(description="One line of an access list: exactly one of `member`, `role` and `everyone`.")
class AccessEntry:
    level: AccessLevelType = strawberry.field(description="What the grantee may.")  # type: ignore[valid-type]
    member: strawberry.ID | None = strawberry.field(description="A member, by its global id.")
    role: RoleType | None = strawberry.field(description="Members of this role, and of those above it.")  # type: ignore[valid-type]
    everyone: bool = strawberry.field(description="Whether it is for all of the tenant.")


@strawberry.input(description="One line of an access list: exactly one of `member`, `role` and `everyone: true`.")
class AccessEntryInput:
    level: AccessLevelType = strawberry.field(description="What the grantee may.")  # type: ignore[valid-type]
    member: strawberry.ID | None = strawberry.field(default=None, description="A member, by its global id.")
    role: RoleType | None = strawberry.field(  # type: ignore[valid-type]
        default=None, description="Members of this role, and of those above it."
    )
    everyone: bool = strawberry.field(default=False, description="All of the tenant.")

    def to_domain(self) -> Grant:
        """The line as it is stored.

        Raises:
            BadInput: none or several are named; NotFound: no member's id.
        """
        given = (self.member is not None, self.role is not None, self.everyone)
        if sum(given) != 1:
            raise BadInput("A line of access names exactly one: member, role, or everyone: true.", field="access")
        level = cast(Level, self.level)
        if self.member is not None:
            return Grant(f"person:{uuid_of(self.member, 'Member', field='access')}", level)
        return Grant(f"role:{cast(Role, self.role).value}" if self.role is not None else EVERYONE, level)


def entries_of(access: AccessList) -> list[AccessEntry]:
    """A list's lines, the strongest first."""
    return [_entry(grant) for grant in access.grants]


def _entry(grant: Grant) -> AccessEntry:
    kind, _, name = grant.grantee.partition(":")
    return AccessEntry(
        level=grant.level,
        member=strawberry.ID(global_id("Member", name)) if kind == "person" else None,
        role=Role(name) if kind == "role" else None,
        everyone=kind == EVERYONE,
    )
