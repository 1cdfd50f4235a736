"""Where a tenant's dead letters come from, and what its administrator does with them."""

from __future__ import annotations

from datetime import datetime

from core.dead_letters import Place
from core.errors import BadInput
from core.own_letters import OwnLetter, drop_own, list_own, replay_own
from resolvers.context import Context
from resolvers.global_ids import missing, parse_global_id
from resolvers.pages import Page, asked

KIND = "DeadLetter"


async def list_dead_letters(context: Context, first: int | None, after: str | None) -> Page[OwnLetter]:
    """A page of letters, newest first.

    Raises:
        BadInput: `first` or `after` cannot be used.
    """
    page = asked(context, KIND, first, after)
    start = _start(page.place) if page.place is not None else None
    letters = await list_own(context.backends.database, context.principal.tenant.id, page.rows, start)
    return page.page(letters, lambda letter: f"{letter.created_at.isoformat()}|{letter.place}")


async def replay_dead_letter(context: Context, id: str) -> None:
    """Sends a letter's record on its way again.

    Raises:
        NotFound, LogUnavailable, LogFull, DatabaseUnavailable.
    """
    backends = context.backends
    await replay_own(backends.database, backends.log, context.principal, place_of(id), context.request_id)


async def drop_dead_letter(context: Context, id: str) -> None:
    """Ends a letter; same errors."""
    await drop_own(context.backends.database, context.principal, place_of(id), context.request_id)


def place_of(id: str) -> Place:
    """The place that a global id names.

    Raises:
        NotFound: it is no letter's.
    """
    kind, local = parse_global_id(id)
    try:
        if kind == KIND:
            return Place.parse(local)
    except BadInput:
        pass
    raise missing(KIND)


def _start(place: str) -> tuple[datetime, Place]:
    stamp, _, text = place.partition("|")
    return datetime.fromisoformat(stamp), Place.parse(text)
