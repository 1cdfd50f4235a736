"""Funnels: how many visitors go through some steps, and the visitors of a step as a condition of other questions."""

from __future__ import annotations

from typing import Any, cast

import strawberry
from strawberry import Info

from core.permissions import Permission
from query.funnel import (
    DEFAULT_WINDOW,
    Attribution,
    CohortFilter,
    CohortOutcome,
    Exclusion,
    FunnelBreakdown,
    FunnelQuestion,
    FunnelStep,
    StepOrder,
)
from query.funnel_answer import FunnelAnswer
from query.funnel_answer import FunnelGroup as FunnelGroupRow
from query.question import DEFAULT_LIMIT
from resolvers.context import Context
from resolvers.funnel import answer_funnel
from schema.described import enum_of
from schema.guarded import shown_to
from schema.metrics import EventSelection, Filter, TimeRange
from schema.raw import RawAnswer

StepOrderType = enum_of(
    StepOrder,
    "How a funnel's steps follow each other.",
    SEQUENTIAL="In their order, whatever lies between.",
    STRICT="In their order, with no other event of the visitor between.",
    ANY="In any order: step k is reached with k different steps in one window.",
)
AttributionType = enum_of(
    Attribution,
    "Under which value a breakdown counts a visitor.",
    FIRST_TOUCH="That of the event by which it first reached step 1.",
    LAST_TOUCH="That of the event by which it first reached the furthest step it reached.",
    STEP="That of the event by which it first reached `step`; visitors that did not are a group of their own.",
    ALL="Each value with which it went through the steps: all events of an attempt have the same.",
)
CohortOutcomeType = enum_of(
    CohortOutcome,
    "Whom of a funnel's step a cohort has.",
    CONVERTED="Those that reached the step.",
    DROPPED="Those of them that did not reach the next.",
)


@strawberry.input(description="One step of a funnel.")
class FunnelStepInput:
    events: EventSelection = strawberry.field(description="The events that do it.")
    name: str | None = strawberry.field(default=None, description="What the answer calls it; its types when absent.")

    def to_domain(self) -> FunnelStep:
        return FunnelStep(self.events.to_domain(), self.name or "")


@strawberry.input(description="Events that end an attempt when they come between two steps.")
class FunnelExclusionInput:
    events: EventSelection = strawberry.field(description="The events.")
    after_step: int | None = strawberry.field(default=1, description="From when this step is reached, counted from 1.")
    before_step: int | None = strawberry.field(
        default=None, description="Until this step is reached; the last when absent."
    )

    def to_domain(self) -> Exclusion:
        after = 1 if self.after_step is None else self.after_step
        return Exclusion(self.events.to_domain(), after, self.before_step)


@strawberry.input(description="A funnel by a dimension or a property.")
class FunnelBreakdownInput:
    dimension: str = strawberry.field(description='A dimension of events, or "properties.plan" and the like.')
    attribution: AttributionType | None = strawberry.field(  # type: ignore[valid-type]
        default=Attribution.FIRST_TOUCH, description="Which value of a visitor is taken."
    )
    step: int | None = strawberry.field(default=None, description="For STEP: the step, counted from 1.")
    limit: int | None = strawberry.field(
        default=DEFAULT_LIMIT, description="Groups kept, 1 to 100; the rest is `__other__`."
    )

    def to_domain(self) -> FunnelBreakdown:
        limit = DEFAULT_LIMIT if self.limit is None else self.limit
        return FunnelBreakdown(self.dimension, self.attribution or Attribution.FIRST_TOUCH, self.step, limit)


@strawberry.input(description="A question about a funnel.")
class FunnelQuery:
    range: TimeRange = strawberry.field(
        description="When attempts begin, at most 366 days; later steps may come up to `window` after it."
    )
    steps: list[FunnelStepInput] = strawberry.field(description="2 to 10.")
    order: StepOrderType | None = strawberry.field(  # type: ignore[valid-type]
        default=StepOrder.SEQUENTIAL, description="How the steps follow each other."
    )
    window: str | None = strawberry.field(
        default=DEFAULT_WINDOW,
        description='How long an attempt has from its beginning on: a number and s, m, h, d or w, such as "30m"; '
        "at most 366d.",
    )
    exclusions: list[FunnelExclusionInput] | None = strawberry.field(
        default=None, description="Up to 5; none with STRICT."
    )
    breakdown: FunnelBreakdownInput | None = strawberry.field(default=None, description="Also by groups.")
    hold_constant: list[str] | None = strawberry.field(
        default=None,
        description="Up to 3 dimensions or properties of which all events of an attempt must have the same value.",
    )
    filters: list[Filter] | None = strawberry.field(
        default=None, description="Conditions on every event; on properties too."
    )
    include_bots: bool | None = strawberry.field(default=False, description="Events marked as bots as well.")

    def to_domain(self) -> FunnelQuestion:
        """The question as the engine takes it."""
        return FunnelQuestion(
            range=self.range.to_domain(),
            steps=tuple(step.to_domain() for step in self.steps),
            order=self.order or StepOrder.SEQUENTIAL,
            window=DEFAULT_WINDOW if self.window is None else self.window,
            exclusions=tuple(exclusion.to_domain() for exclusion in self.exclusions or ()),
            breakdown=self.breakdown.to_domain() if self.breakdown else None,
            hold_constant=tuple(self.hold_constant or ()),
            filters=tuple(condition.to_domain() for condition in self.filters or ()),
            include_bots=bool(self.include_bots),
        )


