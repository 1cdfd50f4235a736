"""A tenant's own metrics, and aggregates asked ad hoc: whatever store is read, the answer is a naive recomputation's
over the events, exactly where kinds add, within the sketch's error else."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core import accounts
from core.database import Database, as_owner
from core.errors import BadInput
from core.eventlog import Offset, Partition
from core.events import EnrichedEvent
from core.filters import DimensionFilter, EventFilter, FilterOp
from core.metric_catalog import MetricCatalog
from core.metric_definitions import EventAggregate
from core.metrics import MetricKind
from core.queries import parse_blocks
from core.retention import Retention
from core.settings import Settings
from core.sketches import QUANTILES_RANK_ERROR
from core.tenancy import Tenant, Tier
from pipeline.counted_metrics import CountedMetrics
from pipeline.prepared import prepare
from pipeline.store import Redefined, Store
from query.answer import OTHER, Answer
from query.engine import QueryEngine
from query.planner import Source
from query.question import AdHocAggregate, Interval, MetricQuestion
from tests.pipeline.builders import batch_of, enriched
from tests.pipeline.own_metrics import define, number, text
from tests.query.test_answers import bucket_start, moment_of

ON_BOTH_STORES = True

START = datetime(2026, 3, 28, tzinfo=UTC)
DAYS = 3  # the clocks of Berlin change within; those of Lord Howe, by half an hour, in the next week
FRESH = datetime(2026, 3, 30, tzinfo=UTC)
ZONES = ("UTC", "Asia/Kolkata", "Australia/Lord_Howe", "America/St_Johns", "Europe/Berlin")
READY = parse_blocks(
    "-- set_ready(tenant_id)\n-- As if all earlier events were counted.\n"
    "UPDATE metric_versions SET ready_at = now() WHERE tenant_id = $1;",
    "test",
)["set_ready"]

ORDERS = EventFilter(("order",), (DimensionFilter("properties.plan", FilterOp.NE, ("free",)),))
DIMENSIONS: Any = {
    "dimensions": ("properties.plan", "country", "status"),
    "combinations": (("properties.plan", "country"),),
}
TOTAL = "properties.cart.total"
METRICS: dict[str, tuple[MetricKind, EventAggregate]] = {
    "own_count": (MetricKind.COUNT, EventAggregate(filter=ORDERS, **DIMENSIONS)),
    "own_sum": (MetricKind.SUM, EventAggregate(property=TOTAL, **DIMENSIONS)),
    "own_avg": (MetricKind.AVG, EventAggregate(filter=ORDERS, property=TOTAL, **DIMENSIONS)),
    "own_min": (MetricKind.MIN, EventAggregate(property="duration_ms", **DIMENSIONS)),
    "own_max": (MetricKind.MAX, EventAggregate(property=TOTAL, **DIMENSIONS)),
    "own_visitors": (MetricKind.UNIQUE, EventAggregate(property="visitor", **DIMENSIONS)),
    "own_carts": (MetricKind.UNIQUE, EventAggregate(property="properties.cart.id", **DIMENSIONS)),
    "own_quantiles": (MetricKind.PERCENTILE, EventAggregate(property="duration_ms", **DIMENSIONS)),
    "own_rate": (MetricKind.RATE, EventAggregate(filter=ORDERS, rate_seconds=60, **DIMENSIONS)),
    "own_flow": (MetricKind.RATE, EventAggregate(property=TOTAL, rate_seconds=1, **DIMENSIONS)),
    "own_ratio": (
        MetricKind.RATIO,
        EventAggregate(matching=EventFilter(None, (DimensionFilter(TOTAL, FilterOp.GT, ("50",)),)), **DIMENSIONS),
    ),
}


def make_events(seed: int, count: int) -> list[EnrichedEvent]:
    chance = random.Random(seed)
    totals = ["1", "19.90", "0.1", "0.2", "1e2", "99.999999999", "1234567890123456", "-3.5", '"12"', "null"]
    return [
        enriched(
            id=uuid4().bytes,
            type=chance.choice(["order", "order", "page_view"]),
            timestamp_ms=int((START + timedelta(seconds=chance.random() ** 1.5 * DAYS * 86_400)).timestamp() * 1000),
            visitor=chance.randrange(300),
            country=chance.choice(["", "DE", "NL"]),
            status=chance.choice([None, 200, 404, 500]),
            duration_ms=chance.choice([None, chance.lognormvariate(3, 1), 0.1 + 0.2]),
            is_bot=chance.random() < 0.1,
            properties=(
                f'{{"plan": "{chance.choice(["free", "pro", "team", "p" * 250])}", "cart": {{'
                f'"id": "c{chance.randrange(250)}", "total": {chance.choice(totals)}}}}}'
            ).encode() if chance.random() < 0.9 else b"{}",
        )
        for _ in range(count)
    ]  # fmt: skip


EVENTS = make_events(11, 2500)


@pytest.fixture(scope="module")
async def tenant(settings: Settings, superuser_url: str) -> Tenant:
    """A tenant whose metrics were defined before its events came, in several batches, by two writers."""
    database = Database(settings, pool_size=2)
    tenant = await accounts.create_tenant(database, slug="own-metrics", name="Own", tier=Tier.SELF_HOSTED)
    for key, made in METRICS.items():
        await define(superuser_url, tenant, key, *made)
    await set_ready(superuser_url, tenant)
    await define(superuser_url, tenant, "own_new", MetricKind.COUNT, EventAggregate(**DIMENSIONS))
    store = Store(database, "own-metrics")
    known: dict[Any, CountedMetrics] = {}
    for shard in (0, 1):
        mine = EVENTS[shard::2]
        for n in range(0, len(mine), 400):
            batch = batch_of(tenant.id, *mine[n : n + 400])
            await store.ensure_partitions([batch])
            await put(store, batch, known, Partition("t", shard), n)
    await database.close()
    return tenant


async def put(store: Store, batch: Any, known: dict[Any, CountedMetrics], partition: Partition, n: int) -> None:
    after = (Offset(f"{n + 400}-0"), b"")
    while True:
        try:
            await store.transact(partition, await prepare([batch], known), Offset(f"{n}-0"), lambda counted: after)
        except Redefined as changed:
            known.update(changed.metrics)
        else:
            return


async def set_ready(superuser_url: str, tenant: Tenant) -> None:
    async with as_owner(superuser_url) as connection:
        await connection.execute(READY.text, tenant.id)


@pytest.fixture
def ask(settings: Settings, database: Database, tenant: Tenant) -> Callable[..., Any]:
    async def fresh_until() -> datetime:
        return FRESH

    engine = QueryEngine(database, MetricCatalog(database), Retention.of(settings), fresh_until)

    async def ask(**question: Any) -> Answer:
        asked = {"from_": START, "to": START + timedelta(days=DAYS), **question}
        return await engine.answer(tenant, MetricQuestion(**asked))

    return ask


@pytest.fixture
def run() -> Callable[..., Any]:
    """Runs a coroutine on the loop of the test's fixtures, from a test that is not a coroutine itself."""
    import asyncio  # noqa: PLC0415

    return asyncio.get_event_loop_policy().get_event_loop().run_until_complete


