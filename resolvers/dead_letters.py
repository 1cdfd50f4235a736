"""Where a tenant's dead letters come from, and what its administrator does with them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from core.dead_letters import Place
from core.errors import BadInput, NotFound
from core.own_letters import OwnLetter, drop_own, list_own, replay_own
from core.tenancy import Scope
from resolvers.context import Context
from resolvers.cursors import read_place, write_place
from resolvers.events import DEFAULT_PAGE, MAX_PAGE, PageInfoRow
from resolvers.nodes import parse_global_id

KIND = "DeadLetter"


@dataclass(frozen=True, slots=True)
class LetterEdgeRow:
    """A letter and where it stands."""

    cursor: str
    node: OwnLetter


@dataclass(frozen=True, slots=True)
class LetterPage:
    """One page."""

    edges: list[LetterEdgeRow]
    page_info: PageInfoRow


async def list_dead_letters(context: Context, first: int | None, after: str | None) -> LetterPage:
    """A page of letters, newest first.

    Raises:
        PermissionDenied: without the scope admin.
        BadInput: `first` or `after` cannot be used.
    """
    context.principal.require(Scope.ADMIN)
    size = DEFAULT_PAGE if first is None else first
    if not 1 <= size <= MAX_PAGE:
        raise BadInput(f"first must be 1 to {MAX_PAGE}; ask for more with `after`.", code="page_size", field="first")
    tenant_id = context.principal.tenant.id
    secret = context.backends.cursor_key + tenant_id.bytes + KIND.encode()
    start = _start(read_place(after, secret)) if after is not None else None
    letters = await list_own(context.backends.database, tenant_id, size + 1, start)
    edges = [
        LetterEdgeRow(write_place(f"{letter.created_at.isoformat()}|{letter.place}", secret), letter)
        for letter in letters[:size]
    ]
    ends = (edges[0].cursor, edges[-1].cursor) if edges else (None, None)
    return LetterPage(edges, PageInfoRow(len(letters) > size, after is not None, *ends))


async def replay_dead_letter(context: Context, id: str) -> None:
    """Sends a letter's record on its way again.

    Raises:
        PermissionDenied, NotFound, LogUnavailable, LogFull, DatabaseUnavailable.
    """
    context.principal.require(Scope.ADMIN)
    backends = context.backends
    await replay_own(backends.database, backends.log, context.principal, place_of(id), context.request_id)


async def drop_dead_letter(context: Context, id: str) -> None:
    """Ends a letter; same errors."""
    context.principal.require(Scope.ADMIN)
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
    raise NotFound("There is no such dead letter; `tenant.deadLetters` lists those there are.", field="id")


def _start(place: str) -> tuple[datetime, Place]:
    stamp, _, text = place.partition("|")
    return datetime.fromisoformat(stamp), Place.parse(text)
