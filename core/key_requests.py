"""What may be asked of API keys, and what may be given away with them. Decisions only; no I/O."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from typing import Literal

from core.audit import Author
from core.errors import BadInput, PermissionDenied
from core.permissions import Permission, Scope, of_scopes
from core.tenancy import KeyKind, Principal, PrincipalKind, TenantId, checked_name

# The ASCII serialisation of an origin (RFC 6454, 6.2): lower case, no path, the port only where it is not the usual.
ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://(?:[a-z0-9.-]+|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?")
MAX_ORIGINS = 100
MAX_ORIGIN_LENGTH = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRequest:
    """What is asked of a new key."""

    kind: KeyKind
    name: str
    scopes: frozenset[Scope]
    origins: tuple[str, ...] = ()
    is_unsigned: bool = False
    expires_at: datetime | None = None


class Unchanged(Enum):
    """Where None means something, this means: as it is."""

    UNCHANGED = "unchanged"


UNCHANGED: Literal[Unchanged.UNCHANGED] = Unchanged.UNCHANGED


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyChange:
    """What is asked of a key that there is. `expires_at` None: it never ends by itself."""

    name: str | None = None
    origins: tuple[str, ...] | None = None
    expires_at: datetime | Literal[Unchanged.UNCHANGED] | None = UNCHANGED


@dataclass(frozen=True, slots=True)
class Grantor:
    """Who makes or changes keys, and what it has to give: no key comes to more than its maker has, nor lasts longer
    than a key that made it."""

    author: Author
    permissions: frozenset[Permission]
    until: datetime | None = None

    @classmethod
    def operator(cls, tenant_id: TenantId) -> Grantor:
        return cls(Author.operator(tenant_id), frozenset(Permission))

    @classmethod
    def of(cls, principal: Principal, author: Author, until: datetime | None) -> Grantor:
        """A caller. `until`: when the key ends with which it calls."""
        # No person sends events itself: its keys do.
        sending = {Permission.EVENTS_WRITE} if principal.kind is PrincipalKind.PERSON else set()
        return cls(author, principal.permissions | sending, until)

    def check(self, scopes: frozenset[Scope], expires_at: datetime | None) -> None:
        """Refuses to give what it has not.

        Raises:
            PermissionDenied: names what is missing, or until when a key may last.
        """
        more = of_scopes(scopes) - self.permissions
        if more:
            raise PermissionDenied(
                f"The scopes {', '.join(sorted(scopes))} allow more than you may: {', '.join(sorted(more))}. Ask for "
                "fewer, or as somebody who may."
            )
        if self.until is not None and (expires_at is None or expires_at > self.until):
            raise PermissionDenied(
                f"The key that asks ends at {self.until.isoformat()}, and can give no other more time. Set "
                "expiresAt to then or before, or ask as a person.",
                field="expiresAt",
            )


def check_key_request(asked: KeyRequest) -> None:
    """Refuses a key that could never do what it was asked for.

    Raises:
        BadInput: names the field and the remedy.
    """
    checked_name(asked.name)
    if not asked.scopes:
        raise BadInput("A key needs a scope: events:write, metrics:read or admin.", field="scopes")
    is_publishable = asked.kind is KeyKind.PUBLISHABLE
    if is_publishable and asked.scopes != {Scope.EVENTS_WRITE}:
        raise BadInput("A publishable key can only have the scope events:write; make a secret key.", field="scopes")
    if is_publishable and asked.is_unsigned:
        raise BadInput("A publishable key never signs; leave --unsigned to secret keys.", field="unsigned")
    if asked.origins and not is_publishable:
        raise BadInput("Only publishable keys have origins; make one, or leave --origin out.", field="origins")
    if len(asked.origins) > MAX_ORIGINS:
        raise BadInput(f"A key has at most {MAX_ORIGINS} origins, not {len(asked.origins)}.", field="origins")
    for origin in asked.origins:
        if origin != "*" and (len(origin) > MAX_ORIGIN_LENGTH or not ORIGIN.fullmatch(origin)):
            raise BadInput(
                f"The origin {origin[:200]!r} must be * or scheme, host and port as browsers send it, such as "
                "https://shop.example or http://localhost:3000, without a path.",
                field="origins",
            )
    if asked.expires_at is not None:
        _check_end(asked.expires_at)


def _check_end(expires_at: datetime) -> None:
    if expires_at.tzinfo is None:
        raise BadInput("expiresAt must have a zone, such as 2027-01-31T00:00:00Z.", field="expiresAt")
    if not datetime.now(UTC) < expires_at or expires_at.year > 2200:
        raise BadInput("expiresAt must be to come, and before 2200; revoke a key to end it now.", field="expiresAt")
