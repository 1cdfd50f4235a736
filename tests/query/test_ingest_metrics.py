"""What became of events, asked as any other metric: over time, by reason and by key, from minutes and from hours."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from core.database import Database
from core.errors import BadInput
from core.filters import DimensionFilter, FilterOp
from core.ingest_counts import add_counts
from core.metric_catalog import MetricCatalog
from core.metrics import BUILT_IN
from core.outcomes import LAG_SECONDS, IngestCell, Outcome, cell_of
from core.retention import Retention
from core.settings import Settings
from core.tenancy import Tenant
from query.answer import OTHER, Answer
from query.engine import QueryEngine
from query.planner import Source
from query.question import Interval, MetricQuestion

START = datetime(2026, 3, 28, 22, tzinfo=UTC)  # the clocks of Berlin change within
HOURS = 12
REASONS, KEYS = ("invalid_id", "quota_exceeded", "rate_limited"), ("key_a", "key_b")


def some_counts(tenant: Tenant, outcome: Outcome, seed: int) -> dict[IngestCell, int]:
    chance = random.Random(seed)
    found: dict[IngestCell, int] = {}
    for _ in range(300):
        received_ms = int(START.timestamp() * 1000) + chance.randrange(HOURS * 3_600_000)
        cell = cell_of(tenant.id, received_ms, outcome, chance.choice(REASONS), chance.choice(KEYS))
        found[cell] = found.get(cell, 0) + chance.randrange(1, 20)
    return found


@pytest.fixture
async def counts(database: Database, tenant: Tenant) -> dict[IngestCell, int]:
    rejected = some_counts(tenant, Outcome.REJECTED, 1)
    async with database.as_doorkeeper(is_write=True) as session:
        for cells in (rejected, some_counts(tenant, Outcome.LATE, 2)):
            await add_counts(session, cells)
    return rejected


@pytest.fixture
def ask(settings: Settings, database: Database, tenant: Tenant) -> Callable[..., Any]:
    async def fresh_until() -> datetime:
        return START + timedelta(hours=HOURS, seconds=LAG_SECONDS)

    engine = QueryEngine(database, MetricCatalog(database), Retention.of(settings), fresh_until)

    async def ask(**question: Any) -> Answer:
        asked = {
            "metric": "ingest_rejected", "from_": START, "to": START + timedelta(hours=HOURS), "limit": 100, **question,
        }  # fmt: skip
        return await engine.answer(tenant, MetricQuestion(**asked))

    return ask


@pytest.mark.parametrize(
    ("interval", "seconds", "source"),
    [(Interval.MINUTE, 60, Source.ROLLUP_1M), (Interval.FIVE_MINUTES, 300, Source.ROLLUP_1M),
     (Interval.HOUR, 3600, Source.ROLLUP_1H)],
)  # fmt: skip
async def test_each_bucket_has_what_was_counted_in_it(
    ask: Callable[..., Any], counts: dict[IngestCell, int], interval: Interval, seconds: int, source: Source
) -> None:
    answer = await ask(interval=interval, group_by=("reason", "key"))
    assert (answer.source, answer.is_complete) == (source, True)
    found = {
        (stamp // 1000, series.labels["reason"], series.labels["key"]): value
        for series in answer.columns.series
        for stamp, value in zip(answer.columns.timestamps, series.values, strict=True)
        if value
    }
    expected: dict[tuple[int, str, str], int] = {}
    for cell, number in counts.items():
        place = (cell.minute // seconds * seconds, cell.reason, cell.key_id)
        expected[place] = expected.get(place, 0) + number
    assert found == expected
    assert sum(series.total for series in answer.columns.series) == sum(counts.values())


async def test_days_of_a_zone_and_filters_and_ranks_are_as_of_any_metric(
    ask: Callable[..., Any], counts: dict[IngestCell, int]
) -> None:
    days = await ask(interval=Interval.DAY, timezone="Europe/Berlin")
    midnight = datetime(2026, 3, 28, 23, tzinfo=UTC).timestamp()
    assert [int(value) for value in days.columns.series[0].values] == [
        sum(n for cell, n in counts.items() if cell.minute < midnight),
        sum(n for cell, n in counts.items() if cell.minute >= midnight),
    ]
    where = (DimensionFilter("key", FilterOp.EQ, ("key_a",)), DimensionFilter("reason", FilterOp.PREFIX, ("r",)))
    (one,) = (await ask(filters=where)).columns.series
    assert one.total == sum(n for c, n in counts.items() if c.key_id == "key_a" and c.reason == "rate_limited")
    first, rest = (await ask(group_by=("reason",), limit=1)).columns.series
    assert rest.labels == {"reason": OTHER} and first.total + rest.total == sum(counts.values())


async def test_what_is_not_certainly_counted_yet_is_not_called_complete(
    ask: Callable[..., Any], counts: dict[IngestCell, int]
) -> None:
    assert not (await ask(to=START + timedelta(hours=HOURS, minutes=1), interval=Interval.MINUTE)).is_complete


@pytest.mark.parametrize(
    ("metric", "dimension"), [("ingest_rejected", "type"), ("ingest_late", "status"), ("events", "reason"),
                              ("visitors", "key")],
)  # fmt: skip
async def test_a_metric_takes_its_own_dimensions_alone(ask: Callable[..., Any], metric: str, dimension: str) -> None:
    for question in ({"group_by": (dimension,)}, {"filters": (DimensionFilter(dimension, FilterOp.EQ, ("x",)),)}):
        with pytest.raises(BadInput, match=f"{metric} has no dimension '{dimension}'") as refusal:
            await ask(metric=metric, **question)
        assert refusal.value.code == "unknown_dimension"


async def test_numbers_are_compared_of_no_dimension_of_these(ask: Callable[..., Any]) -> None:
    with pytest.raises(BadInput) as refusal:
        await ask(filters=(DimensionFilter("reason", FilterOp.GT, ("1",)),))
    assert refusal.value.code == "bad_filter"


def test_there_is_a_metric_of_every_outcome() -> None:
    assert {metric.outcome for metric in BUILT_IN.values()} - {None} == set(Outcome)
    assert all(key == f"ingest_{metric.outcome}" for key, metric in BUILT_IN.items() if metric.outcome)
