"""The roles of members, as a type that several topics use."""

from __future__ import annotations

import strawberry

from core.permissions import Role

RoleType = strawberry.enum(Role, description="What a member is; each may all that the one before it may.")
