"""Funnels equal what a naive search through the same visitors' events finds, in every mode."""

from __future__ import annotations

import json
import math
import random
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from uuid import uuid4

import pytest

from core.database import Database
from core.errors import BadInput
from core.events import EnrichedEvent
from core.filters import DimensionFilter, EventFilter, FilterOp
from core.queries import Query
from core.settings import Settings
from core.tenancy import Tenant
from query.answer import OTHER
from query.conditions import Values
from query.funnel import (
    Attribution,
    CohortFilter,
    CohortOutcome,
    Exclusion,
    FunnelBreakdown,
    FunnelQuestion,
    FunnelStep,
    StepOrder,
    check_cohort,
    check_funnel,
)
from query.funnel_answer import FunnelFigures, answer_funnel
from query.funnel_statement import cohort_condition, histogram_edges
from query.narrowing import Range
from tests.pipeline.builders import enriched
from tests.query.journeys import START, raw_of, stored

TYPES = "abcdx"
COUNTRIES = ["", "DE", "NL"]
PLANS = ["free", "pro", None]


def make_visits(seed: int, visitors: int = 90) -> list[EnrichedEvent]:
    """Dense visits, a good part of them at the same moment."""
    chance, events = random.Random(seed), []
    for visitor in range(visitors):
        at = START + timedelta(minutes=chance.randrange(600))
        is_bot = chance.random() < 0.05
        for _ in range(chance.randrange(1, 16)):
            plan = chance.choice(PLANS)
            events.append(
                enriched(
                    id=uuid4().bytes,
                    type=chance.choice(TYPES),
                    timestamp_ms=round(at.timestamp() * 1000),
                    visitor=visitor - 40,
                    country=chance.choice(COUNTRIES),
                    is_bot=is_bot,
                    properties=json.dumps({"plan": plan} if plan else {}).encode(),
                )  # fmt: skip
            )
            at += timedelta(milliseconds=chance.choice([0, 0, 1, 1000, 60_000, 400_000, 3_000_000]))
    return events


EVENTS = make_visits(23)
RANGE = Range(from_=START + timedelta(minutes=40, microseconds=500), to=START + timedelta(minutes=500))


@pytest.fixture(scope="module")
async def tenant(settings: Settings) -> Tenant:
    return await stored(settings, "funnel", EVENTS)


def value_of(event: EnrichedEvent, name: str) -> str:
    if name == "properties.plan":
        return str(json.loads(event.properties).get("plan", ""))
    return {"type": event.type, "country": event.country}[name]


def passes(event: EnrichedEvent, wanted: EventFilter) -> bool:
    return (wanted.types is None or event.type in wanted.types) and all(
        value_of(event, c.dimension) in c.values for c in wanted.conditions
    )


@dataclass(frozen=True, slots=True)
class Hit:
    """An event as a funnel sees it: which steps and exclusions it is of, and the value of the breakdown."""

    at: float
    steps: tuple[bool, ...]
    struck: tuple[bool, ...]
    label: str

    @property
    def place(self) -> tuple[object, ...]:
        return (self.at, [not step for step in self.steps], [not one for one in self.struck])


@dataclass(frozen=True, slots=True)
class Reached:
    """When a visitor first reached a step, how long after the beginning, under which value."""

    place: tuple[object, ...]
    took: float
    label: str


def sequences(question: FunnelQuestion, *, by_value: bool) -> Iterator[tuple[int, list[Hit]]]:
    """Each visitor's events, those of one held value each, in their order."""
    found: defaultdict[tuple[object, ...], list[Hit]] = defaultdict(list)
    window = timedelta(milliseconds=question.window_ms)
    start, end = question.range.from_, question.range.to
    assert start is not None and end is not None
    for event in EVENTS:
        at = event.timestamp_ms
        if not start.timestamp() * 1000 <= at < (end + window).timestamp() * 1000:
            continue
        if event.is_bot and not question.include_bots:
            continue
        if not all(value_of(event, c.dimension) in c.values for c in question.filters):
            continue
        held = [value_of(event, name) for name in question.hold_constant]
        if "" in held:
            continue
        breakdown = question.breakdown
        label = value_of(event, breakdown.dimension) if breakdown else ""
        hit = Hit(
            at, tuple(passes(event, step.filter) for step in question.steps),
            tuple(passes(event, e.filter) for e in question.exclusions), label,
        )  # fmt: skip
        if question.order is StepOrder.STRICT or any(hit.steps) or any(hit.struck):
            found[event.visitor, *held, *([label] if by_value else [])].append(hit)
    for key, hits in found.items():
        yield key[0], sorted(hits, key=lambda hit: (hit.place, hit.label))  # type: ignore[misc]


