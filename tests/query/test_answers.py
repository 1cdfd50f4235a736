"""Answers equal a naive recomputation over the same events: exactly where kinds add, within the sketch's error else."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core import accounts
from core.database import Database
from core.errors import BadInput
from core.eventlog import Offset, Partition
from core.events import EnrichedEvent
from core.filters import DimensionFilter, FilterOp
from core.metric_catalog import MetricCatalog
from core.metrics import BUILT_IN, EVENT_DIMENSIONS, MetricKind, Part
from core.retention import Retention
from core.settings import Settings
from core.sketches import QUANTILES_RANK_ERROR
from core.tenancy import Tenant, Tier
from pipeline.fold import dimension_values
from pipeline.prepared import prepare
from pipeline.store import Store
from query.answer import OTHER, Answer
from query.calendar import buckets_of
from query.engine import QueryEngine
from query.question import Interval, MetricQuestion
from tests.pipeline.builders import batch_of, enriched

ON_BOTH_STORES = True

START = datetime(2026, 3, 27, tzinfo=UTC)
DAYS = 4  # the clocks of Berlin and Havana change within
ZONES = ("UTC", "Europe/Berlin", "Asia/Kolkata", "America/Havana", "Australia/Lord_Howe", "Asia/Kathmandu")
FRESH = datetime(2026, 3, 29, tzinfo=UTC)


def make_events(seed: int, count: int) -> list[EnrichedEvent]:
    chance = random.Random(seed)
    events = []
    for _ in range(count):
        is_request = chance.random() < 0.6
        at = START + timedelta(seconds=chance.random() ** 1.5 * DAYS * 86_400)
        events.append(
            enriched(
                id=uuid4().bytes,
                type="http_request" if is_request else chance.choice(["page_view", "signup"]),
                timestamp_ms=int(at.timestamp() * 1000),
                visitor=chance.randrange(400),
                session=chance.randrange(700) if chance.random() < 0.9 else None,
                page_path=f"/p{int(chance.expovariate(0.4))}",
                country=chance.choice(["", "DE", "NL", "GB"]),
                device=chance.choice(["mobile", "desktop"]),
                browser=chance.choice(["Firefox", "Chrome", "50%_off\\"]),
                status=chance.choice([200, 200, 200, 404, 500, 503]) if is_request else None,
                method=chance.choice(["GET", "POST"]) if is_request else "",
                duration_ms=chance.lognormvariate(3, 1) if is_request and chance.random() < 0.95 else None,
                bytes=chance.randrange(10**7) if is_request else None,
                is_bot=chance.random() < 0.1,
            )
        )
    return events


EVENTS = make_events(7, 3000)


@pytest.fixture(scope="module")
async def tenant(settings: Settings) -> Tenant:
    """A tenant whose events came in several batches, by two writers."""
    database = Database(settings, pool_size=2)
    tenant = await accounts.create_tenant(database, slug="answers", name="Answers", tier=Tier.SELF_HOSTED)
    store = Store(database, "answers")
    for shard in (0, 1):
        mine = EVENTS[shard::2]
        for n in range(0, len(mine), 300):
            batch = batch_of(tenant.id, *mine[n : n + 300])
            await store.ensure_partitions([batch])
            after = Offset(f"{n + 300}-0")
            await store.transact(
                Partition("t", shard),
                await prepare([batch]),
                Offset(f"{n}-0"),
                lambda counted, after=after: (after, b""),
            )
    await database.close()
    return tenant


@pytest.fixture
def ask(settings: Settings, database: Database, tenant: Tenant) -> Callable[..., Any]:
    async def fresh_until() -> datetime:
        return FRESH

    engine = QueryEngine(database, MetricCatalog(database), Retention.of(settings), fresh_until)

    async def ask(asker: Tenant = tenant, **question: Any) -> Answer:
        asked = {"metric": "events", "from_": START, "to": START + timedelta(days=DAYS), **question}
        return await engine.answer(asker, MetricQuestion(**asked))

    return ask


def value_of(event: EnrichedEvent, dimension: str) -> str:
    return event.type if dimension == "type" else dict(dimension_values(event))[dimension]


def holds(event: EnrichedEvent, condition: DimensionFilter) -> bool:
    found, first = value_of(event, condition.dimension), condition.values[0]
    match condition.op:
        case FilterOp.EQ:
            return found == first
        case FilterOp.NE:
            return found != first
        case FilterOp.IN:
            return found in condition.values
        case FilterOp.NOT_IN:
            return found not in condition.values
        case FilterOp.CONTAINS:
            return first in found
        case FilterOp.PREFIX:
            return found.startswith(first)
        case FilterOp.GT:
            return found != "" and int(found) > int(first)
        case FilterOp.GTE:
            return found != "" and int(found) >= int(first)
        case FilterOp.LT:
            return found != "" and int(found) < int(first)
        case FilterOp.LTE:
            return found != "" and int(found) <= int(first)


def moment_of(event: EnrichedEvent) -> datetime:
    return datetime.fromtimestamp(event.timestamp_ms / 1000, UTC)


def bucket_start(moment: datetime, interval: Interval, zone: ZoneInfo) -> int:
    """Epoch ms of the local bucket a moment falls in, by calendar arithmetic that shares nothing with the engine."""
    local = moment.astimezone(zone)
    match interval:
        case Interval.DAY | Interval.WEEK | Interval.MONTH:
            day = local.date()
            if interval is Interval.WEEK:
                day -= timedelta(days=day.weekday())
            if interval is Interval.MONTH:
                day = day.replace(day=1)
            start = datetime(day.year, day.month, day.day, tzinfo=zone)
        case Interval.HOUR:
            start = local.replace(minute=0, second=0, microsecond=0)
        case _:
            length = 5 if interval is Interval.FIVE_MINUTES else 1
            start = local.replace(minute=local.minute // length * length, second=0, microsecond=0)
    return int(start.timestamp() * 1000)


def naive(metric: str, events: list[EnrichedEvent], percentile: float | None) -> float | None:
    definition = BUILT_IN[metric]
    match definition.kind:
        case MetricKind.COUNT:
            return len(events)
        case MetricKind.SUM:
            return sum(e.bytes or 0 for e in events)
        case MetricKind.RATIO:
            return sum((e.status or 0) >= 500 for e in events) / len(events) if events else None
        case MetricKind.UNIQUE:
            name = "visitor" if definition.part is Part.VISITORS else "session"
            return len({getattr(e, name) for e in events} - {None})
        case MetricKind.PERCENTILE:
            values = [e.duration_ms for e in events if e.duration_ms is not None]
            return float(np.quantile(values, (percentile or 50) / 100, method="inverted_cdf")) if values else None


def is_equal(metric: str, found: float | None, events: list[EnrichedEvent], percentile: float | None) -> bool:
    expected = naive(metric, events, percentile)
    if found is None or expected is None:
        return found is expected
    match BUILT_IN[metric].kind:
        case MetricKind.UNIQUE:
            # Small sets are exact; four standard errors beyond.
            return abs(found - expected) <= max(0.0, 0.066 * expected if expected > 20 else 0.0)
        case MetricKind.PERCENTILE:
            values = np.sort([e.duration_ms for e in events if e.duration_ms is not None])
            low, high = np.searchsorted(values, found, "left"), np.searchsorted(values, found, "right")
            rank = (percentile or 50) / 100 * len(values)
            slack = 1 + 2 * QUANTILES_RANK_ERROR * len(values)
            return bool(low - slack <= rank <= high + slack)
    return found == expected


def filters() -> st.SearchStrategy[DimensionFilter]:
    values = {
        "type": ["http_request", "page_view", "none"], "status": ["200", "500", ""], "country": ["DE", "", "NL"],
        "page_path": ["/p0", "/p1", "p"], "browser": ["50%_off\\", "%", "_", "Chrome"], "method": ["GET", ""],
    }  # fmt: skip

    def conditions(dimension: str) -> st.SearchStrategy[DimensionFilter]:
        one = st.sampled_from(values[dimension])
        ops = [FilterOp.EQ, FilterOp.NE, FilterOp.CONTAINS, FilterOp.PREFIX]
        many = st.lists(one, min_size=1, max_size=3).map(tuple)
        found = st.builds(DimensionFilter, st.just(dimension), st.sampled_from(ops), one.map(lambda v: (v,)))
        found |= st.builds(DimensionFilter, st.just(dimension), st.sampled_from([FilterOp.IN, FilterOp.NOT_IN]), many)
        if dimension == "status":
            numeric = st.sampled_from([FilterOp.GT, FilterOp.GTE, FilterOp.LT, FilterOp.LTE])
            found |= st.builds(DimensionFilter, st.just(dimension), numeric, st.sampled_from([("404",), ("500",)]))
        return found

    return st.sampled_from(sorted(values)).flatmap(conditions)


@settings(max_examples=250, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    metric=st.sampled_from(sorted(key for key, metric in BUILT_IN.items() if metric.outcome is None)),
    interval=st.sampled_from([i for i in Interval if i is not Interval.AUTO]),
    timezone=st.sampled_from(ZONES),
    where=st.lists(filters(), max_size=2).map(tuple),
    group_by=st.lists(st.sampled_from(EVENT_DIMENSIONS), max_size=2, unique=True).map(tuple),
    # Spread, since hypothesis likes small numbers, and whole hours hide faults of zones.
    minutes=st.tuples(st.integers(0, DAYS * 1440 - 1).map(lambda n: n * 397 % (DAYS * 1440)), st.integers(1, 2400)),
    limit=st.integers(1, 5),
    include_bots=st.booleans(),
)
def test_any_question_has_the_answer_of_a_naive_recomputation(
    ask: Callable[..., Any], run: Callable[..., Any], metric: str, interval: Interval, timezone: str,
    where: tuple[DimensionFilter, ...], group_by: tuple[str, ...], minutes: tuple[int, int], limit: int,
    include_bots: bool,
) -> None:  # fmt: skip
    from_ = START + timedelta(minutes=minutes[0])
    to = from_ + timedelta(minutes=minutes[1])
    answer = run(
        ask(
            metric=metric, interval=interval, timezone=timezone, filters=where, group_by=group_by, from_=from_,
            to=to, limit=limit, include_bots=include_bots,
        )
    )  # fmt: skip
    definition = BUILT_IN[metric]
    bots = {True} if definition.is_of_bots else {False, True} if include_bots else {False}
    counted = [
        event
        for event in EVENTS
        if answer.from_ <= moment_of(event) < answer.to
        and (definition.event_types is None or event.type in definition.event_types)
        and event.is_bot in bots
        and all(holds(event, condition) for condition in where)
    ]
    zone = ZoneInfo(timezone)
    # Widened to whole buckets, and no further.
    assert answer.columns.timestamps[0] == bucket_start(from_, interval, zone)
    assert answer.columns.timestamps[-1] == bucket_start(to - timedelta(microseconds=1), interval, zone)
    assert answer.to >= to
    kept = [
        tuple(series.labels[dimension] for dimension in group_by)
        for series in answer.columns.series
        if OTHER not in series.labels.values()
    ]
    for series in answer.columns.series:
        labels = tuple(series.labels[dimension] for dimension in group_by)
        percentile = float(series.labels["percentile"]) if "percentile" in series.labels else None
        is_other = OTHER in series.labels.values()
        mine = [
            event
            for event in counted
            if (tuple(value_of(event, d) for d in group_by) not in kept if is_other
                else tuple(value_of(event, d) for d in group_by) == labels)
        ]  # fmt: skip
        assert is_equal(metric, series.total, mine, percentile), (series.labels, series.total)
        by_bucket: dict[int, list[EnrichedEvent]] = {stamp: [] for stamp in answer.columns.timestamps}
        for event in mine:
            by_bucket[bucket_start(moment_of(event), interval, zone)].append(event)
        for value, (stamp, inside) in zip(series.values, by_bucket.items(), strict=True):
            assert is_equal(metric, value, inside, percentile), (series.labels, stamp, value)
    groups = {tuple(value_of(event, d) for d in group_by) for event in counted} or ({()} if not group_by else set())
    assert len(set(kept)) == min(limit, len(groups))


@pytest.fixture
def run() -> Callable[..., Any]:
    """Runs a coroutine on the loop of the test's fixtures, from a test that is not a coroutine itself."""
    import asyncio  # noqa: PLC0415

    loop = asyncio.get_event_loop_policy().get_event_loop()
    return loop.run_until_complete


