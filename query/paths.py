"""Which steps follow or lead to another: paths of sessions or visitors, level by level, ready for a Sankey diagram.

A unit is a session (events without one are on no path) or a visitor. Its events within the range that pass the filter,
in the order of (timestamp, id), are its steps; a step's name is the event's text of `step_by`, and events without one
are no steps. Excluded steps are taken out first; then a step that is repeated directly counts once, if `collapse`.
A path is an anchor and up to `depth` steps after it, before it, or both; without an anchor it begins at a unit's first
step (AFTER) or ends at its last (BEFORE). Of an anchor that a unit has several times, the first, the last, or each one
makes a path. What of a unit lies outside of the range is not seen.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import NamedTuple

import asyncpg

from core.filters import EventFilter
from core.queries import Query, named
from core.tenancy import Tenant
from query.answer import OTHER
from query.conditions import Values, check_event_filter, check_field, check_text, matches, text_of
from query.narrowing import Range
from query.question import bad
from query.raw import Origin, RawEvents, span_of

MAX_DEPTH = 5
DEFAULT_DEPTH = 3
MAX_LIMIT = 20
DEFAULT_LIMIT = 10
MAX_EXCLUDED = 100
PATHS = named("paths", "paths")
# Marks an event that is an anchor by its type; no page and no type begins so.
_MARK = "\x01"


class PathsUnit(StrEnum):
    """Whose paths."""

    SESSION = "SESSION"
    VISITOR = "VISITOR"


class PathsDirection(StrEnum):
    """Which way from the anchor."""

    AFTER = "AFTER"
    BEFORE = "BEFORE"
    BOTH = "BOTH"


class PathsOccurrence(StrEnum):
    """Which of a unit's anchors make a path."""

    FIRST = "FIRST"
    LAST = "LAST"
    EVERY = "EVERY"


class PathsNodeKind(StrEnum):
    """What a node stands for."""

    STEP = "STEP"
    EVENT = "EVENT"
    OTHER = "OTHER"
    START = "START"
    END = "END"


