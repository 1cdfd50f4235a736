"""Where a person's own sessions come from, and how it ends them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from core.database import Database
from core.errors import PermissionDenied
from core.own_sessions import Own, SessionRow, count_sessions, end_own_sessions, find_sessions, list_sessions
from core.tenancy import SessionId, TenantId
from resolvers.context import Context
from resolvers.global_ids import missing, uuid_of
from resolvers.pages import Page, asked

KIND = "Session"


def own_of(context: Context) -> Own:
    """Whose sessions the caller means: its person's; those in its tenant alone where its session is locked to that,
    for whoever vouches for it there may not see or end what it does elsewhere.

    Raises:
        PermissionDenied: the caller is no person.
    """
    principal = context.principal
    if principal.person_id is None:
        raise PermissionDenied("This is for people who have signed in; a key has no sessions.")
    return Own(principal.person_id, principal.tenant.id if principal.is_locked else None)


async def list_own_sessions(context: Context, first: int | None, after: str | None) -> Page[SessionRow]:
    """A page of the caller's live sessions, the last used first; none for who is no person.

    Raises:
        BadInput: `first` or `after` cannot be used.
    """
    page = asked(context, KIND, first, after)
    database = context.backends.database
    if context.principal.person_id is None:
        return page.page([], _place_of)
    own = own_of(context)
    rows = await list_sessions(database, own, page.rows, _start(page.place) if page.place is not None else None)
    return page.page(rows, _place_of, lambda: count_sessions(database, own))


async def find_own_session(context: Context, local: str) -> SessionRow | None:
    """One of the caller's live sessions by its local id."""
    try:
        key = (own_of(context), UUID(local))
    except (ValueError, PermissionDenied):
        return None
    return await context.loaders.of(load_sessions).load(key)


async def load_sessions(
    database: Database, tenant_id: TenantId, keys: Sequence[tuple[Own, UUID]]
) -> Sequence[SessionRow | None]:
    """Sessions of the one person that asks, by their ids."""
    return await find_sessions(database, keys[0][0], [id for _, id in keys])


async def revoke_session(context: Context, id: str) -> None:
    """Ends one of the caller's sessions.

    Raises:
        NotFound: the caller has no live session with that id.
    """
    session_id = SessionId(uuid_of(id, KIND))
    if not await end_own_sessions(
        context.backends.database, own_of(context), context.request_id, session_id=session_id
    ):
        raise missing(KIND)


async def revoke_other_sessions(context: Context, *, include_current: bool) -> int:
    """Ends all of the caller's sessions, the one that asks only if it is included; how many those were."""
    own, keep = own_of(context), context.principal.session_id
    which = {} if include_current or keep is None else {"keep": keep}
    return len(await end_own_sessions(context.backends.database, own, context.request_id, **which))


def _place_of(row: SessionRow) -> str:
    return f"{row.last_used_at.isoformat()}|{row.id}"


def _start(place: str) -> tuple[datetime, UUID]:
    stamp, _, id = place.partition("|")
    return datetime.fromisoformat(stamp), UUID(id)
