"""What may be done, and which role or scope may do it: the one table that every door asks. Pure; no I/O.

The schema declares a permission on each field (`schema/permissions.py`), a principal carries its own, and the
database's row-level security holds the tenant whatever is decided here.
"""

from __future__ import annotations

from enum import StrEnum


class Scope(StrEnum):
    """What a key may be used for."""

    EVENTS_WRITE = "events:write"
    METRICS_READ = "metrics:read"
    ADMIN = "admin"


class Role(StrEnum):
    """What a member is in a tenant; each may all that the one before it may."""

    VIEWER = "viewer"
    EDITOR = "editor"
    ADMIN = "admin"
    OWNER = "owner"

    @property
    def rank(self) -> int:
        return list(Role).index(self)


class Permission(StrEnum):
    """One thing that may be done."""

    IDENTITY_READ = "identity:read"
    PROFILE_WRITE = "profile:write"
    TENANT_READ = "tenant:read"
    METRICS_READ = "metrics:read"
    METRICS_WRITE = "metrics:write"
    EVENTS_READ = "events:read"
    EVENTS_WRITE = "events:write"
    QUESTIONS_READ = "questions:read"
    QUESTIONS_WRITE = "questions:write"
    SHARES_WRITE = "shares:write"
    SHARED_READ = "shared:read"
    MEMBERS_READ = "members:read"
    MEMBERS_WRITE = "members:write"
    OWNERS_WRITE = "owners:write"
    KEYS_READ = "keys:read"
    KEYS_WRITE = "keys:write"
    DEAD_LETTERS_READ = "dead_letters:read"
    DEAD_LETTERS_WRITE = "dead_letters:write"
    AUDIT_READ = "audit:read"
    SIGN_IN_WRITE = "sign_in:write"
    EXPORTS_WRITE = "exports:write"
    TENANT_WRITE = "tenant:write"
    TENANT_DELETE = "tenant:delete"


# Every principal has this one, a share link's too: to be told who it is.
OF_EVERYBODY = frozenset({Permission.IDENTITY_READ})
# What is left to do in a tenant that is to be deleted: to see so, and to take it back.
OF_ENDING = OF_EVERYBODY | {Permission.TENANT_READ, Permission.TENANT_DELETE}

_VIEWER = OF_EVERYBODY | {
    Permission.PROFILE_WRITE,
    Permission.TENANT_READ,
    Permission.METRICS_READ,
    Permission.EVENTS_READ,
    Permission.QUESTIONS_READ,
    Permission.MEMBERS_READ,
}
_EDITOR = _VIEWER | {Permission.METRICS_WRITE, Permission.QUESTIONS_WRITE, Permission.SHARES_WRITE}
_ADMIN = _EDITOR | {
    Permission.MEMBERS_WRITE,
    Permission.KEYS_READ,
    Permission.KEYS_WRITE,
    Permission.DEAD_LETTERS_READ,
    Permission.DEAD_LETTERS_WRITE,
    Permission.AUDIT_READ,
    Permission.SIGN_IN_WRITE,
    Permission.EXPORTS_WRITE,
    Permission.TENANT_WRITE,
}

# Events come by keys alone, so that each says which key sent it: no role may send any.
ROLE_PERMISSIONS: dict[Role, frozenset[Permission]] = {
    Role.VIEWER: _VIEWER,
    Role.EDITOR: _EDITOR,
    Role.ADMIN: _ADMIN,
    Role.OWNER: _ADMIN | {Permission.OWNERS_WRITE, Permission.TENANT_DELETE},
}

_SCOPE_READS = OF_EVERYBODY | {
    Permission.TENANT_READ,
    Permission.METRICS_READ,
    Permission.EVENTS_READ,
    Permission.QUESTIONS_READ,
}
# A key is nobody: it has no profile, and can neither make owners nor end its tenant.
SCOPE_PERMISSIONS: dict[Scope, frozenset[Permission]] = {
    Scope.EVENTS_WRITE: OF_EVERYBODY | {Permission.EVENTS_WRITE},
    Scope.METRICS_READ: _SCOPE_READS,
    Scope.ADMIN: (_ADMIN - {Permission.PROFILE_WRITE}) | {Permission.EVENTS_WRITE},
}

# A share link sees its one object, by fields of its own (schema/shared.py), and nothing else.
SHARE_LINK_PERMISSIONS = OF_EVERYBODY | {Permission.SHARED_READ}


def of_scopes(scopes: frozenset[Scope]) -> frozenset[Permission]:
    """All that a key of these scopes may do."""
    return OF_EVERYBODY.union(*(SCOPE_PERMISSIONS[scope] for scope in scopes))


def who_may(permission: Permission) -> str:
    """Which roles and scopes have a permission, for people to read."""
    roles = [role.value for role in Role if permission in ROLE_PERMISSIONS[role]]
    scopes = [scope.value for scope in Scope if permission in SCOPE_PERMISSIONS[scope]]
    parts = [f"the role {' or '.join(roles)}"] if roles else []
    parts += [f"a key with the scope {' or '.join(scopes)}"] if scopes else []
    parts += ["a share link"] if permission in SHARE_LINK_PERMISSIONS else []
    return ", or ".join(parts) or "nobody"