@strawberry.input(description="The visitors of a funnel's step: only their events count.")
class CohortInput:
    funnel: FunnelQuery = strawberry.field(description="The funnel; its range and its filters are its own.")
    step: int = strawberry.field(description="The step, counted from 1.")
    outcome: CohortOutcomeType | None = strawberry.field(  # type: ignore[valid-type]
        default=CohortOutcome.CONVERTED, description="Whom of it."
    )

    def to_domain(self) -> CohortFilter:
        return CohortFilter(self.funnel.to_domain(), self.step, self.outcome or CohortOutcome.CONVERTED)


@shown_to(Permission.METRICS_READ)
@strawberry.type(description="How long visitors took from an attempt's beginning to a step.")
class FunnelTimes:
    median_seconds: float = strawberry.field(description="Half of them took no longer.")
    p90_seconds: float = strawberry.field(description="Nine of ten took no longer.")


@shown_to(Permission.METRICS_READ)
@strawberry.type(description="One step of a funnel's answer. Shares are 0 to 1, and null of nobody.")
class FunnelStepFigures:
    number: int = strawberry.field(description="Counted from 1.")
    name: str = strawberry.field(description="As asked, or its types.")
    visitors: int = strawberry.field(description="How many reached it.")
    share_of_first: float | None = strawberry.field(description="Of those of step 1.")
    share_of_previous: float | None = strawberry.field(description="Of those of the step before.")
    dropped: int | None = strawberry.field(description="How many of them did not reach the next; null of the last.")
    times: FunnelTimes | None = strawberry.field(
        description="How long it took them; null of step 1, of nobody, and in ANY order before the last."
    )


@shown_to(Permission.METRICS_READ)
@strawberry.type(description="A bin of the histogram of times to convert.")
class FunnelTimeBin:
    from_seconds: float = strawberry.field(description="Longer than this; the first bin has 0 too.")
    to_seconds: float = strawberry.field(description="No longer than this.")
    visitors: int = strawberry.field(description="How many took so long.")


@shown_to(Permission.METRICS_READ)
@strawberry.type(description="The visitors of one value of the breakdown.")
class FunnelGroup:
    @strawberry.field(
        description="The value, empty where it is not known; `__other__` beyond the limit; null of those that did not "
        "reach the step whose value is taken."
    )
    def value(self) -> str | None:
        return _group(self).value

    @strawberry.field(description="Its steps.")
    def steps(self) -> list[FunnelStepFigures]:
        return cast("list[FunnelStepFigures]", list(_group(self).figures.steps))

    @strawberry.field(description="The part that went through all steps, 0 to 1; null of nobody.")
    def conversion(self) -> float | None:
        return _group(self).figures.conversion

    @strawberry.field(description="How many took how long through all steps.")
    def histogram(self) -> list[FunnelTimeBin]:
        return cast("list[FunnelTimeBin]", list(_group(self).figures.histogram))


@shown_to(Permission.METRICS_READ)
@strawberry.type(description="A funnel. It is complete once every attempt of its range has had its window.")
class Funnel(RawAnswer):
    @strawberry.field(description="Its steps, of all visitors; each counts once.")
    def steps(self) -> list[FunnelStepFigures]:
        return cast("list[FunnelStepFigures]", list(_answer(self).figures.steps))

    @strawberry.field(description="The part that went through all steps, 0 to 1; null of nobody.")
    def conversion(self) -> float | None:
        return _answer(self).figures.conversion

    @strawberry.field(description="How many took how long through all steps.")
    def histogram(self) -> list[FunnelTimeBin]:
        return cast("list[FunnelTimeBin]", list(_answer(self).figures.histogram))

    @strawberry.field(description="By the breakdown's values, the one that most entered with first.")
    def groups(self) -> list[FunnelGroup]:
        return cast("list[FunnelGroup]", list(_answer(self).groups))


async def resolve_funnel(info: Info[Context, None], query: FunnelQuery) -> Any:
    """The funnel that was asked for."""
    return await answer_funnel(info.context, query.to_domain())


def _answer(funnel: object) -> FunnelAnswer:
    return cast(FunnelAnswer, funnel)


def _group(group: object) -> FunnelGroupRow:
    return cast(FunnelGroupRow, group)
