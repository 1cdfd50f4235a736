"""Share links, for those who manage what they show."""

from __future__ import annotations

from datetime import datetime
from typing import cast

import strawberry
from strawberry import Info

from core.permissions import Permission
from core.shares import COST_PER_MINUTE, MAX_DAYS, ROWS_PER_HOUR, SHARED_KINDS, Terms
from core.shares import ShareLink as ShareLinkRow
from query.saved import read_filters
from resolvers.context import Context
from resolvers.global_ids import global_id
from resolvers.shares import KIND, Asked, create_share_link, revoke_share_link
from schema.guarded import mutation, shown_to
from schema.metrics import Filter, FilterOpType
from schema.node import Node


@shown_to(Permission.SHARES_WRITE)
@strawberry.type(description="A condition that always holds for a link's bearer.")
class LockedFilter:
    dimension: str = strawberry.field(description="The dimension.")
    op: FilterOpType = strawberry.field(description="How it is compared.")  # type: ignore[valid-type]
    values: list[str] = strawberry.field(description="With what.")


@shown_to(Permission.SHARES_WRITE)
@strawberry.type(description="A link that shows one object to whoever bears its token, on terms that hold for all.")
class ShareLink(Node):
    @strawberry.field(description="Global id.")
    def id(self) -> strawberry.ID:
        return strawberry.ID(global_id(KIND, str(_row(self).id)))

    @strawberry.field(description="Global id of what it shows.")
    def object_id(self) -> strawberry.ID:
        return strawberry.ID(global_id(SHARED_KINDS[_row(self).object_kind][0], str(_row(self).object_id)))

    name: str = strawberry.field(description="What it is for.")

    @strawberry.field(description="Conditions that always hold.")
    def locked_filters(self) -> list[LockedFilter]:
        found = read_filters(_row(self).terms.locked_filters)
        return [LockedFilter(dimension=f.dimension, op=f.op, values=list(f.values)) for f in found]

    @strawberry.field(description='Ranges that may be asked beside the object\'s own, such as "24h".')
    def ranges(self) -> list[str]:
        return list(_row(self).terms.ranges)

    @strawberry.field(description="Dimensions by which the bearer may narrow; null: those it is grouped by.")
    def filter_dimensions(self) -> list[str] | None:
        dimensions = _row(self).terms.filter_dimensions
        return None if dimensions is None else list(dimensions)

    @strawberry.field(description="Points of document cost that all its bearers together may spend in a minute.")
    def cost_per_minute(self) -> int:
        return _row(self).terms.cost_per_minute

    @strawberry.field(description="Stored rows that may be read for them in an hour.")
    def rows_per_hour(self) -> int:
        return _row(self).terms.rows_per_hour

    created_at: datetime = strawberry.field(description="When it was made.")
    created_by: str = strawberry.field(description="By whom, as the audit trail names it.")
    expires_at: datetime = strawberry.field(description="When it ends by itself.")
    revoked_at: datetime | None = strawberry.field(description="When it was ended before that.")
    is_live: bool = strawberry.field(
        description="Neither revoked nor expired. It is refused all the same while its object is deleted, or its maker "
        "may not share it any more."
    )
    last_used_at: datetime | None = strawberry.field(description="Known some seconds after the use.")

    @strawberry.field(description="Operations that came by it; whole, as a Float since it may pass 2^31.")
    def uses(self) -> float:
        return float(_row(self).uses)

    @classmethod
    def is_type_of(cls, obj: object, info: object) -> bool:
        return isinstance(obj, ShareLinkRow)


@strawberry.input(description="A link to make.")
class CreateShareLinkInput:
    object_id: strawberry.ID = strawberry.field(description="Global id of what it shows: a SavedQuestion.")
    name: str = strawberry.field(default="", description="What it is for, up to 200 characters.")
    expires_at: datetime | None = strawberry.field(
        default=None, description=f"At most {MAX_DAYS} days ahead; 30 days when left out."
    )
    locked_filters: list[Filter] = strawberry.field(
        default_factory=list, description="Conditions that always hold; nobody can take them away."
    )
    ranges: list[str] = strawberry.field(
        default_factory=list, description='Ranges that may be asked beside the object\'s own, such as "24h".'
    )
    filter_dimensions: list[str] | None = strawberry.field(
        default=None, description="Dimensions by which the bearer may narrow; those it is grouped by when left out."
    )
    cost_per_minute: int = strawberry.field(
        default=1_000,
        description=f"Points of document cost a minute, {COST_PER_MINUTE.start} to {COST_PER_MINUTE.stop - 1}.",
    )
    rows_per_hour: int = strawberry.field(
        default=1_000_000, description=f"Stored rows an hour, {ROWS_PER_HOUR.start} to {ROWS_PER_HOUR.stop - 1}."
    )

    def to_domain(self) -> Asked:
        dimensions = self.filter_dimensions
        terms = Terms(
            ranges=tuple(self.ranges),
            filter_dimensions=None if dimensions is None else tuple(dimensions),
            cost_per_minute=self.cost_per_minute,
            rows_per_hour=self.rows_per_hour,
        )
        return Asked(
            self.object_id, self.name, self.expires_at, tuple(f.to_domain() for f in self.locked_filters), terms
        )


@strawberry.input(description="Which link to end.")
class RevokeShareLinkInput:
    id: strawberry.ID = strawberry.field(description="Its global id.")


@strawberry.type(description="The link is made.")
class CreateShareLinkPayload:
    share_link: ShareLink = strawberry.field(description="The link.")
    token: str = strawberry.field(
        description="What its bearer sends as `Authorization: Bearer cm_sl_…`. Shown here and never again."
    )


@strawberry.type(description="The link has ended: refused within 5 seconds, its sockets closed within 30.")
class RevokeShareLinkPayload:
    share_link: ShareLink = strawberry.field(description="The link.")


async def resolve_create_share_link(info: Info[Context, None], input: CreateShareLinkInput) -> CreateShareLinkPayload:
    """Makes a link."""
    made = await create_share_link(info.context, input.to_domain())
    return CreateShareLinkPayload(share_link=cast(ShareLink, made.link), token=made.token)


async def resolve_revoke_share_link(info: Info[Context, None], input: RevokeShareLinkInput) -> RevokeShareLinkPayload:
    """Ends a link."""
    return RevokeShareLinkPayload(share_link=cast(ShareLink, await revoke_share_link(info.context, input.id)))


@strawberry.type
class ShareMutations:
    create_share_link = mutation(
        Permission.SHARES_WRITE,
        resolve_create_share_link,
        CreateShareLinkPayload,
        "Makes a link that shows one object, for who has the level MANAGE on it.",
    )
    revoke_share_link = mutation(
        Permission.SHARES_WRITE,
        resolve_revoke_share_link,
        RevokeShareLinkPayload,
        "Ends a link for ever, for who has the level MANAGE on what it shows.",
    )


def _row(link: object) -> ShareLinkRow:
    return cast(ShareLinkRow, link)
