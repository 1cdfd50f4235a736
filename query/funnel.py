"""A question about a funnel, as data: how many visitors go through some steps; checked here, answered elsewhere.

What it means:
- An attempt begins with an event of step 1 that lies in the range, and reaches a step at an event no later than
  `window` after its beginning, so events after the range's end count for attempts that began within. Each step takes an
  event of its own. A visitor has reached a step if one of its attempts has, and counts once.
- Events of a visitor stand in the order of their time. Those of one millisecond stand by the steps they are of, the
  first step's first and those of no step last, so that steps at the same moment can follow each other.
- SEQUENTIAL: the steps in order, whatever lies between. STRICT: no other event of the visitor between the steps (none
  that passes the question's filters). ANY: the steps in any order; an attempt begins with an event of whichever step,
  step k is reached where k different ones are done within one window, and an event of several steps does them all.
- An exclusion ends the attempts that have reached `after_step` and not yet `before_step` when its event comes; that
  event is strictly between, so one that is itself of the next step still reaches it. Later attempts are not concerned.
  In ANY order an exclusion lies between the first and the last step done.
- `hold_constant`: all events of an attempt have the same value there, and have one (not '').
- The time to a step is what lies between an attempt's beginning and the first event by which the visitor reached the
  step; of attempts that reached it then, the one that began last.
- A breakdown counts a visitor under the value at the event by which it first reached step 1 (FIRST_TOUCH), the furthest
  step it reached (LAST_TOUCH), or step `step` (STEP; visitors that did not reach it have no value). ALL: events of an
  attempt have the same value, and a visitor counts under each value by which it reached a step.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from core.filters import DimensionFilter, EventFilter
from query.conditions import check_condition, check_event_filter, check_field, check_text
from query.narrowing import Range
from query.question import MAX_FILTERS, MAX_LIMIT, bad
from query.raw import span_of

MIN_STEPS = 2
MAX_STEPS = 10
MAX_EXCLUSIONS = 5
MAX_HELD = 3
MAX_NAME_LENGTH = 200
MAX_DAYS = 366
DEFAULT_WINDOW = "7d"
_WINDOW = re.compile(r"([1-9][0-9]{0,7})(s|m|h|d|w)")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


class StepOrder(StrEnum):
    """How the steps follow each other."""

    SEQUENTIAL = "SEQUENTIAL"
    STRICT = "STRICT"
    ANY = "ANY"


class Attribution(StrEnum):
    """Which value of a visitor a breakdown takes."""

    FIRST_TOUCH = "FIRST_TOUCH"
    LAST_TOUCH = "LAST_TOUCH"
    STEP = "STEP"
    ALL = "ALL"


class CohortOutcome(StrEnum):
    """Whom of a step a cohort has."""

    CONVERTED = "CONVERTED"
    DROPPED = "DROPPED"


@dataclass(frozen=True, slots=True)
class FunnelStep:
    """A step: which events do it, and what it is called."""

    filter: EventFilter
    name: str = ""

    @property
    def title(self) -> str:
        """Its name, else its types."""
        return self.name or " or ".join(self.filter.types or ("any event",))


@dataclass(frozen=True, slots=True)
class Exclusion:
    """Events that end an attempt between two steps; `before_step` None is the last."""

    filter: EventFilter
    after_step: int = 1
    before_step: int | None = None


@dataclass(frozen=True, slots=True)
class FunnelBreakdown:
    """By a dimension or a property; `step` of STEP alone. Beyond `limit` groups, the rest is one."""

    dimension: str
    attribution: Attribution = Attribution.FIRST_TOUCH
    step: int | None = None
    limit: int = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class FunnelQuestion:
    """What is asked; `filters` hold for every event."""

    range: Range
    steps: tuple[FunnelStep, ...]
    order: StepOrder = StepOrder.SEQUENTIAL
    window: str = DEFAULT_WINDOW
    exclusions: tuple[Exclusion, ...] = ()
    breakdown: FunnelBreakdown | None = None
    hold_constant: tuple[str, ...] = ()
    filters: tuple[DimensionFilter, ...] = ()
    include_bots: bool = False

    def span(self, now: datetime) -> tuple[datetime, datetime]:
        """From when to when attempts may begin.

        Raises:
            BadInput: no range, or longer than 366 days.
        """
        start, end = span_of(self.range, now)
        if end - start > timedelta(days=MAX_DAYS):
            raise bad("range_too_large", "range", f"A funnel's range has at most {MAX_DAYS} days; take a shorter one.")
        return start, end

    @property
    def window_ms(self) -> int:
        """The window in milliseconds.

        Raises:
            BadInput: it is none.
        """
        found = _WINDOW.fullmatch(self.window)
        seconds = int(found[1]) * _SECONDS[found[2]] if found else 0
        if not 1 <= seconds <= MAX_DAYS * 86_400:
            raise bad(
                "bad_window",
                "window",
                f"window must be a number and s, m, h, d or w, such as 30m or 7d: 1s to {MAX_DAYS}d.",
            )
        return seconds * 1000


@dataclass(frozen=True, slots=True)
class CohortFilter:
    """The visitors of a funnel's step, as a condition of another question: those that reached it, or those of them that
    did not reach the next."""

    funnel: FunnelQuestion
    step: int
    outcome: CohortOutcome = CohortOutcome.CONVERTED


def check_funnel(question: FunnelQuestion, place: str = "") -> None:
    """Everything about a question that needs no clock and no data; `place` goes before the names of fields.

    Raises:
        BadInput: names the field, the limit and the remedy.
    """
    count = len(question.steps)
    if not MIN_STEPS <= count <= MAX_STEPS:
        raise bad("bad_steps", f"{place}steps", f"steps takes {MIN_STEPS} to {MAX_STEPS}, not {count}.")
    for number, step in enumerate(question.steps):
        check_event_filter(step.filter, f"{place}steps.{number}")
        if len(step.name) > MAX_NAME_LENGTH:
            raise bad("bad_steps", f"{place}steps.{number}.name", f"A name has at most {MAX_NAME_LENGTH} characters.")
        check_text(step.name, f"{place}steps.{number}.name")
    _ = question.window_ms
    if len(question.filters) > MAX_FILTERS:
        raise bad(
            "too_many_filters", f"{place}filters", f"filters takes up to {MAX_FILTERS}, not {len(question.filters)}."
        )
    for condition in question.filters:
        check_condition(condition, f"{place}filters")
    _check_exclusions(question, place)
    if len(question.hold_constant) > MAX_HELD or len(set(question.hold_constant)) != len(question.hold_constant):
        raise bad("bad_hold_constant", f"{place}holdConstant", f"holdConstant takes up to {MAX_HELD}, each once.")
    for name in question.hold_constant:
        check_field(name, f"{place}holdConstant")
    if question.breakdown is not None:
        _check_breakdown(question.breakdown, count, f"{place}breakdown")


def check_cohort(cohort: CohortFilter, place: str = "cohort") -> None:
    """A cohort as a condition of another question.

    Raises:
        BadInput: as `check_funnel`; or there is no such step.
    """
    check_funnel(cohort.funnel, f"{place}.funnel.")
    most = len(cohort.funnel.steps) - (cohort.outcome is CohortOutcome.DROPPED)
    if not 1 <= cohort.step <= most:
        raise bad("bad_step", f"{place}.step", f"step must be 1 to {most} for {cohort.outcome}, not {cohort.step}.")


def _check_exclusions(question: FunnelQuestion, place: str) -> None:
    place = f"{place}exclusions"
    if len(question.exclusions) > MAX_EXCLUSIONS:
        raise bad("bad_exclusions", place, f"exclusions takes up to {MAX_EXCLUSIONS}, not {len(question.exclusions)}.")
    if question.exclusions and question.order is StepOrder.STRICT:
        raise bad("bad_exclusions", place, "STRICT lets no event lie between the steps: leave exclusions out.")
    for number, exclusion in enumerate(question.exclusions):
        check_event_filter(exclusion.filter, f"{place}.{number}")
        last = exclusion.before_step or len(question.steps)
        if not 1 <= exclusion.after_step < last <= len(question.steps):
            raise bad(
                "bad_exclusions",
                f"{place}.{number}",
                f"afterStep must be before beforeStep, both 1 to {len(question.steps)}.",
            )
        if question.order is StepOrder.ANY and (exclusion.after_step != 1 or last != len(question.steps)):
            raise bad(
                "bad_exclusions", f"{place}.{number}", "In ANY order an exclusion takes no steps: leave them out."
            )


def _check_breakdown(breakdown: FunnelBreakdown, steps: int, place: str) -> None:
    check_field(breakdown.dimension, f"{place}.dimension")
    if not 1 <= breakdown.limit <= MAX_LIMIT:
        raise bad("bad_limit", f"{place}.limit", f"limit must be 1 to {MAX_LIMIT}, not {breakdown.limit}.")
    if breakdown.attribution is not Attribution.STEP:
        if breakdown.step is not None:
            raise bad("bad_step", f"{place}.step", f"step is for STEP, not {breakdown.attribution}: leave it out.")
    elif breakdown.step is None or not 1 <= breakdown.step <= steps:
        raise bad("bad_step", f"{place}.step", f"STEP takes the step: 1 to {steps}.")
