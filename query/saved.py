"""A question as it is saved: the JSON that the API's input `MetricQuery` takes, so that what is stored can be read,
exported and asked again as it is."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from core.errors import BadInput
from core.filters import DimensionFilter
from query.calendar import checked_interval
from query.definitions import Metrics, check_asked
from query.question import DEFAULT_LIMIT, DEFAULT_PERCENTILES, Alignment, Comparison, Interval, MetricQuestion, bad
from query.saved_aggregates import SavedAggregate, SavedFilter, saved_filters


class SavedRange(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """`{"last"}`, or `{"from", "to"}`."""

    last: str | None = None
    from_: datetime | None = msgspec.field(default=None, name="from")
    to: datetime | None = None


class SavedQuery(msgspec.Struct, forbid_unknown_fields=True, rename="camel"):
    """The whole. A field that is added later is left out where it is not used, as in the API."""

    range: SavedRange
    metric: str | UnsetType = UNSET
    metrics: tuple[str, ...] | UnsetType = UNSET
    aggregate: SavedAggregate | UnsetType = UNSET
    interval: Interval = Interval.AUTO
    timezone: str = "UTC"
    filters: tuple[SavedFilter, ...] = ()
    group_by: tuple[str, ...] = ()
    limit: int = DEFAULT_LIMIT
    include_bots: bool = False
    percentiles: tuple[float, ...] = DEFAULT_PERCENTILES
    compare_to: Comparison | UnsetType = UNSET
    alignment: Alignment | UnsetType = UNSET
    min_last_bucket: float | UnsetType = UNSET

    def __post_init__(self) -> None:
        if self.metric is self.metrics is self.aggregate is UNSET:
            raise ValueError("it names no metric")

    @classmethod
    def of(cls, question: MetricQuestion) -> SavedQuery:
        aggregate = question.aggregate
        return cls(
            metric=UNSET if question.metrics or aggregate is not None else question.metric,
            metrics=question.metrics or UNSET,
            aggregate=UNSET if aggregate is None else SavedAggregate.of(aggregate),
            range=SavedRange(question.last, question.from_, question.to),
            interval=question.interval,
            timezone=question.timezone,
            filters=saved_filters(question.filters),
            group_by=question.group_by,
            limit=question.limit,
            include_bots=question.include_bots,
            percentiles=question.percentiles,
            compare_to=question.compare_to or UNSET,
            alignment=UNSET if question.alignment is Alignment.DATE else question.alignment,
            min_last_bucket=question.min_last_bucket or UNSET,
        )

    def to_domain(self) -> MetricQuestion:
        return MetricQuestion(
            metric=self.metric or "",
            metrics=self.metrics or (),
            aggregate=None if isinstance(self.aggregate, UnsetType) else self.aggregate.to_domain(),
            last=self.range.last,
            from_=self.range.from_,
            to=self.range.to,
            interval=self.interval,
            timezone=self.timezone,
            filters=tuple(f.to_domain() for f in self.filters),
            group_by=self.group_by,
            limit=self.limit,
            include_bots=self.include_bots,
            percentiles=self.percentiles,
            compare_to=self.compare_to or None,
            alignment=self.alignment or Alignment.DATE,
            min_last_bucket=self.min_last_bucket or 0.0,
        )


def write_query(question: MetricQuestion) -> str:
    """A question as JSON."""
    return msgspec.json.encode(SavedQuery.of(question)).decode()


def read_query(text: str) -> MetricQuestion:
    """The question that was saved; whether it can still be asked, `check_question` says.

    Raises:
        BadInput: it was saved in a form that is no longer read.
    """
    try:
        return msgspec.json.decode(text, type=SavedQuery).to_domain()
    except msgspec.DecodeError as error:
        raise bad("query_no_longer_fits", "query", f"What is saved is no question of this version: {error}") from None


def write_filters(filters: tuple[DimensionFilter, ...]) -> str:
    return msgspec.json.encode(saved_filters(filters)).decode()


def read_filters(text: str) -> tuple[DimensionFilter, ...]:
    """Conditions that were saved. Raises BadInput as `read_query`."""
    try:
        return tuple(f.to_domain() for f in msgspec.json.decode(text, type=tuple[SavedFilter, ...]))
    except msgspec.DecodeError as error:
        raise BadInput(f"What is saved is no condition of this version: {error}", code="query_no_longer_fits") from None


def as_json(question: MetricQuestion) -> Any:
    """A question as plain JSON values."""
    return msgspec.json.decode(write_query(question))


def check_saved(question: MetricQuestion, metrics: Metrics, now: datetime) -> None:
    """Whether a question can be asked of these metrics, as it is to be saved or as it was.

    Raises:
        BadInput: names the field, the limit and the remedy.
    """
    check_asked(question, metrics)
    start, end = question.span(now)
    checked_interval(question.interval, start, end)