async def test_groups_are_ranked_by_total_and_the_rest_is_one_series(ask: Callable[..., Any]) -> None:
    answer = await ask(group_by=("page_path",), limit=3, include_bots=True)
    totals = [series.total for series in answer.columns.series]
    assert totals[:3] == sorted(totals[:3], reverse=True)
    assert answer.columns.series[3].labels == {"page_path": OTHER}
    assert sum(totals) == len(EVENTS)


async def test_the_total_of_uniques_is_not_the_sum_of_buckets(ask: Callable[..., Any]) -> None:
    (visitors,) = (await ask(metric="visitors", interval=Interval.HOUR)).columns.series
    assert visitors.total == pytest.approx(400, rel=0.05)
    assert sum(visitors.values) > 2 * visitors.total


async def test_nothing_is_zero_for_counts_and_no_value_for_the_rest(ask: Callable[..., Any]) -> None:
    empty = {"from_": START - timedelta(days=9), "to": START - timedelta(days=8), "interval": Interval.DAY}
    for metric, nothing in (("events", 0), ("bytes_sent", 0), ("visitors", 0), ("error_rate", None)):
        (series,) = (await ask(metric=metric, **empty)).columns.series
        assert series.values == [nothing] and series.total is nothing or series.total == nothing
    assert all(s.total is None for s in (await ask(metric="request_duration", **empty)).columns.series)
    assert (await ask(group_by=("country",), **empty)).columns.series == []