def search(question: FunnelQuestion, hits: list[Hit]) -> dict[int, Reached]:
    """By step: the first event that reached it, of the attempts that did the one that began last."""
    found: dict[int, Reached] = {}
    end = question.range.to
    assert end is not None
    for begin, first in enumerate(hits):
        is_entry = any(first.steps) if question.order is StepOrder.ANY else first.steps[0]
        if not is_entry or first.at >= end.timestamp() * 1000:
            continue
        reach = any_order(question, hits, begin) if question.order is StepOrder.ANY else in_order(question, hits, begin)
        for step, index in reach:
            one = Reached((index, hits[index].place), hits[index].at - first.at, hits[index].label)
            known = found.get(step)
            if known is None or index < known.place[0] or (index == known.place[0] and one.took < known.took):  # type: ignore[operator]
                found[step] = one
    return found


def in_order(question: FunnelQuestion, hits: list[Hit], begin: int) -> Iterator[tuple[int, int]]:
    """(step, index) that an attempt can reach, by trying every way."""
    ways, seen = [(1, begin)], set()
    while ways:
        step, index = way = ways.pop()
        if way in seen:
            continue
        seen.add(way)
        yield way
        if step == len(question.steps):
            continue
        for later in range(index + 1, len(hits)):
            hit = hits[later]
            if hit.at - hits[begin].at > question.window_ms:
                break
            if hit.steps[step]:
                ways.append((step + 1, later))
            if question.order is StepOrder.STRICT or is_struck(question, hit, step):
                break


def is_struck(question: FunnelQuestion, hit: Hit, step: int) -> bool:
    last = len(question.steps)
    return any(
        struck and exclusion.after_step <= step < (exclusion.before_step or last)
        for struck, exclusion in zip(hit.struck, question.exclusions, strict=True)
    )


def any_order(question: FunnelQuestion, hits: list[Hit], begin: int) -> Iterator[tuple[int, int]]:
    done: set[int] = set()
    for index in range(begin, len(hits)):
        hit = hits[index]
        if hit.at - hits[begin].at > question.window_ms:
            return
        done |= {number for number, is_of in enumerate(hit.steps) if is_of}
        if any(hit.steps):
            for step in range(1, len(done) + 1):
                yield step, index
        if index > begin and any(hit.struck):
            return


def merged(many: list[dict[int, Reached]], steps: int) -> dict[int, Reached]:
    """What a visitor of several values reached first."""
    found = {}
    for step in range(1, steps + 1):
        times = [reached[step] for reached in many if step in reached]
        if times:
            found[step] = min(times, key=lambda one: (one.place[1][0], one.took))  # type: ignore[index]
            label = min(times, key=lambda one: (one.place[1][0], one.label)).label  # type: ignore[index]
            found[step] = replace(found[step], label=label)
    return found