def label(event: EnrichedEvent, dimension: str) -> str:
    if dimension == "status":
        return "" if event.status is None else str(event.status)
    return text(event, dimension)[:200]


def holds(event: EnrichedEvent, condition: DimensionFilter) -> bool:
    found, first = label(event, condition.dimension), condition.values[0]
    match condition.op:
        case FilterOp.EQ:
            return found == first
        case FilterOp.NE:
            return found != first
        case FilterOp.IN:
            return found in condition.values
        case FilterOp.PREFIX:
            return found.startswith(first)
        case FilterOp.GTE:
            return found != "" and int(found) >= int(first)
    raise AssertionError(condition.op)


def is_counted(event: EnrichedEvent, aggregate: EventAggregate) -> bool:
    """The filters that are used above, by hand."""
    return aggregate.filter == EventFilter() or event.type == "order" and text(event, "properties.plan") != "free"


def naive(
    kind: MetricKind, aggregate: EventAggregate, events: Sequence[EnrichedEvent], percentile: float | None, seconds: int
) -> float | None:
    of = aggregate.property
    if kind is MetricKind.UNIQUE:
        found = {event.visitor if of == "visitor" else text(event, str(of)) for event in events}
        return len(found - {""})
    numbers = [n for n in (number(event, of) for event in events) if n is not None] if of else []
    match kind:
        case MetricKind.COUNT:
            return len(events)
        case MetricKind.SUM:
            return float(sum(numbers, Decimal(0)))
        case MetricKind.AVG:
            return float(sum(numbers, Decimal(0)) / len(numbers)) if numbers else None
        case MetricKind.MIN:
            return float(min(numbers)) if numbers else None
        case MetricKind.MAX:
            return float(max(numbers)) if numbers else None
        case MetricKind.RATE:
            amount = sum(numbers, Decimal(0)) if of else Decimal(len(events))
            return float(amount * aggregate.rate_seconds / seconds)
        case MetricKind.RATIO:
            high = sum(1 for n in (number(event, TOTAL) for event in events) if n is not None and n > 50)
            # A number beyond what is added up compares all the same.
            high += sum(text(event, TOTAL) == "1234567890123456" for event in events)
            return high / len(events) if events else None
        case MetricKind.PERCENTILE:
            values = [float(n) for n in numbers]
            return float(np.quantile(values, (percentile or 50) / 100, method="inverted_cdf")) if values else None
    raise AssertionError(kind)


