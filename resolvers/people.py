"""Where a person's own fields come from: who it is, its tenants, its password."""

from __future__ import annotations

from core.errors import PermissionDenied
from core.people import Membership, Person, count_memberships, find_person, list_memberships_by_slug
from core.sessions import switch_session
from core.sign_in import change_profile
from core.tenancy import PersonId, SessionId
from core.tokens import ACCESS_SECONDS
from resolvers.context import Context
from resolvers.pages import Page, asked


async def viewer_person(context: Context) -> Person | None:
    """The person that asks; None for a key."""
    person_id = context.principal.person_id
    return None if person_id is None else await find_person(context.backends.database, person_id)


async def list_own_tenants(context: Context, first: int | None, after: str | None) -> Page[Membership]:
    """A page of the tenants that the caller may switch to, by slug; none for who is no person, and its own where its
    session is locked to that.

    Raises:
        BadInput: `first` or `after` cannot be used.
    """
    page = asked(context, "Membership", first, after)
    person_id, database = context.principal.person_id, context.backends.database
    if person_id is None:
        return page.page([], _place_of)
    only = context.principal.tenant.id if context.principal.is_locked else None
    found = await list_memberships_by_slug(database, person_id, page.rows, page.place, only)
    return page.page(found, _place_of, lambda: count_memberships(database, person_id, only))


async def switch_tenant(context: Context, slug: str) -> tuple[str, int, Membership]:
    """Moves the caller's session: an access token, its seconds, and what the person is there.

    Raises:
        NotFound: the person has no such tenant.
        PermissionDenied: the session is locked.
    """
    backends = context.backends
    _, session_id = _person_of(context)
    token, membership = await switch_session(backends.database, backends.settings, session_id, slug, context.request_id)
    return token, ACCESS_SECONDS, membership


async def change_password(context: Context, current: str, new: str) -> int:
    """Another password; how many other sessions that ended. Errors as `SignIn.change_password`."""
    person_id, session_id = _person_of(context)
    return await context.backends.sign_in.change_password(
        person_id,
        context.principal.tenant.id,
        current=current,
        new=new,
        keep=session_id,
        request_id=context.request_id,
    )


async def update_profile(context: Context, name: str) -> Person:
    """Another name.

    Raises:
        BadInput: it is none.
        PermissionDenied: whoever vouches for the session may not change the person elsewhere.
    """
    person_id, _ = _person_of(context)
    if context.principal.is_locked:
        raise PermissionDenied("This session was opened by a tenant's identity provider; change the name there.")
    return await change_profile(context.backends.database, context.author, person_id, name)


def _person_of(context: Context) -> tuple[PersonId, SessionId]:
    person_id, session_id = context.principal.person_id, context.principal.session_id
    if person_id is None or session_id is None:
        raise PermissionDenied("This is for people who have signed in.")
    return person_id, session_id


def _place_of(membership: Membership) -> str:
    return membership.tenant.slug
