"""Paths: which steps follow or lead to another."""

from __future__ import annotations

from typing import Any

import strawberry
from strawberry import Info

from core.filters import EventFilter
from core.permissions import Permission
from query.paths import (
    DEFAULT_DEPTH,
    DEFAULT_LIMIT,
    PathsDirection,
    PathsNodeKind,
    PathsOccurrence,
    PathsQuestion,
    PathsUnit,
)
from resolvers.context import Context
from resolvers.paths import answer_paths
from schema.described import enum_of
from schema.guarded import shown_to
from schema.metrics import EventSelection, TimeRange
from schema.raw import RawAnswer

PathsUnitType = enum_of(
    PathsUnit,
    "Whose steps make a path.",
    SESSION="A session's: events with one sessionId; those without are on no path.",
    VISITOR="A visitor's, over all of its sessions in the range.",
)
PathsDirectionType = enum_of(
    PathsDirection,
    "Which way a path goes from its anchor.",
    AFTER="To the steps that follow; without an anchor from the first step on.",
    BEFORE="To the steps that lead to it; without an anchor back from the last step.",
    BOTH="Both ways; needs an anchor.",
)
PathsOccurrenceType = enum_of(
    PathsOccurrence,
    "Which anchors of a session or visitor make a path, where there are several.",
    FIRST="The first: one path each.",
    LAST="The last: one path each.",
    EVERY="Each one: a path for each.",
)
PathsNodeKindType = enum_of(
    PathsNodeKind,
    "What a node stands for.",
    STEP="A step.",
    EVENT="An event of the type `anchorType`.",
    OTHER="All steps of the level beyond the limit, together.",
    START="Where paths begin before they reach so far back.",
    END="Where paths are over before they reach so far.",
)


@strawberry.input(description="A question about paths; one path is an anchor and some steps after or before it.")
class PathsQuery:
    range: TimeRange = strawberry.field(description="Only what happened in it makes steps.")
    step_by: str | None = strawberry.field(
        default="page_path",
        description="What a step is named by: type, page_path or another dimension, or a property such as "
        "properties.screen. Events without it are no steps.",
    )
    anchor: str | None = strawberry.field(default=None, description='The step that paths go from, such as "/pricing".')
    anchor_type: str | None = strawberry.field(
        default=None,
        description="Instead: events of this type, such as signup, are the step that paths go from, whatever `events` "
        "and `stepBy` say.",
    )
    occurrence: PathsOccurrenceType | None = strawberry.field(  # type: ignore[valid-type]
        default=PathsOccurrence.FIRST, description="Which anchors of a session or visitor count."
    )
    direction: PathsDirectionType | None = strawberry.field(  # type: ignore[valid-type]
        default=PathsDirection.AFTER, description="Which way paths go."
    )
    unit: PathsUnitType | None = strawberry.field(default=PathsUnit.SESSION, description="Whose steps make a path.")  # type: ignore[valid-type]
    depth: int | None = strawberry.field(default=DEFAULT_DEPTH, description="Steps each way, 1 to 5.")
    limit: int | None = strawberry.field(
        default=DEFAULT_LIMIT, description="Steps kept a level, 1 to 20; the rest is one node `__other__`."
    )
    collapse_repeats: bool | None = strawberry.field(
        default=True, description="Whether a step that is repeated directly counts once."
    )
    exclude: list[str] | None = strawberry.field(
        default=None, description="Up to 100 steps that are taken out, before repeats are looked at."
    )
    events: EventSelection | None = strawberry.field(default=None, description="Which events make steps.")
    include_bots: bool | None = strawberry.field(default=False, description="Those marked as bots as well.")

    def to_domain(self) -> PathsQuestion:
        return PathsQuestion(
            range=self.range.to_domain(),
            step_by="page_path" if self.step_by is None else self.step_by,
            anchor=self.anchor,
            anchor_type=self.anchor_type,
            occurrence=self.occurrence or PathsOccurrence.FIRST,
            direction=self.direction or PathsDirection.AFTER,
            unit=self.unit or PathsUnit.SESSION,
            depth=DEFAULT_DEPTH if self.depth is None else self.depth,
            limit=DEFAULT_LIMIT if self.limit is None else self.limit,
            collapse=self.collapse_repeats is not False,
            excluded=tuple(self.exclude or ()),
            filter=self.events.to_domain() if self.events else EventFilter(),
            include_bots=bool(self.include_bots),
        )


@shown_to(Permission.METRICS_READ)
@strawberry.type(description="A step at a level of a Sankey diagram.")
class PathsNode:
    id: str = strawberry.field(description="Names it in `links`; good within this answer.")
    level: int = strawberry.field(description="0 is the anchor; steps before it are below 0.")
    kind: PathsNodeKindType = strawberry.field(description="What it stands for.")  # type: ignore[valid-type]
    step: str = strawberry.field(description="The step; `__other__` for OTHER, empty for START and END.")
    count: int = strawberry.field(description="How many paths are here.")
    share: float = strawberry.field(description="Of all paths, 0 to 1.")


@shown_to(Permission.METRICS_READ)
@strawberry.type(description="How paths go on from one node to another, one level further.")
class PathsLink:
    source: str = strawberry.field(description="The id of the node they come from.")
    target: str = strawberry.field(description="The id of the node they go to.")
    count: int = strawberry.field(description="How many paths go so.")
    share: float = strawberry.field(description="Of all paths, 0 to 1.")
    share_of_source: float = strawberry.field(description="Of the paths at the source, 0 to 1.")


@shown_to(Permission.METRICS_READ)
@strawberry.type(description="One whole path.")
class PathsSequence:
    steps: list[str | None] = strawberry.field(
        description="A step for each level; null where it had not begun or was over."
    )
    count: int = strawberry.field(description="How many paths are this one.")
    share: float = strawberry.field(description="Of all paths, 0 to 1.")


@shown_to(Permission.METRICS_READ)
@strawberry.type(description="Paths, level by level.")
class Paths(RawAnswer):
    total: int = strawberry.field(description="How many paths there are.")
    nodes: list[PathsNode] = strawberry.field(description="By level, the commonest first, then the rest.")
    links: list[PathsLink] = strawberry.field(description="By the source's level, the commonest first.")
    sequences: list[PathsSequence] = strawberry.field(description="The commonest whole paths, up to `limit`.")


async def resolve_paths(info: Info[Context, None], query: PathsQuery) -> Any:
    """The paths that were asked for."""
    return await answer_paths(info.context, query.to_domain())
