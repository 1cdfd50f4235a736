"""Whether a caller still is what it was when it was let in, asked within the transaction of its write: doors know
roles and scopes for some seconds, a write does not rely on that."""

from __future__ import annotations

from core.audit import Author
from core.database import Session
from core.errors import PermissionDenied
from core.permissions import ROLE_PERMISSIONS, Role, Scope, of_scopes
from core.queries import named
from core.tenancy import Principal, PrincipalKind

HOLD_MEMBER = named("access", "hold_member")
HOLD_KEY = named("access", "hold_key")


async def require_standing(session: Session, principal: Principal) -> None:
    """Holds a caller's role or scopes until the transaction ends.

    Raises:
        PermissionDenied: it is gone, or may less by now than the door said; the next request is judged anew.
    """
    if principal.kind is PrincipalKind.PERSON:
        row = await session.fetchrow(HOLD_MEMBER, principal.person_id, principal.session_id)
        held = ROLE_PERMISSIONS[Role(row["role"])] if row else frozenset()
    elif principal.kind is PrincipalKind.KEY:
        row = await session.fetchrow(HOLD_KEY, principal.actor)
        held = of_scopes(frozenset(Scope(scope) for scope in row["scopes"])) if row else frozenset()
    else:
        return
    if not principal.permissions <= held:
        raise PermissionDenied("What you may do here has just changed; ask again in some seconds.")


async def require_author(session: Session, author: Author) -> None:
    """The same of an author. The operator stands by itself. Whoever changes the tenant's row or a key's later in the
    transaction locks the tenant first (`core.members.lock_members`), or two of them wait for each other.

    Raises:
        PermissionDenied: see `require_standing`.
    """
    if author.principal is not None:
        await require_standing(session, author.principal)
