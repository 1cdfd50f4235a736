"""Who may do what: tenants, tiers, principals, scopes. Decisions only; no I/O."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import NewType
from uuid import UUID

from core.errors import BadInput, PermissionDenied

TenantId = NewType("TenantId", UUID)
KeyId = NewType("KeyId", str)

MAX_NAME_LENGTH = 200
SLUG = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")


class Tier(StrEnum):
    """What a tenant pays for; decides its limits and how long its raw events are kept."""

    FREE = "free"
    PRO = "pro"
    ENTERPRISE = "enterprise"
    SELF_HOSTED = "self_hosted"


class Scope(StrEnum):
    """What a key may be used for."""

    EVENTS_WRITE = "events:write"
    METRICS_READ = "metrics:read"
    ADMIN = "admin"


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


TIER_LIMITS: dict[Tier, TierLimits] = {
    Tier.FREE: TierLimits(100_000, 30, 100),
    Tier.PRO: TierLimits(10_000_000, 90, 1_000),
    Tier.ENTERPRISE: TierLimits(None, 365, 10_000),
    Tier.SELF_HOSTED: TierLimits(None, None, None),
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

    @property
    def limits(self) -> TierLimits:
        return TIER_LIMITS[self.tier]


@dataclass(frozen=True, slots=True)
class Principal:
    """Who asks, for which tenant, with which scopes."""

    tenant: Tenant
    actor: str
    scopes: frozenset[Scope]

    def require(self, scope: Scope) -> None:
        """Refuses a principal without the scope; `admin` holds all.

        Raises:
            PermissionDenied: names the missing scope.
        """
        if scope not in self.scopes and Scope.ADMIN not in self.scopes:
            raise PermissionDenied(f"This needs the scope {scope.value}; the key has {self.described_scopes()}.")

    def described_scopes(self) -> str:
        return ", ".join(sorted(self.scopes)) or "none"


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
        BadInput: more than 200 characters, or some that cannot be printed.
    """
    if len(name) > MAX_NAME_LENGTH or not name.isprintable():
        raise BadInput(f"A name has at most {MAX_NAME_LENGTH} characters, all of them printable.", field="name")
    return name
