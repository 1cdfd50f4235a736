"""Pages of lists: the size that was asked for, signed cursors, one row more than shown to know of a next page."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from core.errors import BadInput
from resolvers.context import Context
from resolvers.cursors import read_place, write_place

DEFAULT_PAGE = 20
MAX_PAGE = 100

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class PageInfoRow:
    """Where a page begins and ends, and whether there is more."""

    has_next_page: bool
    has_previous_page: bool
    start_cursor: str | None
    end_cursor: str | None


@dataclass(frozen=True, slots=True)
class EdgeRow(Generic[T]):
    """An item and where it stands."""

    cursor: str
    node: T


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """One page. `count` asks how many items there are in all, only when somebody wants to know."""

    edges: list[EdgeRow[T]]
    page_info: PageInfoRow
    count: Callable[[], Awaitable[int]] | None = None


@dataclass(frozen=True, slots=True)
class Asked:
    """A page as it was asked for: so many items behind a place."""

    size: int
    place: str | None
    secret: bytes

    @property
    def rows(self) -> int:
        """How many rows to read: one more than are shown."""
        return self.size + 1

    def page(
        self,
        rows: Sequence[T],
        place_of: Callable[[T], str],
        count: Callable[[], Awaitable[int]] | None = None,
    ) -> Page[T]:
        """The page that these rows make; `place_of` is what the next page's query needs of a row."""
        edges = [EdgeRow(write_place(place_of(row), self.secret), row) for row in rows[: self.size]]
        ends = (edges[0].cursor, edges[-1].cursor) if edges else (None, None)
        return Page(edges, PageInfoRow(len(rows) > self.size, self.place is not None, *ends), count)


def asked(context: Context, kind: str, first: int | None, after: str | None) -> Asked:
    """Checks `first` and `after`. A cursor is good for its kind of list and its tenant alone.

    Raises:
        BadInput: one of them cannot be used.
    """
    size = DEFAULT_PAGE if first is None else first
    if not 1 <= size <= MAX_PAGE:
        raise BadInput(f"first must be 1 to {MAX_PAGE}; ask for more with `after`.", code="page_size", field="first")
    secret = context.backends.cursor_key + context.principal.tenant.id.bytes + kind.encode()
    return Asked(size, None if after is None else read_place(after, secret), secret)