async def test_an_answer_says_from_where_and_whether_it_is_complete(ask: Callable[..., Any]) -> None:
    def source(**question: Any) -> Any:
        return ask(**question)

    assert (await source(interval=Interval.DAY)).source == "ROLLUP_1H"
    assert (await source(interval=Interval.DAY, timezone="Asia/Kathmandu")).source == "ROLLUP_1H"
    assert (await source(interval=Interval.MINUTE, to=START + timedelta(hours=1))).source == "ROLLUP_1M"
    assert (await source(interval=Interval.DAY, group_by=("country",))).source == "ROLLUP_1H"
    assert (await source(interval=Interval.DAY, group_by=("type", "country"))).source == "ROLLUP_1H"
    assert (await source(interval=Interval.DAY, group_by=("country", "device"))).source == "RAW"
    assert not (await source()).is_complete
    assert (await source(to=FRESH, interval=Interval.DAY)).is_complete


async def test_a_tenant_never_sees_another(ask: Callable[..., Any], database: Database) -> None:
    other = await accounts.create_tenant(database, slug=f"other-{uuid4().hex[:8]}", name="", tier=Tier.SELF_HOSTED)
    for group_by in ((), ("country",), ("country", "device")):
        answer = await ask(other, group_by=group_by, include_bots=True)
        assert all(series.total == 0 for series in answer.columns.series)


