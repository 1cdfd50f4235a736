"""A question about a metric, as data; checked here, answered elsewhere."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import islice
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from core.errors import BadInput
from core.filters import NUMERIC_OPS, PROPERTY_PREFIX, DimensionFilter, FilterOp
from core.metric_definitions import EventAggregate
from core.metrics import MetricDefinition, MetricKind

NUMERIC_DIMENSIONS = frozenset({"status"})
MAX_GROUP_BY = 6
MAX_LIMIT = 100
DEFAULT_LIMIT = 10
MAX_FILTERS = 20
MAX_FILTER_VALUES = 100
MAX_VALUE_LENGTH = 1024
MAX_PERCENTILES = 10
MAX_METRICS = 10
# How many names a message lists.
MAX_NAMED = 30
DEFAULT_PERCENTILES = (50.0, 95.0, 99.0)
# Files that lie among the zones of some systems, and mean another place on each.
LOCAL_ZONES = frozenset({"localtime", "posixrules", "Factory"})
_LAST = re.compile(r"([1-9][0-9]{0,4})(m|h|d|w)")
_UNITS = {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}


class Interval(StrEnum):
    """Length of a bucket."""

    AUTO = "AUTO"
    MINUTE = "MINUTE"
    FIVE_MINUTES = "FIVE_MINUTES"
    HOUR = "HOUR"
    DAY = "DAY"
    WEEK = "WEEK"
    MONTH = "MONTH"


class Comparison(StrEnum):
    """What an answer is set beside."""

    PREVIOUS_PERIOD = "PREVIOUS_PERIOD"
    PREVIOUS_YEAR = "PREVIOUS_YEAR"


class Alignment(StrEnum):
    """What of the earlier time stands beside a day: the same date, or the same day of the week."""

    DATE = "DATE"
    WEEKDAY = "WEEKDAY"


@dataclass(frozen=True, slots=True)
class AdHocAggregate:
    """What is counted where no metric is named: from raw events, by their dimensions."""

    kind: MetricKind
    of: EventAggregate


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricQuestion:
    """What is asked: `metric`, or `metrics`, several at once, or an `aggregate`. Either `last` ("24h") or `from_` and
    `to` (exclusive). `is_whole` asks for the range as one bucket, as a ranking needs it; `groups` for these as
    lines of their own, and no others; `min_last_bucket` leaves the last bucket out while less of it has passed."""

    metric: str = ""
    metrics: tuple[str, ...] = ()
    aggregate: AdHocAggregate | None = None
    last: str | None = None
    from_: datetime | None = None
    to: datetime | None = None
    interval: Interval = Interval.AUTO
    timezone: str = "UTC"
    filters: tuple[DimensionFilter, ...] = ()
    group_by: tuple[str, ...] = ()
    limit: int = DEFAULT_LIMIT
    include_bots: bool = False
    percentiles: tuple[float, ...] = DEFAULT_PERCENTILES
    compare_to: Comparison | None = None
    alignment: Alignment = Alignment.DATE
    min_last_bucket: float = 0.0
    is_whole: bool = False
    groups: tuple[tuple[str, ...], ...] | None = None

    def zone(self) -> ZoneInfo:
        """The time zone.

        Raises:
            BadInput: not an IANA name.
        """
        try:
            if self.timezone in LOCAL_ZONES:
                raise ZoneInfoNotFoundError(self.timezone)
            return ZoneInfo(self.timezone)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise bad(
                "unknown_timezone",
                "timezone",
                f"There is no time zone {self.timezone[:80]!r}; use an IANA name such as Europe/Berlin or UTC.",
            ) from None

    def span(self, now: datetime) -> tuple[datetime, datetime]:
        """From when to when, before widening to whole buckets.

        Raises:
            BadInput: neither form, both, or reversed.
        """
        if self.last is not None and self.from_ is None and self.to is None:
            found = _LAST.fullmatch(self.last)
            if not found:
                raise bad("bad_range", "range.last", "range.last must be a number and m, h, d or w, such as 24h or 7d.")
            return now - int(found[1]) * _UNITS[found[2]], now
        if self.last is not None or self.from_ is None or self.to is None:
            raise bad("bad_range", "range", 'range must be {last: "24h"}, or {from, to}, and not both.')
        for name, moment in (("from", self.from_), ("to", self.to)):
            if moment.tzinfo is None or not 2000 <= moment.year <= 2200:
                raise bad("bad_range", f"range.{name}", f"range.{name} must have a zone and lie in 2000 to 2200.")
        if self.from_ >= self.to:
            raise bad("bad_range", "range", "range.from must be before range.to, which is exclusive.")
        return self.from_, self.to


def bad(code: str, field: str, message: str) -> BadInput:
    return BadInput(message, code=code, field=field)


def one_of(names: Iterable[str]) -> str:
    """Names for a message, not too many of them."""
    some = list(islice(names, MAX_NAMED + 1))
    return "there are " + ", ".join(some[:MAX_NAMED]) + (" and more" if len(some) > MAX_NAMED else "")


def check_question(question: MetricQuestion, definition: MetricDefinition) -> None:
    """Everything about a question to this metric that needs no clock and no data.

    Raises:
        BadInput: names the field, the limit and the remedy.
    """
    question.zone()
    if not 1 <= question.limit <= MAX_LIMIT:
        raise bad("bad_limit", "limit", f"limit must be 1 to {MAX_LIMIT}, not {question.limit}.")
    if len(question.group_by) > MAX_GROUP_BY or len(set(question.group_by)) != len(question.group_by):
        raise bad("bad_group_by", "groupBy", f"groupBy takes up to {MAX_GROUP_BY} dimensions, each once.")
    for dimension in question.group_by:
        _check_dimension(definition, dimension, "groupBy")
    if len(question.filters) > MAX_FILTERS:
        raise bad("too_many_filters", "filters", f"filters has {len(question.filters)}; at most {MAX_FILTERS}.")
    for condition in question.filters:
        _check_filter(definition, condition)
    if definition.kind is MetricKind.PERCENTILE and not (
        1 <= len(set(question.percentiles)) == len(question.percentiles) <= MAX_PERCENTILES
        and all(0 < p < 100 for p in question.percentiles)
    ):
        raise bad("bad_percentiles", "percentiles", f"percentiles takes 1 to {MAX_PERCENTILES} between 0 and 100.")


def check_composed(question: MetricQuestion) -> None:
    """What a question puts together of others.

    Raises:
        BadInput: names the field, the limit and the remedy.
    """
    if not 0 <= question.min_last_bucket <= 1:
        raise bad("bad_threshold", "minLastBucket", "minLastBucket is a part of a bucket: 0 to 1.")


def _check_dimension(definition: MetricDefinition, dimension: str, field: str) -> None:
    if dimension.startswith(PROPERTY_PREFIX) and dimension not in definition.dimensions:
        raise bad(
            "free_text_dimension",
            field,
            f"{dimension[:80]} may hold any text, and {definition.key} does not keep it. Define a metric that has it "
            "among its `dimensions`, which keeps up to 1,000 values an hour, or filter by it in `aggregate.filter`.",
        )
    if dimension not in definition.dimensions:
        raise bad(
            "unknown_dimension",
            field,
            f"{definition.key} has no dimension {dimension[:80]!r}; {one_of(definition.dimensions)}.",
        )


def _check_filter(definition: MetricDefinition, condition: DimensionFilter) -> None:
    _check_dimension(definition, condition.dimension, "filters.dimension")
    count = len(condition.values)
    takes_many = condition.op in (FilterOp.IN, FilterOp.NOT_IN)
    if not 1 <= count <= (MAX_FILTER_VALUES if takes_many else 1):
        wanted = f"1 to {MAX_FILTER_VALUES} values" if takes_many else "exactly one value"
        raise bad("bad_filter", "filters.values", f"{condition.op} takes {wanted}, not {count}.")
    if any(len(value) > MAX_VALUE_LENGTH or "\0" in value for value in condition.values):
        raise bad("bad_filter", "filters.values", f"A value has at most {MAX_VALUE_LENGTH} characters and no NUL.")
    is_number = condition.dimension in NUMERIC_DIMENSIONS and re.fullmatch(r"[0-9]{1,9}", condition.values[0])
    if condition.op in NUMERIC_OPS and not is_number:
        raise bad("bad_filter", "filters", f"{condition.op} compares numbers: dimension status, a whole number.")
