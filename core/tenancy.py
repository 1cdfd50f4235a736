"""Who may do what: tenants, tiers, principals, scopes. Decisions only; no I/O."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import NewType
from uuid import UUID

from core.errors import BadInput, PermissionDenied
from core.permissions import (
    OF_ENDING,
    ROLE_PERMISSIONS,
    SHARE_LINK_PERMISSIONS,
    Permission,
    Role,
    Scope,
    of_scopes,
    who_may,
)

TenantId = NewType("TenantId", UUID)
KeyId = NewType("KeyId", str)
PersonId = NewType("PersonId", UUID)
SessionId = NewType("SessionId", UUID)

MAX_NAME_LENGTH = 200
# Begins an encoded word (RFC 2047, 2), which in a header stands for any characters, ends of lines too.
ENCODED_WORD = "=?"
SLUG = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")


class Tier(StrEnum):
    """What a tenant pays for; decides its limits and how long its raw events are kept."""

    FREE = "free"
    PRO = "pro"
    ENTERPRISE = "enterprise"
    SELF_HOSTED = "self_hosted"


class KeyKind(StrEnum):
    """Secret keys sign or bear; publishable keys only write and are safe in a page."""

    SECRET = "secret"
    PUBLISHABLE = "publishable"


@dataclass(frozen=True, slots=True)
class TierLimits:
    """The limits of a tier; None is unlimited."""

    events_per_month: int | None
    retention_days: int | None
    requests_per_minute: int | None
    dashboards: int | None
    alert_rules: int | None
    members: int | None


TIER_LIMITS: dict[Tier, TierLimits] = {
    Tier.FREE: TierLimits(100_000, 30, 100, 3, 5, 3),
    Tier.PRO: TierLimits(10_000_000, 90, 1_000, 20, 50, 20),
    Tier.ENTERPRISE: TierLimits(None, 365, 10_000, None, None, None),
    Tier.SELF_HOSTED: TierLimits(None, None, None, None, None, None),
}

# A bucket needs a size even where the tier sets none; this one only stops a runaway loop.
UNLIMITED_REQUESTS_PER_MINUTE = 1_000_000


@dataclass(frozen=True, slots=True)
class Tenant:
    """One customer; everything else belongs to exactly one."""

    id: TenantId
    slug: str
    name: str
    tier: Tier
    created_at: datetime
    is_demo: bool = False
    # From when on its rows go; it may be restored until then. None: it is not to be deleted.
    ends_at: datetime | None = None

    @property
    def limits(self) -> TierLimits:
        return TIER_LIMITS[self.tier]


class PrincipalKind(StrEnum):
    """What kind of caller it is."""

    KEY = "key"
    PERSON = "person"
    SHARE_LINK = "share_link"
    OPERATOR = "operator"


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """Who asks, for which one tenant, and what it may do there. `actor` is its name in the audit trail. `is_locked`: a
    person whom the tenant's own identity provider vouches for, and who is nobody outside of that tenant."""

    tenant: Tenant
    actor: str
    kind: PrincipalKind
    permissions: frozenset[Permission]
    scopes: frozenset[Scope] = frozenset()
    role: Role | None = None
    person_id: PersonId | None = None
    session_id: SessionId | None = None
    is_locked: bool = False
    # A share link's one object, as `core.access.object_name` names it.
    shared_object: str | None = None

    @classmethod
    def of_key(cls, tenant: Tenant, key_id: KeyId, scopes: frozenset[Scope]) -> Principal:
        return cls(tenant=tenant, actor=key_id, kind=PrincipalKind.KEY, permissions=of_scopes(scopes), scopes=scopes)

    @classmethod
    def of_person(
        cls,
        tenant: Tenant,
        person_id: PersonId,
        role: Role,
        session_id: SessionId | None,
        *,
        is_locked: bool = False,
    ) -> Principal:
        return cls(
            tenant=tenant,
            actor=f"person:{person_id}",
            kind=PrincipalKind.PERSON,
            permissions=ROLE_PERMISSIONS[role] & (OF_ENDING if tenant.ends_at else ROLE_PERMISSIONS[role]),
            role=role,
            person_id=person_id,
            session_id=session_id,
            is_locked=is_locked,
        )

    @classmethod
    def of_share_link(cls, tenant: Tenant, link_id: UUID, shared_object: str) -> Principal:
        return cls(
            tenant=tenant,
            actor=f"share_link:{link_id}",
            kind=PrincipalKind.SHARE_LINK,
            permissions=SHARE_LINK_PERMISSIONS,
            shared_object=shared_object,
        )

    def may(self, permission: Permission) -> bool:
        return permission in self.permissions

    def require(self, permission: Permission) -> None:
        """Refuses a principal without the permission.

        Raises:
            PermissionDenied: names the permission, who has it, and what the caller is.
        """
        if permission not in self.permissions:
            raise PermissionDenied(f"This needs {permission.value}: {who_may(permission)}. {self._described()}")

    def refuse_when_ending(self) -> None:
        """Refuses whoever may not even restore a tenant that is to be deleted; every door asks.

        Raises:
            PermissionDenied: says until when the tenant may be restored.
        """
        if self.tenant.ends_at is not None and Permission.TENANT_DELETE not in self.permissions:
            raise PermissionDenied(
                f"This tenant is to be deleted; until {self.tenant.ends_at:%Y-%m-%d %H:%M} UTC an owner can take that "
                "back with restoreTenant, or the operator with `tenant restore`.",
                code="tenant_ending",
            )

    def _described(self) -> str:
        match self.kind:
            case PrincipalKind.KEY:
                return f"This key has the scopes {', '.join(sorted(self.scopes)) or 'none'}."
            case PrincipalKind.PERSON:
                return f"Your role is {self.role}."
            case _:
                return f"This is a {self.kind.value.replace('_', ' ')}."


def checked_slug(slug: str) -> str:
    """A slug usable in addresses.

    Raises:
        BadInput: not 1 to 63 of a-z, 0-9, hyphen, beginning with a letter or digit.
    """
    if not SLUG.fullmatch(slug):
        raise BadInput(
            f"Tenant slug {slug[:80]!r} must be 1 to 63 of a-z, 0-9 and hyphens, beginning with a letter or digit.",
            field="slug",
        )
    return slug


def checked_name(name: str) -> str:
    """A name that people read.

    Raises:
        BadInput: more than 200 characters, some that cannot be printed, or the beginning of an encoded word.
    """
    if len(name) > MAX_NAME_LENGTH or not name.isprintable() or ENCODED_WORD in name:
        raise BadInput(
            f"A name has at most {MAX_NAME_LENGTH} characters, all of them printable, and no {ENCODED_WORD}.",
            field="name",
        )
    return name