@pytest.mark.parametrize(
    ("zone", "day", "hours"),
    [("Europe/Berlin", 29, 23), ("Europe/Berlin", 28, 24), ("America/Havana", 29, 24), ("Australia/Lord_Howe", 28, 24)],
)
async def test_a_day_has_the_hours_it_has(ask: Callable[..., Any], zone: str, day: int, hours: int) -> None:
    start = datetime(2026, 3, day, tzinfo=ZoneInfo(zone))
    end = datetime(2026, 3, day + 1, tzinfo=ZoneInfo(zone))
    answer = await ask(from_=start, to=end, interval=Interval.DAY, timezone=zone)
    assert len(answer.columns.timestamps) == 1
    assert (answer.to - answer.from_).total_seconds() == hours * 3600
    by_hour = await ask(from_=start, to=end, interval=Interval.HOUR, timezone=zone)
    assert len(by_hour.columns.timestamps) == hours


async def test_weeks_begin_on_monday_and_months_on_their_first(ask: Callable[..., Any]) -> None:
    weeks = await ask(interval=Interval.WEEK, timezone="Europe/Berlin")
    assert datetime.fromtimestamp(weeks.columns.timestamps[0] / 1000, ZoneInfo("Europe/Berlin")).weekday() == 0
    months = await ask(interval=Interval.MONTH)
    assert [datetime.fromtimestamp(t / 1000, UTC).day for t in months.columns.timestamps] == [1]


async def test_a_range_of_too_many_buckets_is_refused_with_the_remedy(ask: Callable[..., Any]) -> None:
    with pytest.raises(BadInput, match="longer interval") as refusal:
        await ask(interval=Interval.MINUTE, to=START + timedelta(days=8))
    assert refusal.value.code == "range_too_large"


@pytest.mark.parametrize("zone", ["Pacific/Apia", "Pacific/Fakaofo"])
async def test_a_day_that_a_zone_left_out_has_no_bucket(zone: str) -> None:
    start, end = datetime(2011, 12, 28, tzinfo=UTC), datetime(2012, 1, 2, tzinfo=UTC)
    edges = buckets_of(Interval.DAY, start, end, ZoneInfo(zone)).edges
    assert list(edges) == sorted(set(edges))