def naive(question: FunnelQuestion) -> tuple[list[dict[int, Reached]], list[tuple[str | None, dict[int, Reached]]]]:
    """What each visitor reached, and the same under the value that it counts under."""
    breakdown, count = question.breakdown, len(question.steps)
    by_value = breakdown is not None and breakdown.attribution is Attribution.ALL
    of_visitor: defaultdict[int, list[dict[int, Reached]]] = defaultdict(list)
    of_value: defaultdict[tuple[int, str], list[dict[int, Reached]]] = defaultdict(list)
    for visitor, hits in sequences(question, by_value=by_value):
        reached = search(question, hits)
        if reached:
            of_visitor[visitor].append(reached)
            of_value[visitor, hits[0].label].append(reached)
    visitors = [merged(many, count) for many in of_visitor.values()]
    if breakdown is None:
        return visitors, []
    if by_value:
        return visitors, [(label, merged(many, count)) for (_, label), many in of_value.items()]
    labelled = []
    for reached in visitors:
        step = {Attribution.FIRST_TOUCH: 1, Attribution.LAST_TOUCH: max(reached)}.get(
            breakdown.attribution, breakdown.step or 0
        )
        labelled.append((reached[step].label if step in reached else None, reached))
    return visitors, labelled


def check_figures(question: FunnelQuestion, figures: FunnelFigures, visitors: list[dict[int, Reached]]) -> None:
    count = len(question.steps)
    assert [step.visitors for step in figures.steps] == [
        sum(step in reached for reached in visitors) for step in range(1, count + 1)
    ]
    for step in figures.steps[1:]:
        took = sorted(reached[step.number].took / 1000 for reached in visitors if step.number in reached)
        if not took or (question.order is StepOrder.ANY and step.number < count):
            assert step.times is None
            continue
        assert step.times is not None
        assert step.times.median_seconds == took[math.ceil(0.5 * len(took)) - 1]
        assert step.times.p90_seconds == took[math.ceil(0.9 * len(took)) - 1]
    took = [reached[count].took for reached in visitors if count in reached]
    edges = histogram_edges(question)
    low = [-1, *edges[:-1]]
    expected = [sum(a < one <= b for one in took) for a, b in zip(low, edges, strict=True)]
    assert [one.visitors for one in figures.histogram] == expected


async def check(settings: Settings, database: Database, tenant: Tenant, question: FunnelQuestion) -> int:
    answer = await answer_funnel(raw_of(settings, database), tenant, question)
    visitors, labelled = naive(question)
    check_figures(question, answer.figures, visitors)
    if question.breakdown is None:
        assert answer.groups == ()
        return answer.figures.steps[-1].visitors
    values = defaultdict(list)
    for label, reached in labelled:
        values[label].append(reached)
    ranked = sorted(values, key=lambda value: (-len(values[value]), value is None, value or ""))
    kept, rest = ranked[: question.breakdown.limit], ranked[question.breakdown.limit :]
    assert [group.value for group in answer.groups] == [*kept, *([OTHER] if rest else [])]
    for group in answer.groups[: len(kept)]:
        check_figures(question, group.figures, values[group.value])
    if rest:
        check_figures(question, answer.groups[-1].figures, [one for value in rest for one in values[value]])
    return answer.figures.steps[-1].visitors


def random_filter(chance: random.Random, *, is_broad: bool = False) -> EventFilter:
    types = tuple(sorted(chance.sample(TYPES, chance.choice([1, 1, 1, 2]))))
    conditions = []
    if chance.random() < 0.25:
        conditions.append(DimensionFilter("country", FilterOp.IN, tuple(chance.sample(COUNTRIES, 2))))
    if chance.random() < 0.15:
        conditions.append(DimensionFilter("properties.plan", FilterOp.IN, ("free", "")))
    return EventFilter(None if is_broad and chance.random() < 0.2 else types, tuple(conditions))


def random_question(chance: random.Random, order: StepOrder) -> FunnelQuestion:
    count = chance.choice([2, 2, 3, 3, 4, 5])
    steps = tuple(FunnelStep(random_filter(chance, is_broad=True)) for _ in range(count))
    exclusions = []
    for _ in range(chance.choice([0, 0, 1, 2]) if order is not StepOrder.STRICT else 0):
        after = chance.randint(1, count - 1) if order is StepOrder.SEQUENTIAL else 1
        before = chance.choice([None, chance.randint(after + 1, count)]) if order is StepOrder.SEQUENTIAL else None
        exclusions.append(Exclusion(random_filter(chance), after, before))
    breakdown = None
    if chance.random() < 0.6:
        attribution = chance.choice(list(Attribution))
        step = chance.randint(1, count) if attribution is Attribution.STEP else None
        dimension = chance.choice(["country", "properties.plan", "type"])
        breakdown = FunnelBreakdown(dimension, attribution, step, chance.choice([1, 2, 10]))
    return FunnelQuestion(
        range=RANGE,
        steps=steps,
        order=order,
        window=chance.choice(["1s", "1m", "7m", "2h", "1d"]),
        exclusions=tuple(exclusions),
        breakdown=breakdown,
        hold_constant=chance.choice([(), (), (), ("country",), ("properties.plan",), ("country", "properties.plan")]),
        filters=(DimensionFilter("country", FilterOp.IN, ("", "DE")),) if chance.random() < 0.2 else (),
        include_bots=chance.random() < 0.3,
    )


