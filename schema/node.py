"""What every node, page and connection has."""

from __future__ import annotations

from typing import Generic, TypeVar, cast

import strawberry

from core.permissions import Permission
from resolvers.pages import Page
from schema.guarded import shown_to

T = TypeVar("T")


@strawberry.interface(description="An object with a global id.")
class Node:
    @strawberry.field(description='Global id, such as "TWV0cmljOmV2ZW50cw"; opaque, for `node` and every `id`.')
    def id(self) -> strawberry.ID:
        raise NotImplementedError


@shown_to(Permission.IDENTITY_READ)
@strawberry.type(description="Where a page stands in its list.")
class PageInfo:
    has_next_page: bool = strawberry.field(description="Whether `after: endCursor` gives more.")
    has_previous_page: bool = strawberry.field(description="Whether this page is not the first.")
    start_cursor: str | None = strawberry.field(description="Of the first item.")
    end_cursor: str | None = strawberry.field(description="Of the last item.")


@shown_to(Permission.IDENTITY_READ)
@strawberry.type(description="An item and where it stands in its list.")
class Edge(Generic[T]):
    cursor: str = strawberry.field(description="For `after`: signed and opaque, good for this list of this tenant.")
    node: T = strawberry.field(description="The item.")


@shown_to(Permission.IDENTITY_READ)
@strawberry.type(description="A page of a list: `first` items (20, at most 100) behind the cursor `after`.")
class Connection(Generic[T]):
    """`resolvers.pages.Page` is what a field of this type resolves to."""

    edges: list[Edge[T]] = strawberry.field(description="The items, in the list's order.")
    page_info: PageInfo = strawberry.field(description="Where the page stands.")

    @strawberry.field(description="How many items there are in all; counted only when asked for. Null: not counted.")
    async def total_count(self) -> int | None:
        count = cast("Page[T]", self).count
        return None if count is None else await count()