def is_equal(
    made: tuple[MetricKind, EventAggregate], found: float | None, events: Sequence[EnrichedEvent],
    percentile: float | None, seconds: int,
) -> bool:  # fmt: skip
    expected = naive(*made, events, percentile, seconds)
    if found is None or expected is None:
        return found is expected
    if made[0] is MetricKind.UNIQUE:
        # Small sets are exact; four standard errors beyond.
        return abs(found - expected) <= (0.066 * expected if expected > 20 else 0)
    if made[0] is MetricKind.PERCENTILE:
        values = np.sort([float(n) for n in (number(event, "duration_ms") for event in events) if n is not None])
        low, high = np.searchsorted(values, found, "left"), np.searchsorted(values, found, "right")
        rank = (percentile or 50) / 100 * len(values)
        slack = 1 + 2 * QUANTILES_RANK_ERROR * len(values)
        return bool(low - slack <= rank <= high + slack)
    return float(found) == expected


def filters() -> st.SearchStrategy[DimensionFilter]:
    ops = st.sampled_from([FilterOp.EQ, FilterOp.NE, FilterOp.PREFIX])

    def one(dimension: str, *values: str) -> st.SearchStrategy[DimensionFilter]:
        return st.builds(DimensionFilter, st.just(dimension), ops, st.sampled_from([(value,) for value in values]))

    return (
        one("properties.plan", "pro", "team", "", "p" * 200)
        | one("country", "DE", "")
        | st.just(DimensionFilter("country", FilterOp.IN, ("DE", "NL")))
        | st.just(DimensionFilter("status", FilterOp.GTE, ("404",)))
    )


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    metric=st.sampled_from(sorted(METRICS)),
    is_ad_hoc=st.booleans(),
    interval=st.sampled_from([Interval.FIVE_MINUTES, Interval.HOUR, Interval.DAY, Interval.WEEK]),
    timezone=st.sampled_from(ZONES),
    where=st.lists(filters(), max_size=2).map(tuple),
    group_by=st.lists(st.sampled_from(DIMENSIONS["dimensions"]), max_size=2, unique=True).map(tuple),
    # Spread, since hypothesis likes small numbers, and whole hours hide faults of zones.
    minutes=st.tuples(st.integers(0, DAYS * 1440 - 1).map(lambda n: n * 397 % (DAYS * 1440)), st.integers(1, 2400)),
    is_whole=st.booleans(),
    include_bots=st.booleans(),
)
def test_any_question_about_any_kind_has_the_answer_of_a_naive_recomputation(
    ask: Callable[..., Any], run: Callable[..., Any], metric: str, is_ad_hoc: bool, interval: Interval, timezone: str,
    where: tuple[DimensionFilter, ...], group_by: tuple[str, ...], minutes: tuple[int, int], is_whole: bool,
    include_bots: bool,
) -> None:  # fmt: skip
    from_ = START + timedelta(minutes=minutes[0])
    to = from_ + timedelta(minutes=minutes[1])
    made = METRICS[metric]
    if is_ad_hoc:
        # By dimensions of events alone.
        group_by = tuple(name for name in group_by if not name.startswith("properties."))
        where = tuple(condition for condition in where if not condition.dimension.startswith("properties."))
    named: dict[str, Any] = {"aggregate": AdHocAggregate(*made)} if is_ad_hoc else {"metric": metric}
    answer = run(
        ask(**named, interval=interval, timezone=timezone, filters=where, group_by=group_by, from_=from_, to=to,
            limit=3, include_bots=include_bots, is_whole=is_whole)
    )  # fmt: skip
    counted = [
        event
        for event in EVENTS
        if answer.from_ <= moment_of(event) < answer.to
        and is_counted(event, made[1])
        and (include_bots or not event.is_bot)
        and all(holds(event, condition) for condition in where)
    ]
    if is_ad_hoc:
        assert {read.source for read in answer.reads} == {Source.RAW}
    elif len({*group_by, *(condition.dimension for condition in where)}) < 2:
        assert Source.RAW not in {read.source for read in answer.reads}
    zone = ZoneInfo(timezone)
    assert answer.columns.timestamps[0] == bucket_start(from_, interval, zone)
    kept = [
        tuple(line.labels[d] for d in group_by)
        for line in answer.columns.series
        if OTHER not in line.labels.values()
    ]  # fmt: skip
    whole = int((answer.to - answer.from_).total_seconds())
    for line in answer.columns.series:
        percentile = float(line.labels["percentile"]) if "percentile" in line.labels else None
        labels = tuple(line.labels[d] for d in group_by)
        is_other = OTHER in line.labels.values()
        mine = [
            event for event in counted
            if (tuple(label(event, d) for d in group_by) not in kept if is_other
                else tuple(label(event, d) for d in group_by) == labels)
        ]  # fmt: skip
        assert is_equal(made, line.total, mine, percentile, whole), (line.labels, line.total)
        ends = [*answer.columns.timestamps[1:], int(answer.to.timestamp() * 1000)]
        for value, start, end in zip(line.values, answer.columns.timestamps, ends, strict=True):
            inside = [event for event in mine if start <= event.timestamp_ms < end]
            assert is_equal(made, value, inside, percentile, (end - start) // 1000), (line.labels, start, value)
    groups = {tuple(label(event, d) for d in group_by) for event in counted} or ({()} if not group_by else set())
    assert len(set(kept)) == min(3, len(groups))


async def test_a_metric_that_is_being_filled_is_read_from_raw_events_and_says_so(ask: Callable[..., Any]) -> None:
    answer = await ask(metric="own_new", include_bots=True)
    assert answer.columns.series[0].total == len(EVENTS)
    assert answer.source is Source.RAW and answer.is_complete is False
    assert [warning.code for warning in answer.warnings] == ["backfilling"]


async def test_a_combination_is_read_from_rollups_and_others_from_raw_events(ask: Callable[..., Any]) -> None:
    kept = await ask(metric="own_sum", group_by=("country", "properties.plan"), interval=Interval.DAY)
    other = await ask(metric="own_sum", group_by=("country", "status"), interval=Interval.DAY)
    assert (kept.source, other.source) == (Source.ROLLUP_1H, Source.RAW)


async def test_a_local_day_is_hours_with_finer_ends(ask: Callable[..., Any]) -> None:
    for zone, sources in (("Asia/Kolkata", [Source.ROLLUP_1H, Source.ROLLUP_5M]), ("UTC", [Source.ROLLUP_1H])):
        answer = await ask(metric="own_count", interval=Interval.DAY, timezone=zone)
        assert [read.source for read in answer.reads] == sources


@pytest.mark.parametrize(
    ("asked", "code", "remedy"),
    [
        ({"metric": "own_sum", "group_by": ("properties.comment",)}, "free_text_dimension", "Define a metric"),
        ({"metric": "events", "group_by": ("properties.comment",)}, "free_text_dimension", "Define a metric"),
        ({"metric": "own_sum", "group_by": ("device",)}, "unknown_dimension", "there are properties.plan"),
        ({"metric": "events", "metrics": ("events",)}, "bad_metric", "one of metric"),
        ({"aggregate": AdHocAggregate(MetricKind.SUM, EventAggregate())}, "bad_metric", "needs a property"),
        ({"aggregate": AdHocAggregate(MetricKind.FORMULA, EventAggregate())}, "bad_metric", "define one"),
    ],
)
async def test_what_cannot_be_asked_is_refused_with_the_remedy(
    ask: Callable[..., Any], asked: dict[str, Any], code: str, remedy: str
) -> None:
    with pytest.raises(BadInput, match=remedy) as refusal:
        await ask(**asked)
    assert refusal.value.code == code