@pytest.mark.parametrize("order", StepOrder)
async def test_any_funnel_is_what_a_naive_search_finds(
    settings: Settings, database: Database, tenant: Tenant, order: StepOrder
) -> None:
    chance, converted = random.Random(f"funnel {order}"), 0
    for _ in range(120):
        converted += await check(settings, database, tenant, random_question(chance, order)) > 0
    assert converted > 40


async def visitors_of(settings: Settings, database: Database, tenant: Tenant, cohort: CohortFilter) -> set[int]:
    """The visitors whom the condition lets through."""
    check_cohort(cohort)
    values = Values(1)
    condition = cohort_condition(cohort, *cohort.funnel.span(START), values)
    query = Query(
        "test", ("values",), "", f"SELECT DISTINCT visitor FROM events WHERE {condition} AND $1::text[] <> '{{}}'"
    )
    async with database.as_tenant(tenant.id) as session:
        return {row["visitor"] for row in await session.fetch(query, values.texts)}


@pytest.mark.parametrize("order", StepOrder)
async def test_a_cohort_is_the_visitors_of_a_step(
    settings: Settings, database: Database, tenant: Tenant, order: StepOrder
) -> None:
    question = FunnelQuestion(
        range=RANGE, order=order, window="2h", steps=tuple(FunnelStep(EventFilter((name,))) for name in "abc")
    )
    reached = {visitor: search(question, hits) for visitor, hits in sequences(question, by_value=False)}
    for step in (1, 2, 3):
        found = await visitors_of(settings, database, tenant, CohortFilter(question, step))
        assert found == {visitor for visitor, steps in reached.items() if step in steps} != set()
    dropped = await visitors_of(settings, database, tenant, CohortFilter(question, 1, CohortOutcome.DROPPED))
    assert dropped == {visitor for visitor, steps in reached.items() if 1 in steps and 2 not in steps} != set()


STEPS = (FunnelStep(EventFilter(("a",))), FunnelStep(EventFilter(("b",))), FunnelStep(EventFilter(("c",))))
GOOD = FunnelQuestion(range=RANGE, steps=STEPS)


async def test_nobody_is_zero_and_no_share(settings: Settings, database: Database, tenant: Tenant) -> None:
    nobody = replace(GOOD, steps=(FunnelStep(EventFilter(("none",)), "Nothing"), *STEPS))
    figures = (await answer_funnel(raw_of(settings, database), tenant, nobody)).figures
    assert [step.visitors for step in figures.steps] == [0, 0, 0, 0]
    assert figures.conversion is None and figures.steps[1].share_of_previous is None
    assert figures.steps[0].name == "Nothing" and figures.steps[1].name == "a"


async def test_a_funnel_is_complete_once_every_window_is_over(
    settings: Settings, database: Database, tenant: Tenant
) -> None:
    raw = raw_of(settings, database)
    short = await answer_funnel(raw, tenant, replace(GOOD, window="1h"))
    assert short.origin.is_complete and (short.origin.from_, short.origin.to) == (RANGE.from_, RANGE.to)
    assert not (await answer_funnel(raw, tenant, replace(GOOD, window="3d"))).origin.is_complete


ANY_EVENT = EventFilter()


