"""Answers put together of others: their lines, totals and ranges are those of the parts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from core.database import Database
from core.errors import BadInput
from core.metric_catalog import MetricCatalog
from core.retention import Retention
from core.settings import Settings
from core.tenancy import Tenant
from query.answer import OTHER, Answer
from query.composed import ComposedAnswers
from query.engine import QueryEngine
from query.planner import Source
from query.question import Alignment, Comparison, Interval, MetricQuestion
from schema.metrics import breakdown_of
from tests.query.test_answers import EVENTS, FRESH, START, moment_of, tenant

__all__ = ["tenant"]
DAY = timedelta(days=1)


@pytest.fixture
def engine(settings: Settings, database: Database) -> ComposedAnswers:
    async def fresh_until() -> Any:
        return FRESH

    return ComposedAnswers(QueryEngine(database, MetricCatalog(database), Retention.of(settings), fresh_until))


@pytest.fixture
def ask(engine: ComposedAnswers, tenant: Tenant) -> Callable[..., Any]:
    async def ask(**question: Any) -> Answer:
        now = question.pop("now", FRESH)
        asked = {"from_": START + DAY, "to": START + 2 * DAY, "interval": Interval.HOUR, **question}
        return await engine.answer(tenant, MetricQuestion(**asked), now)

    return ask


def count(start: Any, end: Any) -> int:
    return sum(start <= moment_of(event) < end and not event.is_bot for event in EVENTS)


async def test_an_earlier_time_stands_beside_the_answer(ask: Callable[..., Any]) -> None:
    answer = await ask(metric="events", compare_to=Comparison.PREVIOUS_PERIOD)
    before = answer.comparison
    assert answer.columns.series[0].total == count(START + DAY, START + 2 * DAY)
    assert (before.from_, before.to) == (START, START + DAY)
    assert before.columns.series[0].total == count(START, START + DAY)
    assert len(before.columns.timestamps) == len(answer.columns.timestamps) == 24
    assert (await ask(metric="events")).comparison is None


async def test_the_lines_of_an_earlier_time_are_those_of_now(ask: Callable[..., Any]) -> None:
    question = {"metric": "events", "group_by": ("page_path",), "limit": 3, "compare_to": Comparison.PREVIOUS_PERIOD}
    answer = await ask(**question)
    assert [line.labels for line in answer.comparison.columns.series] == [line.labels for line in answer.columns.series]
    assert sum(line.total for line in answer.comparison.columns.series) == count(START, START + DAY)
    assert answer.columns.series[3].labels == {"page_path": OTHER}
    ranked = breakdown_of(await ask(**question, is_whole=True))
    assert [row.value for row in ranked.rows] == [line.total for line in answer.columns.series]
    assert [row.previous for row in ranked.rows] == [line.total for line in answer.comparison.columns.series]
    assert sum(row.share or 0 for row in ranked.rows) == pytest.approx(1)


async def test_percentiles_are_compared_group_by_group(ask: Callable[..., Any]) -> None:
    answer = await ask(
        metric="request_duration", group_by=("method",), limit=1, compare_to=Comparison.PREVIOUS_PERIOD,
        alignment=Alignment.WEEKDAY,
    )  # fmt: skip
    assert [line.labels for line in answer.comparison.columns.series] == [line.labels for line in answer.columns.series]
    assert all(line.total is None for line in answer.comparison.columns.series)


async def test_several_metrics_are_lines_of_one_answer(ask: Callable[..., Any]) -> None:
    answer = await ask(metrics=("events", "request_duration"), compare_to=Comparison.PREVIOUS_YEAR)
    assert [line.labels["metric"] for line in answer.columns.series] == ["events", *["request_duration"] * 3]
    alone = await ask(metric="events")
    assert answer.columns.series[0].values == alone.columns.series[0].values
    assert len(answer.comparison.columns.series) == 4
    assert len(answer.reads) == 2


async def test_a_metric_that_is_not_there_fails_before_any_is_read(ask: Callable[..., Any]) -> None:
    with pytest.raises(BadInput, match="no metric 'nonsense'"):
        await ask(metrics=("events", "nonsense"))
    with pytest.raises(BadInput, match="up to 10"):
        await ask(metrics=("events", "events"))
    with pytest.raises(BadInput, match="0 to 1") as refusal:
        await ask(metric="events", min_last_bucket=1.5)
    assert refusal.value.code == "bad_threshold"


async def test_a_bucket_that_has_hardly_begun_is_left_out(ask: Callable[..., Any]) -> None:
    now = START + DAY + timedelta(hours=5, minutes=20)
    asked = {"metric": "events", "from_": None, "to": None, "last": "4h", "now": now}
    assert len((await ask(**asked)).columns.timestamps) == 5
    assert len((await ask(**asked, min_last_bucket=0.3)).columns.timestamps) == 5
    cut = await ask(**asked, min_last_bucket=0.5)
    assert len(cut.columns.timestamps) == 4 and cut.to == START + DAY + timedelta(hours=5)
    assert cut.columns.series[0].total == count(cut.from_, cut.to)


async def test_an_answer_says_from_where_it_can_still_grow(ask: Callable[..., Any]) -> None:
    answer = await ask(metric="events", to=START + 3 * DAY, interval=Interval.DAY)
    assert answer.incomplete_from == START + 2 * DAY
    assert (await ask(metric="events")).incomplete_from is None


async def test_a_ranking_of_a_ragged_range_reads_hours_and_their_ends(ask: Callable[..., Any]) -> None:
    asked = {"metric": "events", "from_": START + timedelta(minutes=20), "to": START + 2 * DAY + timedelta(minutes=10),
             "interval": Interval.FIVE_MINUTES, "group_by": ("country",)}  # fmt: skip
    answer = await ask(**asked, is_whole=True)
    assert [read.source for read in answer.reads] == [Source.ROLLUP_1H, Source.ROLLUP_5M]
    by_bucket = await ask(**asked)
    assert [line.total for line in answer.columns.series] == [line.total for line in by_bucket.columns.series]
    assert (answer.from_, answer.to) == (by_bucket.from_, by_bucket.to)
    assert answer.rows_read < by_bucket.rows_read


async def test_a_plan_is_told_without_reading(engine: ComposedAnswers, tenant: Tenant) -> None:
    question = MetricQuestion(
        metric="visitors", from_=START, to=START + 4 * DAY, interval=Interval.DAY, timezone="Asia/Kolkata"
    )
    (explained,) = await engine.explain(tenant, question, FRESH)
    assert [cost.source for cost in explained.costs] == [Source.ROLLUP_1H, Source.ROLLUP_5M]
    assert [cost.spans for cost in explained.costs] == [5, 6]
    assert all(cost.rows >= 0 and cost.cost > 0 for cost in explained.costs)
    both = await engine.explain(tenant, replace(question, compare_to=Comparison.PREVIOUS_PERIOD), FRESH)
    assert len(both) == 2
    (raw,) = await engine.explain(tenant, replace(question, group_by=("country", "device")), FRESH)
    assert [cost.source for cost in raw.costs] == [Source.RAW]
