"""Formulas answered: by equal labels, totals from totals, `__other__` from what it stands for, no value where a divisor
is zero; over the same events as a naive recomputation."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core import accounts
from core.database import Database
from core.errors import BadInput
from core.eventlog import Offset, Partition
from core.events import EnrichedEvent
from core.filters import DimensionFilter, FilterOp
from core.formula import ZeroDivisor, evaluate, parse_formula
from core.metric_catalog import MetricCatalog
from core.metric_checks import Definition
from core.metric_store import MetricDraft, MetricStore
from core.metrics import BUILT_IN, MetricDefinition, MetricKind, Part
from core.retention import Retention
from core.settings import Settings
from core.tenancy import Principal, Tenant, Tier
from pipeline.prepared import prepare
from pipeline.store import Store
from query.answer import OTHER, Answer, Columns, Groups, columns_of
from query.calendar import Buckets
from query.engine import QueryEngine
from query.formulas import zero_warnings
from query.measures import FormulaMeasure
from query.parts import Parts
from query.question import Interval, MetricQuestion
from tests.core.members import add_member
from tests.pipeline.builders import batch_of, enriched

START = datetime(2026, 4, 1, tzinfo=UTC)
DAYS = 3
FORMULAS = {
    "views_per_100": "pageviews / events * 100",
    "balance": "requests - pageviews * 2 + 1",
    "per_request": "bytes_sent / requests",
    "of_formulas": "balance / views_per_100",
    "spread": "p95(request_duration) - p50(request_duration)",
    "per_visitor": "events / visitors",
    "failing": "error_rate * 100",
}

TYPES = ("http_request", "page_view", "signup")
# A group is there when one of a formula's metrics counts something of it.
COUNTED = {"balance": TYPES[:2], "per_request": TYPES[:1]}


def make_events(seed: int, count: int) -> list[EnrichedEvent]:
    chance = random.Random(seed)
    return [
        enriched(
            id=uuid4().bytes,
            type=chance.choice(TYPES),
            timestamp_ms=int((START + timedelta(seconds=chance.random() * DAYS * 86_400)).timestamp() * 1000),
            visitor=chance.randrange(50),
            country=chance.choice(["", "DE", "NL", "GB", "FR"]),
            page_path=f"/p{chance.randrange(4)}",
            status=chance.choice([200, 404, 500]),
            duration_ms=chance.lognormvariate(3, 1),
            bytes=chance.randrange(10**6),
        )
        for _ in range(count)
    ]


EVENTS = make_events(3, 400)


@pytest.fixture(scope="module")
async def tenant(settings: Settings) -> Tenant:
    """A tenant with some events, and formulas over built-in metrics."""
    database = Database(settings, pool_size=2)
    tenant = await accounts.create_tenant(database, slug="formulas", name="Formulas", tier=Tier.SELF_HOSTED)
    store, batch = Store(database, "formulas"), batch_of(tenant.id, *EVENTS)
    await store.ensure_partitions([batch])
    await store.transact(Partition("t"), await prepare([batch]), Offset("0-0"), lambda _: (Offset("1-0"), b""))
    maker: Principal = await add_member(database, tenant)
    for key, text in FORMULAS.items():
        draft = MetricDraft(key=key, definition=Definition(MetricKind.FORMULA, None, text))
        await MetricStore(database, maker, "request").create(draft)
    await database.close()
    return tenant


@pytest.fixture
def ask(settings: Settings, database: Database, tenant: Tenant) -> Callable[..., Awaitable[Answer]]:
    async def fresh_until() -> datetime:
        return START + timedelta(days=DAYS)

    engine = QueryEngine(database, MetricCatalog(database), Retention.of(settings), fresh_until)

    async def ask(**question: Any) -> Answer:
        asked = {"from_": START, "to": START + timedelta(days=DAYS), "interval": Interval.HOUR, **question}
        return await engine.answer(tenant, MetricQuestion(**asked))

    return ask


def naive(text: str, events: list[EnrichedEvent]) -> float | None:
    """A formula of additive metrics over these events."""
    counts = {
        "events": len(events),
        "pageviews": sum(event.type == "page_view" for event in events),
        "requests": sum(event.type == "http_request" for event in events),
        "bytes_sent": sum(int(event.bytes or 0) for event in events if event.type == "http_request"),
    }
    for key in ("balance", "views_per_100"):
        text = text.replace(key, f"({FORMULAS[key]})")
    try:
        return evaluate(parse_formula(text), lambda reference: counts[reference.key])
    except ZeroDivisor:
        return None


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    key=st.sampled_from(["views_per_100", "balance", "per_request", "of_formulas"]),
    dimensions=st.sampled_from([(), ("country",), ("page_path",), ("country", "page_path")]),
    limit=st.integers(1, 6),
    hours=st.integers(1, 6),
    countries=st.sampled_from([None, ("DE",), ("DE", "NL", "XX")]),
)
async def test_a_formula_is_what_a_naive_recomputation_over_the_same_events_gives(
    ask: Any, key: str, dimensions: tuple[str, ...], limit: int, hours: int, countries: tuple[str, ...] | None
) -> None:
    filters = () if countries is None else (DimensionFilter("country", FilterOp.IN, countries),)
    until = START + timedelta(hours=hours)
    answer = await ask(metric=key, to=until, group_by=dimensions, limit=limit, filters=filters)
    kept = [e for e in EVENTS if e.timestamp_ms < until.timestamp() * 1000 and e.type in COUNTED.get(key, TYPES)]
    kept = [e for e in kept if not countries or e.country in countries]
    groups: dict[tuple[str, ...], list[EnrichedEvent]] = {} if dimensions else {(): []}
    for event in kept:
        groups.setdefault(tuple(getattr(event, name) for name in dimensions), []).append(event)
    text = FORMULAS[key]
    ranked = sorted(groups, key=lambda labels: (-(naive(text, groups[labels]) or 0), labels))
    wanted = [(dict(zip(dimensions, labels, strict=True)), groups[labels]) for labels in ranked[:limit]]
    if ranked[limit:]:
        rest = [event for labels in ranked[limit:] for event in groups[labels]]
        wanted.append((dict.fromkeys(dimensions, OTHER), rest))
    assert [series.labels for series in answer.columns.series] == [labels for labels, _ in wanted]
    zeros = 0
    for series, (_, events) in zip(answer.columns.series, wanted, strict=True):
        assert series.total == naive(text, events)
        for stamp, value in zip(answer.columns.timestamps, series.values, strict=True):
            assert value == naive(text, [e for e in events if stamp <= e.timestamp_ms < stamp + 3_600_000])
        zeros += sum(value is None for value in [*series.values, series.total])
    assert ("division_by_zero" in {warning.code for warning in answer.warnings}) == (zeros > 0)


@pytest.mark.parametrize(
    ("key", "leaves"),
    [("per_visitor", ["events", "visitors"]), ("failing", ["error_rate"]), ("spread", ["request_duration"])],
)
async def test_a_formula_of_sketches_is_made_of_what_its_metrics_answer_totals_of_totals(
    ask: Any, key: str, leaves: list[str]
) -> None:
    answer = await ask(metric=key)
    read = {leaf: (await ask(metric=leaf, percentiles=(50.0, 95.0))).columns for leaf in leaves}

    def number(reference: Any, slot: int | None) -> Any:
        series = read[reference.key].series
        found = (
            series[0]
            if reference.percentile is None
            else next(one for one in series if one.labels["percentile"] == f"{reference.percentile:g}")
        )
        return found.total if slot is None else found.values[slot]

    (series,) = answer.columns.series
    assert series.labels == {} and any(value is not None for value in series.values)
    for slot, value in [*enumerate(series.values), (None, series.total)]:
        try:
            wanted = evaluate(parse_formula(FORMULAS[key]), lambda reference, slot=slot: number(reference, slot))
        except ZeroDivisor:
            wanted = None
        assert value == wanted


async def test_a_formula_says_of_all_its_metrics_what_was_read(ask: Any) -> None:
    answer, first, second = [await ask(metric=key) for key in ("views_per_100", "pageviews", "events")]
    assert answer.rows_read == first.rows_read + second.rows_read
    assert answer.definition.key == "views_per_100" and answer.source == first.source


async def test_what_its_metrics_do_not_have_in_common_is_refused(ask: Any) -> None:
    with pytest.raises(BadInput, match="per_request has no dimension 'reason'") as refused:
        await ask(metric="per_request", group_by=("reason",))
    assert refused.value.code == "unknown_dimension"


def question(**asked: Any) -> MetricQuestion:
    return MetricQuestion(**{"metric": "share", "last": "1h", **asked})


def reckoned(
    asked: MetricQuestion, text: str, metrics: dict[str, MetricDefinition], rows: Rows, edges: tuple[int, ...]
) -> tuple[Columns, int]:
    """The columns of a formula over counts by metric, bucket and group; and how often it divided by zero."""
    groups = Groups()
    for key, slot, labels, count in rows:
        groups.by_labels.setdefault(labels, {}).setdefault(slot, {})[key] = Parts(count)
    measure = FormulaMeasure(parse_formula(text), metrics)
    return columns_of(asked, Buckets(Interval.MINUTE, edges), measure, groups), measure.zeros


Rows = list[tuple[str, int, tuple[str, ...], int]]
COUNTS = {key: MetricDefinition(key, MetricKind.COUNT, Part.COUNT, "events", "") for key in ("a", "b")}


def test_groups_that_one_metric_alone_has_count_as_nothing_of_the_others() -> None:
    rows: Rows = [("a", 0, ("x",), 4), ("a", 0, ("y",), 2), ("b", 0, ("x",), 2), ("b", 1, ("z",), 1)]
    columns, zeros = reckoned(question(group_by=("d",)), "a / b", COUNTS, rows, (0, 60, 120))
    found = {series.labels["d"]: (series.values, series.total) for series in columns.series}
    assert found == {"x": ([2.0, None], 2.0), "y": ([None, None], None), "z": ([None, 0.0], 0.0)}
    assert [series.labels["d"] for series in columns.series] == ["x", "y", "z"]
    assert zeros == 5
    (warning,) = zero_warnings(zeros, 9)
    assert warning.code == "division_by_zero" and "5 of its 9" in warning.message


def test_the_rest_is_reckoned_from_merged_parts_not_from_values() -> None:
    rows: Rows = [
        ("a", 0, ("x",), 90), ("a", 0, ("y",), 10), ("a", 0, ("z",), 1),
        ("b", 0, ("x",), 10), ("b", 0, ("y",), 10), ("b", 0, ("z",), 3),
    ]  # fmt: skip
    columns, _ = reckoned(question(group_by=("d",), limit=1), "a / b", COUNTS, rows, (0, 60))
    kept, rest = columns.series
    assert (kept.labels, kept.total) == ({"d": "x"}, 9.0)
    assert (rest.labels, rest.total, rest.values) == ({"d": OTHER}, 11 / 13, [11 / 13])


def test_nothing_grouped_and_nothing_read_is_one_line_of_nothing() -> None:
    metrics = {"a": BUILT_IN["events"], "b": BUILT_IN["error_rate"]}
    columns, zeros = reckoned(question(), "a + 1", metrics, [], (0, 60, 120))
    assert [(series.values, series.total) for series in columns.series] == [([1, 1], 1)] and zeros == 0
    columns, zeros = reckoned(question(), "a + b", metrics, [], (0, 60, 120))
    assert [(series.values, series.total) for series in columns.series] == [([None, None], None)] and zeros == 0