_ORDER = {
    PathsNodeKind.STEP: 0,
    PathsNodeKind.EVENT: 0,
    PathsNodeKind.OTHER: 1,
    PathsNodeKind.START: 2,
    PathsNodeKind.END: 2,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class PathsQuestion:
    """What is asked. `anchor` is a step's name; or `anchor_type` a type of events, which pass whatever the filter."""

    range: Range
    step_by: str = "page_path"
    anchor: str | None = None
    anchor_type: str | None = None
    occurrence: PathsOccurrence = PathsOccurrence.FIRST
    direction: PathsDirection = PathsDirection.AFTER
    unit: PathsUnit = PathsUnit.SESSION
    depth: int = DEFAULT_DEPTH
    limit: int = DEFAULT_LIMIT
    collapse: bool = True
    excluded: tuple[str, ...] = ()
    filter: EventFilter = field(default_factory=EventFilter)
    include_bots: bool = False

    @property
    def levels(self) -> Sequence[int]:
        """Levels of a path: 0 is the anchor, those before it are below 0."""
        before = 0 if self.direction is PathsDirection.AFTER else self.depth
        after = 0 if self.direction is PathsDirection.BEFORE else self.depth
        return range(-before, after + 1)


class _Place(NamedTuple):
    """Which node: a step at a level, `OTHER` for all beyond the limit, '' where paths begin or are over."""

    level: int
    kind: PathsNodeKind
    step: str

    @property
    def id(self) -> str:
        return f"{self.level}:{self.kind.value}:{self.step}"


@dataclass(frozen=True, slots=True)
class PathsNode:
    """How many paths are at a step at a level."""

    place: _Place
    count: int
    share: float

    @property
    def id(self) -> str:
        return self.place.id

    @property
    def level(self) -> int:
        return self.place.level

    @property
    def kind(self) -> PathsNodeKind:
        return self.place.kind

    @property
    def step(self) -> str:
        return self.place.step


@dataclass(frozen=True, slots=True)
class PathsLink:
    """How many paths go on from one node to another, which is one level further."""

    source: str
    target: str
    count: int
    share: float
    share_of_source: float


@dataclass(frozen=True, slots=True)
class PathsSequence:
    """One whole path, and how often it was gone: a step for each level, None where it had not begun or was over."""

    steps: tuple[str | None, ...]
    count: int
    share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Paths:
    """All of it. Shares are of `total`, the number of paths."""

    total: int
    nodes: tuple[PathsNode, ...]
    links: tuple[PathsLink, ...]
    sequences: tuple[PathsSequence, ...]
    origin: Origin


async def find_paths(raw: RawEvents, tenant: Tenant, question: PathsQuestion) -> Paths:
    """The paths of a tenant's sessions or visitors.

    Raises:
        BadInput: the question is not one, or takes too long.
        DatabaseUnavailable: the store does not answer.
    """
    check_paths(question)
    from_, to = span_of(question.range, datetime.now(UTC))
    origin = await raw.origin(tenant, from_, to)
    query, values = statement(question)
    bots = [False, True] if question.include_bots else [False]
    rows = await raw.fetch(tenant, query, from_, to, bots, values.texts, question.limit)
    return paths_of(question, rows, origin)


def check_paths(question: PathsQuestion) -> None:
    """Everything about a question that needs no data.

    Raises:
        BadInput: names the field, the limit and the remedy.
    """
    if not 1 <= question.depth <= MAX_DEPTH:
        raise bad("bad_depth", "depth", f"depth must be 1 to {MAX_DEPTH} steps, not {question.depth}.")
    if not 1 <= question.limit <= MAX_LIMIT:
        raise bad("bad_limit", "limit", f"limit must be 1 to {MAX_LIMIT} steps a level, not {question.limit}.")
    if len(question.excluded) > MAX_EXCLUDED:
        raise bad("bad_excluded", "exclude", f"exclude takes up to {MAX_EXCLUDED} steps; use filters for more.")
    if question.anchor is not None and question.anchor_type is not None:
        raise bad("bad_anchor", "anchor", "Give anchor, a step, or anchorType, a type of events, and not both.")
    if question.anchor is None and question.anchor_type is None and question.direction is PathsDirection.BOTH:
        raise bad("bad_anchor", "anchor", "direction BOTH needs an anchor: paths have two ends only around a step.")
    if question.anchor == "" or question.anchor_type == "":
        raise bad("bad_anchor", "anchor", "An anchor must be a step's name; an event without one is no step.")
    if question.anchor is not None and question.anchor in question.excluded:
        raise bad("bad_anchor", "exclude", "exclude has the anchor in it; take it out.")
    check_field(question.step_by, "stepBy")
    check_event_filter(question.filter, "query")
    for place, text in (("anchor", question.anchor), ("anchorType", question.anchor_type)):
        check_text(text or "", place)
    for text in question.excluded:
        check_text(text, "exclude")


def statement(question: PathsQuestion) -> tuple[Query, Values]:
    """The statement of a question, and its values."""
    values = Values(4)
    conditions, text = matches(question.filter, values), text_of(question.step_by, values)
    step = _text("step_text").format(text=text)
    if question.anchor_type is not None:
        kind = values.one(question.anchor_type)
        conditions = _text("also_anchor").format(conditions=conditions, type=kind)
        step = _text("step_or_anchor").format(text=text, type=kind, mark=values.one(_MARK))
    excluded = [_text("not_excluded").format(values=values.many(question.excluded))] if question.excluded else []
    query = PATHS.filled(
        unit=_text("unit_session" if question.unit is PathsUnit.SESSION else "unit_visitor"),
        step=step,
        conditions=conditions,
        included=excluded[0] if excluded else named("conditions", "everything").text,
        kept=_text("each_change" if question.collapse else "each_visit"),
        levels=", ".join(_level(level) for level in question.levels),
        picked=_picked(question, values),
    )
    return query, values


def paths_of(question: PathsQuestion, rows: list[asyncpg.Record], origin: Origin) -> Paths:
    """The answer that these rows make: nodes by level, links by their source's level, the commonest first."""
    total = sum(row["paths"] for row in rows if row["part"] == "total")
    first = question.levels[0] - 1
    counts: Counter[_Place] = Counter()
    links: list[tuple[_Place, _Place, int]] = []
    for row in rows:
        level, paths = first + row["level"], row["paths"]
        if row["part"] == "node":
            counts[_place(level, row["source"], row["is_source_other"], PathsNodeKind.STEP)] += paths
        elif row["part"] == "link":
            source = _place(level, row["source"], row["is_source_other"], PathsNodeKind.START)
            target = _place(level + 1, row["target"], row["is_target_other"], PathsNodeKind.END)
            links.append((source, target, paths))
            # Steps are counted already; where a path begins or is over, only its links tell.
            for place in (source, target):
                if place.kind in (PathsNodeKind.START, PathsNodeKind.END):
                    counts[place] += paths
    places = sorted(counts, key=lambda place: (place.level, _ORDER[place.kind], -counts[place], place.step))
    order = {place: n for n, place in enumerate(places)}
    links.sort(key=lambda link: (link[0].level, -link[2], order[link[0]], order[link[1]]))
    return Paths(
        total=total,
        nodes=tuple(PathsNode(place, counts[place], counts[place] / total) for place in places),
        links=tuple(
            PathsLink(source.id, target.id, count, count / total, count / counts[source])
            for source, target, count in links
        ),
        sequences=tuple(
            PathsSequence(tuple(step and _name(step) for step in row["steps"]), row["paths"], row["paths"] / total)
            for row in rows
            if row["part"] == "walk"
        ),
        origin=origin,
    )


def _place(level: int, step: str | None, is_other: bool, missing: PathsNodeKind) -> _Place:
    if is_other:
        return _Place(level, PathsNodeKind.OTHER, OTHER)
    if step is None:
        return _Place(level, missing, "")
    return _Place(level, PathsNodeKind.EVENT if step.startswith(_MARK) else PathsNodeKind.STEP, _name(step))


def _name(step: str) -> str:
    """A step as people know it; one that is an anchor by its type is that type."""
    return step.removeprefix(_MARK)


def _level(level: int) -> str:
    if level == 0:
        return _text("step_itself")
    return _text("steps_after" if level > 0 else "steps_before").format(distance=abs(level))


def _picked(question: PathsQuestion, values: Values) -> str:
    occurrence, anchor = question.occurrence, question.anchor
    if question.anchor_type is not None:
        anchor = _MARK + question.anchor_type
    if anchor is None:
        is_first = question.direction is PathsDirection.AFTER
        occurrence = PathsOccurrence.FIRST if is_first else PathsOccurrence.LAST
        anchored = named("conditions", "everything").text
    else:
        anchored = _text("is_anchor").format(value=values.one(anchor))
    pick = {
        PathsOccurrence.FIRST: "pick_first",
        PathsOccurrence.LAST: "pick_last",
        PathsOccurrence.EVERY: "pick_every",
    }
    return _text(pick[occurrence]).format(anchored=anchored)


def _text(name: str) -> str:
    return named("paths", name).text