@pytest.mark.parametrize(
    ("question", "code", "place"),
    [
        (replace(GOOD, steps=STEPS[:1]), "bad_steps", "steps"),
        (replace(GOOD, steps=STEPS * 4), "bad_steps", "steps"),
        (replace(GOOD, steps=(*STEPS, FunnelStep(ANY_EVENT, "n" * 201))), "bad_steps", "steps.3.name"),
        (replace(GOOD, steps=(*STEPS, FunnelStep(EventFilter(())))), "bad_filter", "steps.3.types"),
        (replace(GOOD, window="0d"), "bad_window", "window"),
        (replace(GOOD, window="400d"), "bad_window", "window"),
        (replace(GOOD, window="99999999w"), "bad_window", "window"),
        (replace(GOOD, window="soon"), "bad_window", "window"),
        (replace(GOOD, filters=(DimensionFilter("no", FilterOp.EQ, ("a",)),)), "unknown_dimension",
         "filters.dimension"),
        (replace(GOOD, filters=(DimensionFilter("type", FilterOp.EQ, ("a",)),) * 21), "too_many_filters", "filters"),
        (replace(GOOD, exclusions=(Exclusion(ANY_EVENT),) * 6), "bad_exclusions", "exclusions"),
        (replace(GOOD, exclusions=(Exclusion(ANY_EVENT, 2, 2),)), "bad_exclusions", "exclusions.0"),
        (replace(GOOD, exclusions=(Exclusion(ANY_EVENT, 0),)), "bad_exclusions", "exclusions.0"),
        (replace(GOOD, exclusions=(Exclusion(ANY_EVENT, 1, 4),)), "bad_exclusions", "exclusions.0"),
        (replace(GOOD, exclusions=(Exclusion(ANY_EVENT),), order=StepOrder.STRICT), "bad_exclusions", "exclusions"),
        (replace(GOOD, exclusions=(Exclusion(ANY_EVENT, 2),), order=StepOrder.ANY), "bad_exclusions", "exclusions.0"),
        (replace(GOOD, hold_constant=("country", "country")), "bad_hold_constant", "holdConstant"),
        (replace(GOOD, hold_constant=("type", "os", "device", "country")), "bad_hold_constant", "holdConstant"),
        (replace(GOOD, hold_constant=("plan",)), "unknown_dimension", "holdConstant"),
        (replace(GOOD, breakdown=FunnelBreakdown("plan")), "unknown_dimension", "breakdown.dimension"),
        (replace(GOOD, breakdown=FunnelBreakdown("country", limit=0)), "bad_limit", "breakdown.limit"),
        (replace(GOOD, breakdown=FunnelBreakdown("country", limit=101)), "bad_limit", "breakdown.limit"),
        (replace(GOOD, breakdown=FunnelBreakdown("country", Attribution.STEP)), "bad_step", "breakdown.step"),
        (replace(GOOD, breakdown=FunnelBreakdown("country", Attribution.STEP, 4)), "bad_step", "breakdown.step"),
        (replace(GOOD, breakdown=FunnelBreakdown("country", Attribution.ALL, 1)), "bad_step", "breakdown.step"),
    ],
)  # fmt: skip
def test_what_is_no_funnel_is_refused_with_its_place(question: FunnelQuestion, code: str, place: str) -> None:
    with pytest.raises(BadInput) as refusal:
        check_funnel(question)
    assert (refusal.value.code, refusal.value.field) == (code, place)


def test_a_funnels_range_is_bounded() -> None:
    with pytest.raises(BadInput) as refusal:
        replace(GOOD, range=Range(last="400d")).span(START)
    assert refusal.value.code == "range_too_large"


@pytest.mark.parametrize(
    ("step", "outcome"), [(0, CohortOutcome.CONVERTED), (4, CohortOutcome.CONVERTED), (3, CohortOutcome.DROPPED)]
)
def test_a_cohort_is_of_a_step_that_there_is(step: int, outcome: CohortOutcome) -> None:
    with pytest.raises(BadInput) as refusal:
        check_cohort(CohortFilter(GOOD, step, outcome))
    assert refusal.value.field == "cohort.step"
