"""The roles of members, as a type that several topics use."""

from __future__ import annotations

from core.permissions import Role
from schema.described import enum_of

RoleType = enum_of(
    Role,
    "What a member is; each may all that the one before it may.",
    VIEWER="Reads.",
    EDITOR="Makes and changes what is shared.",
    ADMIN="Sees to members, keys and settings.",
    OWNER="Makes owners, and may end the tenant.",
)
