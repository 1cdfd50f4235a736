"""Access lists of single objects: who may do how much with one. The only place where it is decided. Pure; no I/O.

A caller speaks for some grantees: itself, everybody, its role and those below, or, as a share link, for one object.
An object's list gives grantees a level. `sql/policies/shared_objects.sql` holds the same in the database, so that what
a resolver forgets to ask for is still not given. A level never gives more than a role: who may write no questions at
all edits none, whatever a list says.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

from core.errors import BadInput, PermissionDenied
from core.permissions import Role, Scope
from core.tenancy import Principal, PrincipalKind

EVERYONE = "everyone"
MAX_GRANTS = 100
# What a job or an operator speaks for that must see all of a tenant's objects, as its owners do.
OF_OWNERS = ("role:owner",)
_GRANTEE = re.compile(r"everyone|role:[a-z]+|person:[0-9a-f-]{36}|key_[a-z0-9]{1,64}|[a-z_]+:[0-9a-f-]{36}")


class Level(StrEnum):
    """How much may be done with an object; each includes the one before it."""

    VIEW = "view"
    EDIT = "edit"
    MANAGE = "manage"

    @property
    def rank(self) -> int:
        return list(Level).index(self)


@dataclass(frozen=True, slots=True)
class Grant:
    """One line of an access list: a grantee as it is stored, and what it may."""

    grantee: str
    level: Level


@dataclass(frozen=True, slots=True)
class AccessList:
    """Whose an object is, and who else may do how much with it; grantees as they are stored."""

    owner: str
    viewers: tuple[str, ...] = ()
    editors: tuple[str, ...] = ()
    managers: tuple[str, ...] = ()

    @classmethod
    def of(cls, owner: str, grants: Sequence[Grant]) -> AccessList:
        """A list from its lines.

        Raises:
            BadInput: too many, or one grantee twice.
        """
        names = [grant.grantee for grant in grants]
        if len(names) > MAX_GRANTS:
            raise BadInput(f"An access list has at most {MAX_GRANTS} lines; give a role.", field="access")
        if len(set(names)) != len(names):
            raise BadInput("An access list names each person, role or everybody once.", field="access")
        by_level = {level: tuple(sorted(g.grantee for g in grants if g.level is level)) for level in Level}
        return cls(owner, by_level[Level.VIEW], by_level[Level.EDIT], by_level[Level.MANAGE])

    @property
    def grants(self) -> list[Grant]:
        """Its lines, the strongest first; the owner is none of them."""
        levels = ((Level.MANAGE, self.managers), (Level.EDIT, self.editors), (Level.VIEW, self.viewers))
        return [Grant(grantee, level) for level, grantees in levels for grantee in grantees]


def grantees_of(principal: Principal) -> tuple[str, ...]:
    """All that a caller speaks for.

    A person: itself, its role and those below it, everybody. A key: itself and everybody, and the role whose reach its
    scopes have. A share link: its one object. An operator: the tenant's owners.
    """
    match principal.kind:
        case PrincipalKind.PERSON:
            return (principal.actor, *roles_up_to(principal.role or Role.VIEWER), EVERYONE)
        case PrincipalKind.KEY:
            role = Role.ADMIN if Scope.ADMIN in principal.scopes else Role.VIEWER
            return (principal.actor, *roles_up_to(role), EVERYONE)
        case PrincipalKind.SHARE_LINK:
            return (principal.shared_object,) if principal.shared_object else ()
        case PrincipalKind.OPERATOR:
            return OF_OWNERS
    raise AssertionError(principal.kind)


def roles_up_to(role: Role) -> tuple[str, ...]:
    """What is given to a role is given to those above it."""
    return tuple(f"role:{lower.value}" for lower in Role if lower.rank <= role.rank)


def object_name(kind: str, id: UUID) -> str:
    """What a share link to an object speaks for."""
    return f"{kind}:{id}"


def level_of(mine: Iterable[str], access: AccessList, object: str = "") -> Level | None:
    """How much a caller that speaks for these may do with an object; None: to it the object is not there."""
    names = set(mine)
    if access.owner in names or "role:owner" in names or names & set(access.managers):
        return Level.MANAGE
    if names & set(access.editors):
        return Level.EDIT
    return Level.VIEW if names & set(access.viewers) or (object and object in names) else None


def require(found: Level | None, wanted: Level, what: str) -> None:
    """Refuses who may see an object and not do this with it; who may not see it must not get here.

    Raises:
        PermissionDenied: names the level.
    """
    if found is None or found.rank < wanted.rank:
        raise PermissionDenied(
            f"This needs the level {wanted.value} on this {what}; yours is {found or 'none'}. Who manages it can "
            "give it to you."
        )


def setting_of(grantees: Sequence[str]) -> str:
    """Grantees as the database's setting has them: a text array. None of them needs quoting, or it is refused.

    Raises:
        ValueError: one is of no known form.
    """
    for grantee in grantees:
        if not _GRANTEE.fullmatch(grantee):
            raise ValueError(f"no grantee: {grantee!r}")
    return "{" + ",".join(grantees) + "}"
