"""What the bearer of a share link sees: its one object, by fields that can narrow it and not widen it."""

from __future__ import annotations

from datetime import datetime
from typing import Any, cast

import strawberry
from strawberry import Info

from core.permissions import Permission
from resolvers.context import Context
from resolvers.questions import warnings_of_question
from resolvers.shared import SharedQuestion as SharedQuestionRow
from resolvers.shared import answer_shared, shared_object, shared_question
from schema.guarded import guarded, shown_to
from schema.metrics import Breakdown, Filter, MetricSeries, QueryWarning, TimeRange, breakdown_of, narrowing_of

NARROWING = (
    "`range` must lie within the question's own or one of `ranges`; `filters` are further conditions, on "
    "`filterDimensions` alone."
)


@strawberry.interface(description="What a share link shows, of whatever kind.")
class SharedObject:
    @strawberry.field(description="Its name.")
    def name(self) -> str:
        raise NotImplementedError

    @strawberry.field(description="What it is for; may be empty.")
    def description(self) -> str:
        raise NotImplementedError

    @strawberry.field(description="When the link ends.")
    def expires_at(self) -> datetime:
        raise NotImplementedError


@shown_to(Permission.SHARED_READ)
@strawberry.type(description="A saved question as its share link shows it.")
class SharedQuestion(SharedObject):
    @strawberry.field(description="Its name.")
    def name(self) -> str:
        return _row(self).question.draft.name

    @strawberry.field(description="What it is for; may be empty.")
    def description(self) -> str:
        return _row(self).question.draft.description

    @strawberry.field(description="When the link ends.")
    def expires_at(self) -> datetime:
        return _row(self).grant.expires_at

    @strawberry.field(description="The metric's key.")
    def metric(self) -> str:
        return _row(self).metric.metric

    @strawberry.field(description="Dimensions it is grouped by.")
    def group_by(self) -> list[str]:
        return list(_row(self).metric.group_by)

    @strawberry.field(description='Ranges that may be asked beside its own, such as "24h".')
    def ranges(self) -> list[str]:
        return list(_row(self).grant.terms.ranges)

    @strawberry.field(description="Dimensions that `filters` may name.")
    def filter_dimensions(self) -> list[str]:
        dimensions = _row(self).grant.terms.filter_dimensions
        return list(_row(self).metric.group_by if dimensions is None else dimensions)

    @strawberry.field(description="Why it can no longer be asked, if so.")
    async def warnings(self, info: Info[Context, None]) -> list[QueryWarning]:
        found = await warnings_of_question(info.context, _row(self).question)
        return [QueryWarning(code=w.code, message=w.message) for w in found]

    @guarded(Permission.SHARED_READ, f"Its answer over time. {NARROWING}", cost=10)
    async def series(
        self, info: Info[Context, None], range: TimeRange | None = None, filters: list[Filter] | None = None
    ) -> MetricSeries:
        return cast(MetricSeries, await answer_shared(info.context, _row(self), *narrowing_of(range, filters)))

    @guarded(Permission.SHARED_READ, f"Its answer by dimension, ranked. {NARROWING}", cost=10)
    async def breakdown(
        self, info: Info[Context, None], range: TimeRange | None = None, filters: list[Filter] | None = None
    ) -> Breakdown:
        return breakdown_of(await answer_shared(info.context, _row(self), *narrowing_of(range, filters), is_whole=True))

    @classmethod
    def is_type_of(cls, obj: object, info: object) -> bool:
        return isinstance(obj, SharedQuestionRow)


async def resolve_shared_object(info: Info[Context, None]) -> Any:
    """What the link shows."""
    return await shared_object(info.context)


async def resolve_shared_question(info: Info[Context, None]) -> Any:
    """What the link shows, if it is a question."""
    return await shared_question(info.context)


def _row(shared: object) -> SharedQuestionRow:
    return cast(SharedQuestionRow, shared)
