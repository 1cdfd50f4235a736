"""Paths equal what a naive walk over the same events finds."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from datetime import timedelta
from itertools import pairwise, product
from typing import Any

import pytest

from core.database import Database
from core.errors import BadInput
from core.events import EnrichedEvent
from core.filters import DimensionFilter, EventFilter, FilterOp
from core.settings import Settings
from core.tenancy import Tenant
from query.answer import OTHER
from query.narrowing import Range
from query.paths import (
    Paths,
    PathsDirection,
    PathsNodeKind,
    PathsOccurrence,
    PathsQuestion,
    PathsUnit,
    check_paths,
    find_paths,
)
from tests.query.journeys import START, in_order, make_journeys, moment_of, passes, raw_of, stored

ON_BOTH_STORES = True
EVENTS = make_journeys(11)
MARK = "\x01"
RANGE = Range(from_=START + timedelta(hours=6), to=START + timedelta(days=3))
GERMAN = EventFilter(None, (DimensionFilter("country", FilterOp.EQ, ("DE",)),))


@pytest.fixture(scope="module")
async def tenant(settings: Settings) -> Tenant:
    return await stored(settings, "paths", EVENTS)


def step_of(event: EnrichedEvent, question: PathsQuestion) -> str:
    if event.type == question.anchor_type:
        return MARK + event.type
    if question.step_by == "properties.screen":
        return str(json.loads(event.properties)["screen"])
    return event.type if question.step_by == "type" else event.page_path


def walks_of(question: PathsQuestion) -> list[tuple[str | None, ...]]:
    """Each path as its steps by level, None where there is none."""
    units: defaultdict[int, list[str]] = defaultdict(list)
    for event in in_order(EVENTS):
        unit = event.visitor if question.unit is PathsUnit.VISITOR else event.session
        is_meant = passes(event, question.filter) or event.type == question.anchor_type
        in_range = question.range.from_ <= moment_of(event) < question.range.to
        if unit is None or not is_meant or not in_range or (event.is_bot and not question.include_bots):
            continue
        step = step_of(event, question)
        if step == "" or step in question.excluded or (question.collapse and units[unit][-1:] == [step]):
            continue
        units[unit].append(step)
    anchor = MARK + question.anchor_type if question.anchor_type else question.anchor
    walks = []
    for steps in units.values():
        places = [n for n, step in enumerate(steps) if anchor in (None, step)]
        occurrence = question.occurrence
        if anchor is None:
            is_after = question.direction is PathsDirection.AFTER
            occurrence = PathsOccurrence.FIRST if is_after else PathsOccurrence.LAST
        if occurrence is PathsOccurrence.FIRST:
            places = places[:1]
        elif occurrence is PathsOccurrence.LAST:
            places = places[-1:]
        for place in places:
            at = [place + level for level in question.levels]
            walks.append(tuple(steps[n] if 0 <= n < len(steps) else None for n in at))
    return walks


def expected(question: PathsQuestion) -> tuple[int, dict[str, int], dict[tuple[str, str], int], Counter[Any]]:
    walks, levels = walks_of(question), list(question.levels)
    by_level = [Counter(walk[n] for walk in walks if walk[n] is not None) for n in range(len(levels))]
    kept = [
        {step for step, _ in sorted(counts.items(), key=lambda c: (-c[1], c[0] or ""))[: question.limit]}
        for counts in by_level
    ]

    def node(n: int, step: str | None, missing: str) -> str:
        if step is None:
            return f"{levels[n]}:{missing}:"
        if step.startswith(MARK) and step in kept[n]:
            return f"{levels[n]}:EVENT:{step.removeprefix(MARK)}"
        return f"{levels[n]}:STEP:{step}" if step in kept[n] else f"{levels[n]}:OTHER:{OTHER}"

    nodes: Counter[str] = Counter()
    links: Counter[tuple[str, str]] = Counter()
    for walk in walks:
        for n, step in enumerate(walk):
            if step is not None:
                nodes[node(n, step, "")] += 1
        for (n, source), (m, target) in pairwise(enumerate(walk)):
            if source is None and target is None:
                continue
            ends = node(n, source, "START"), node(m, target, "END")
            links[ends] += 1
            for end, step in zip(ends, (source, target), strict=True):
                nodes[end] += step is None
    whole = Counter(tuple(step and step.removeprefix(MARK) for step in walk) for walk in walks)
    return len(walks), {k: v for k, v in nodes.items() if v}, dict(links), whole


async def check(settings: Settings, database: Database, tenant: Tenant, question: PathsQuestion) -> Paths:
    answer = await find_paths(raw_of(settings, database), tenant, question)
    total, nodes, links, whole = expected(question)
    assert answer.total == total
    assert {node.id: node.count for node in answer.nodes} == nodes
    assert {(link.source, link.target): link.count for link in answer.links} == links
    counts = {node.id: node.count for node in answer.nodes}
    for link in answer.links:
        assert link.share == link.count / total and link.share_of_source == link.count / counts[link.source]
    assert [s.count for s in answer.sequences] == [count for _, count in whole.most_common(question.limit)]
    assert all(whole[s.steps] == s.count for s in answer.sequences)
    return answer


@pytest.mark.parametrize("unit", PathsUnit)
@pytest.mark.parametrize("occurrence", PathsOccurrence)
@pytest.mark.parametrize("direction", PathsDirection)
@pytest.mark.parametrize("collapse", [True, False])
async def test_paths_around_an_anchor_are_those_of_a_naive_walk(
    settings: Settings, database: Database, tenant: Tenant, unit: PathsUnit, occurrence: PathsOccurrence,
    direction: PathsDirection, collapse: bool,
) -> None:  # fmt: skip
    question = PathsQuestion(
        range=RANGE, anchor="/a", unit=unit, occurrence=occurrence, direction=direction, collapse=collapse, depth=2
    )
    answer = await check(settings, database, tenant, question)
    assert answer.total > 10


VARIANTS: list[dict[str, Any]] = [
    {"depth": 5},
    {"depth": 5, "direction": PathsDirection.BEFORE},
    {"depth": 4, "limit": 2},
    {"depth": 3, "limit": 3, "anchor": "/b", "direction": PathsDirection.BOTH, "occurrence": PathsOccurrence.EVERY},
    {"anchor": "/", "excluded": ("/a", "/pricing")},
    {"anchor": "signup", "step_by": "type", "direction": PathsDirection.BOTH},
    {"anchor_type": "signup", "filter": EventFilter(("page_view",)), "direction": PathsDirection.BEFORE},
    {"anchor_type": "signup", "direction": PathsDirection.BOTH, "limit": 2, "occurrence": PathsOccurrence.LAST},
    {"step_by": "properties.screen", "anchor": "b"},
    {"filter": GERMAN, "include_bots": True},
    {"anchor": "__other__", "limit": 1},
    {"anchor": "/nowhere"},
]


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
@pytest.mark.parametrize("unit", PathsUnit)
async def test_every_other_form_of_the_question_as_well(
    settings: Settings, database: Database, tenant: Tenant, variant: dict[str, Any], unit: PathsUnit
) -> None:
    answer = await check(settings, database, tenant, PathsQuestion(range=RANGE, unit=unit, **variant))
    assert (answer.total == 0) == (variant.get("anchor") == "/nowhere")


async def test_a_page_named_as_the_rest_is_not_the_rest(settings: Settings, database: Database, tenant: Tenant) -> None:
    question = PathsQuestion(range=RANGE, anchor="/a", limit=3, occurrence=PathsOccurrence.EVERY)
    answer = await find_paths(raw_of(settings, database), tenant, question)
    kinds = {node.kind for node in answer.nodes if node.step == OTHER}
    assert PathsNodeKind.OTHER in kinds
    assert len({node.id for node in answer.nodes}) == len(answer.nodes)


async def test_what_flows_into_a_step_flows_out_of_it(settings: Settings, database: Database, tenant: Tenant) -> None:
    question = PathsQuestion(range=RANGE, anchor="/a", direction=PathsDirection.BOTH, depth=3, limit=2)
    answer = await find_paths(raw_of(settings, database), tenant, question)
    into, out = Counter[str](), Counter[str]()
    for link in answer.links:
        into[link.target] += link.count
        out[link.source] += link.count
    for node in answer.nodes:
        if node.level > -3 and node.kind is not PathsNodeKind.START:
            assert into[node.id] == node.count, node
        if node.level < 3 and node.kind is not PathsNodeKind.END:
            assert out[node.id] == node.count, node


async def test_another_tenant_has_other_paths(settings: Settings, database: Database, tenant: Tenant) -> None:
    other = await stored(settings, f"paths-other-{tenant.slug}-{id(database)}"[:40], make_journeys(12, sessions=3))
    answer = await find_paths(raw_of(settings, database), other, PathsQuestion(range=RANGE))
    assert answer.total <= 3


BAD: list[tuple[dict[str, Any], str, str]] = [
    ({"depth": 0}, "bad_depth", "depth"),
    ({"depth": 6}, "bad_depth", "depth"),
    ({"limit": 0}, "bad_limit", "limit"),
    ({"limit": 21}, "bad_limit", "limit"),
    ({"excluded": tuple(map(str, range(101)))}, "bad_excluded", "exclude"),
    ({"anchor": "/", "anchor_type": "signup"}, "bad_anchor", "anchor"),
    ({"direction": PathsDirection.BOTH}, "bad_anchor", "anchor"),
    ({"anchor": ""}, "bad_anchor", "anchor"),
    ({"anchor": "/", "excluded": ("/",)}, "bad_anchor", "exclude"),
    ({"anchor": "/\0"}, "bad_filter", "anchor"),
    ({"excluded": ("\ud800",)}, "bad_filter", "exclude"),
    ({"step_by": "weather"}, "unknown_dimension", "stepBy"),
    ({"step_by": "properties."}, "bad_property", "stepBy"),
    ({"filter": EventFilter(())}, "bad_filter", "query.types"),
]


@pytest.mark.parametrize(("fields", "code", "field"), BAD)
def test_a_question_that_is_none_is_refused_with_a_remedy(fields: dict[str, Any], code: str, field: str) -> None:
    with pytest.raises(BadInput) as refused:
        check_paths(PathsQuestion(range=RANGE, **fields))
    assert (refused.value.code, refused.value.field) == (code, field)


@pytest.mark.parametrize("range", [Range(), Range(last="7 days"), Range(from_=START, to=START)])
async def test_a_range_that_is_none_is_refused(
    settings: Settings, database: Database, tenant: Tenant, range: Range
) -> None:
    with pytest.raises(BadInput, match="range"):
        await find_paths(raw_of(settings, database), tenant, PathsQuestion(range=range))


def test_the_variants_are_not_all_alike() -> None:
    seen = {tuple(sorted(expected(PathsQuestion(range=RANGE, **v))[1].items())) for v, _ in product(VARIANTS, [0])}
    assert len(seen) == len(VARIANTS)
