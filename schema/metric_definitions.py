"""Metrics as they are defined: built in, and the tenant's own with their versions."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any, cast

import strawberry
from strawberry import Info

from core.filters import EventFilter
from core.metric_checks import Definition
from core.metric_definitions import EventAggregate
from core.metric_store import MetricChanges, MetricDraft, MetricEditConflict
from core.metrics import MetricKind
from core.permissions import Permission
from resolvers.context import Context
from resolvers.global_ids import global_id
from resolvers.metrics import (
    KIND,
    MetricRow,
    archive_metric,
    create_metric,
    shown_record,
    unarchive_metric,
    update_metric,
    versions_of,
)
from schema.described import enum_of
from schema.guarded import guarded, mutation, shown_to
from schema.metrics import EventSelection, FilterOpType, MetricKindType
from schema.node import Node
from schema.refusals import Error, ErrorCode


class MetricState(StrEnum):
    """How far the counting of a metric's version is."""

    BACKFILLING = "BACKFILLING"
    READY = "READY"


MetricStateType = enum_of(
    MetricState,
    "How far a metric's version is.",
    BACKFILLING="New events count as they come, earlier ones are being counted; raw events answer meanwhile.",
    READY="All events are counted.",
)


@shown_to(Permission.METRICS_READ)
@strawberry.type(description="One condition on events.")
class EventCondition:
    dimension: str = strawberry.field(description="A dimension of events, or a property by its path.")
    op: FilterOpType = strawberry.field(description="How it is compared.")  # type: ignore[valid-type]
    values: list[str] = strawberry.field(description="With what.")


@shown_to(Permission.METRICS_READ)
@strawberry.type(description="Which events count.")
class SelectedEvents:
    types: list[str] | None = strawberry.field(description="Of these types; null: of all.")
    conditions: list[EventCondition] = strawberry.field(description="All of which must hold.")


@shown_to(Permission.METRICS_READ)
@strawberry.type(name="MetricDefinition", description="What a version of a metric counts.")
class MetricDefinitionType:
    """`core.metric_checks.Definition` is what a field of this type resolves to."""

    kind: MetricKindType = strawberry.field(description="How its value is made.")  # type: ignore[valid-type]
    formula: str | None = strawberry.field(description="Of a FORMULA; null of others.")

    @strawberry.field(description="Which events count; null of a formula.")
    def filter(self) -> SelectedEvents | None:
        aggregate = _counted(self).aggregate
        return None if aggregate is None else cast(SelectedEvents, aggregate.filter)

    @strawberry.field(description="What of the events is taken; null where they are counted.")
    def property(self) -> str | None:
        return _aggregate(self).property

    @strawberry.field(description="Of a RATIO, which of these events are above the line; null of others.")
    def matching(self) -> SelectedEvents | None:
        return cast("SelectedEvents | None", _aggregate(self).matching)

    @strawberry.field(description="Of a RATE, in how many seconds; null of others.")
    def rate_seconds(self) -> int | None:
        return _aggregate(self).rate_seconds if _counted(self).kind is MetricKind.RATE else None

    @strawberry.field(description="What rollups are kept by, each alone.")
    def dimensions(self) -> list[str]:
        return list(_aggregate(self).dimensions)

    @strawberry.field(description="Which of them rollups are kept by together.")
    def combinations(self) -> list[list[str]]:
        return [list(combination) for combination in _aggregate(self).combinations]


@shown_to(Permission.METRICS_READ)
@strawberry.type(name="MetricVersion", description="A version of a metric; it never changes.")
class MetricVersionType:
    version: int = strawberry.field(description="From 1 on.")
    definition: MetricDefinitionType = strawberry.field(description="What it counts.")
    created_at: datetime = strawberry.field(description="When it was made.")
    created_by: str = strawberry.field(description="By whom, as the audit trail names it.")


@shown_to(Permission.METRICS_READ)
@strawberry.type(description="A metric's definition: one, for chart, stream and alert.")
class Metric(Node):
    @strawberry.field(description="Global id.")
    def id(self) -> strawberry.ID:
        return strawberry.ID(global_id(KIND, _row(self).local_id))

    key: str = strawberry.field(description="What `MetricQuery.metric` takes; it never changes.")

    @strawberry.field(description="Raised when what it counts changes.")
    def version(self) -> int:
        return _row(self).definition.version

    @strawberry.field(description="How its value is made.")
    def kind(self) -> MetricKindType:  # type: ignore[valid-type]
        return _row(self).definition.kind

    @strawberry.field(description="Of its values.")
    def unit(self) -> str:
        return _row(self).definition.unit

    @strawberry.field(description="What it counts, in words.")
    def description(self) -> str:
        return _row(self).definition.description

    @strawberry.field(description="What it may be grouped and filtered by; of a formula, what its metrics have in "
                      "common.")  # fmt: skip
    def dimensions(self) -> list[str]:
        return list(_row(self).definition.dimensions)

    @strawberry.field(description="Whether every tenant has it, and nobody may change it.")
    def is_built_in(self) -> bool:
        return _row(self).record is None

    @strawberry.field(description="What its present version counts; null where it is built in.")
    def definition(self) -> MetricDefinitionType | None:
        record = _row(self).record
        return None if record is None else cast(MetricDefinitionType, record.counted)

    @strawberry.field(description="How far its present version is.")
    def state(self) -> MetricStateType:  # type: ignore[valid-type]
        defined = _row(self).definition.defined
        return MetricState.READY if defined is None or defined.is_ready else MetricState.BACKFILLING

    @strawberry.field(description="Which part of the earlier events its present version has counted, 0 to 1.")
    def progress(self) -> float:
        defined = _row(self).definition.defined
        return 1.0 if defined is None or defined.is_ready else defined.backfilled

    @guarded(Permission.METRICS_READ, "Its versions, newest first, at most 50; none where it is built in.", cost=5)
    async def versions(self, info: Info[Context, None]) -> list[MetricVersionType]:
        return cast("list[MetricVersionType]", await versions_of(info.context, _row(self)))

    @strawberry.field(description="Who answers for it, as the audit trail names it: person:… or key_….")
    def owner(self) -> str | None:
        return cast("str | None", _of_record(self, "owner"))

    @strawberry.field(description="Counts its edits; `updateMetric` takes the one that was edited.")
    def revision(self) -> int | None:
        return cast("int | None", _of_record(self, "revision"))

    @strawberry.field(description="When it was defined.")
    def created_at(self) -> datetime | None:
        return cast("datetime | None", _of_record(self, "created_at"))

    @strawberry.field(description="By whom, as the audit trail names it.")
    def created_by(self) -> str | None:
        return cast("str | None", _of_record(self, "created_by"))

    @strawberry.field(description="When it was last edited.")
    def updated_at(self) -> datetime | None:
        return cast("datetime | None", _of_record(self, "updated_at"))

    @strawberry.field(description="By whom, as the audit trail names it.")
    def updated_by(self) -> str | None:
        return cast("str | None", _of_record(self, "updated_by"))

    @strawberry.field(description="When it was archived: it is not counted, cannot be asked, and keeps its key.")
    def archived_at(self) -> datetime | None:
        return cast("datetime | None", _of_record(self, "archived_at"))

    @classmethod
    def is_type_of(cls, obj: object, info: object) -> bool:
        return isinstance(obj, MetricRow)


@strawberry.input(description="What a metric counts. `docs/metrics.md` draws each kind.")
class MetricDefinitionInput:
    kind: MetricKindType = strawberry.field(description="How its value is made.")  # type: ignore[valid-type]
    filter: EventSelection | None = strawberry.field(default=None, description="Which events; all when absent.")
    property: str | None = strawberry.field(
        default=None,
        description="What of them is taken: duration_ms, bytes or a property such as properties.amount for SUM, AVG, "
        "MIN, MAX, PERCENTILE and, if not events are counted, RATE; for UNIQUE visitor, session, a dimension or a "
        "property.",
    )
    matching: EventSelection | None = strawberry.field(
        default=None, description="Of a RATIO: which of these events are above the line."
    )
    rate_seconds: int | None = strawberry.field(default=None, description="Of a RATE: in how many seconds; 60.")
    dimensions: list[str] | None = strawberry.field(
        default=None, description="Up to 6 that it may be grouped and filtered by: of events, or properties."
    )
    combinations: list[list[str]] | None = strawberry.field(
        default=None, description="Up to 4 sets of these dimensions that are often asked for together."
    )
    formula: str | None = strawberry.field(
        default=None, description="Of a FORMULA, such as `orders / visitors * 100` or `p95(request_duration) / 1000`."
    )

    def to_domain(self) -> Definition:
        aggregate = EventAggregate(
            filter=EventFilter() if self.filter is None else self.filter.to_domain(),
            property=self.property,
            matching=None if self.matching is None else self.matching.to_domain(),
            rate_seconds=EventAggregate().rate_seconds if self.rate_seconds is None else self.rate_seconds,
            dimensions=tuple(self.dimensions or ()),
            combinations=tuple(tuple(combination) for combination in self.combinations or ()),
        )
        return Definition(MetricKind(self.kind), aggregate, self.formula)


@strawberry.input(description="A metric to define.")
class CreateMetricInput:
    key: str = strawberry.field(description="1 to 63 of a-z, 0-9 and _, a letter first; it never changes.")
    definition: MetricDefinitionInput = strawberry.field(description="What it counts.")
    unit: str | None = strawberry.field(
        default=None, description="Up to 32 characters, such as EUR; what fits the definition when absent."
    )
    description: str = strawberry.field(default="", description="Up to 2,000 characters.")
    owner: strawberry.ID | None = strawberry.field(
        default=None, description="A member's global id; whoever defines it when absent."
    )

    def to_domain(self) -> MetricDraft:
        return MetricDraft(
            key=self.key,
            definition=self.definition.to_domain(),
            unit=self.unit,
            description=self.description,
            owner=self.owner,
        )


@strawberry.input(description="An edit. What is left out, or null, stays as it is.")
class UpdateMetricInput:
    id: strawberry.ID = strawberry.field(description="Its global id.")
    revision: int = strawberry.field(description="The revision that was edited.")
    definition: MetricDefinitionInput | None = strawberry.field(
        default=None, description="What it counts from now on, whole: a new version, for which all events are counted."
    )
    unit: str | None = strawberry.field(default=None, description="Up to 32 characters.")
    description: str | None = strawberry.field(default=None, description="Up to 2,000 characters.")
    owner: strawberry.ID | None = strawberry.field(default=None, description="A member's global id.")

    def to_domain(self) -> MetricChanges:
        definition = None if self.definition is None else self.definition.to_domain()
        return MetricChanges(definition=definition, unit=self.unit, description=self.description, owner=self.owner)


@strawberry.input(description="Which metric to archive.")
class ArchiveMetricInput:
    id: strawberry.ID = strawberry.field(description="Its global id.")


@strawberry.input(description="Which archived metric to count again.")
class UnarchiveMetricInput:
    id: strawberry.ID = strawberry.field(description="Its global id.")


@strawberry.type(description="It is defined: it may be asked at once, and its rollups follow.")
class CreateMetricPayload:
    metric: Metric = strawberry.field(description="As it is defined.")


@strawberry.type(description="It is changed, or was so already.")
class UpdateMetricPayload:
    metric: Metric = strawberry.field(description="As it is now.")


@strawberry.type(description="It is archived, or was so already.")
class ArchiveMetricPayload:
    metric: Metric = strawberry.field(description="With the time of its archiving.")


@strawberry.type(description="It is counted again, as a new version of the same definition.")
class UnarchiveMetricPayload:
    metric: Metric = strawberry.field(description="As it is now.")


@strawberry.type(description="Somebody else has edited it since: both, to be put together and sent again.")
class MetricConflict(Error):
    theirs: Metric = strawberry.field(description="The metric as it is now.")
    changed_fields: list[str] = strawberry.field(description="Fields of the edit that differ from the metric now.")


async def resolve_create_metric(info: Info[Context, None], input: CreateMetricInput) -> CreateMetricPayload:
    """Defines a metric."""
    return CreateMetricPayload(metric=_metric(await create_metric(info.context, input.to_domain())))


async def resolve_update_metric(info: Info[Context, None], input: UpdateMetricInput) -> Any:
    """Edits a metric."""
    try:
        made = await update_metric(info.context, input.id, input.revision, input.to_domain())
    except MetricEditConflict as conflict:
        return MetricConflict(
            code=ErrorCode.CONFLICT,
            message=conflict.message,
            path=["input", "revision"],
            theirs=_metric(await shown_record(info.context, conflict.theirs)),
            changed_fields=list(conflict.changed),
        )
    return UpdateMetricPayload(metric=_metric(made))


async def resolve_archive_metric(info: Info[Context, None], input: ArchiveMetricInput) -> ArchiveMetricPayload:
    """Archives a metric."""
    return ArchiveMetricPayload(metric=_metric(await archive_metric(info.context, input.id)))


async def resolve_unarchive_metric(info: Info[Context, None], input: UnarchiveMetricInput) -> UnarchiveMetricPayload:
    """Counts an archived metric again."""
    return UnarchiveMetricPayload(metric=_metric(await unarchive_metric(info.context, input.id)))


@strawberry.type
class MetricMutations:
    create_metric = mutation(
        Permission.METRICS_WRITE,
        resolve_create_metric,
        CreateMetricPayload,
        "Defines a metric: it can be asked at once, and counts all events, those that came before too.",
    )
    update_metric = mutation(
        Permission.METRICS_WRITE,
        resolve_update_metric,
        UpdateMetricPayload,
        "Edits a metric; with another definition it gets a new version.",
        also=(MetricConflict,),
    )
    archive_metric = mutation(
        Permission.METRICS_WRITE,
        resolve_archive_metric,
        ArchiveMetricPayload,
        "Archives a metric: it is not counted and cannot be asked any more.",
    )
    unarchive_metric = mutation(
        Permission.METRICS_WRITE,
        resolve_unarchive_metric,
        UnarchiveMetricPayload,
        "Counts an archived metric again, with what came meanwhile.",
    )


def _metric(row: MetricRow) -> Metric:
    return cast(Metric, row)


def _row(metric: object) -> MetricRow:
    return cast(MetricRow, metric)


def _of_record(metric: object, name: str) -> Any:
    record = cast(MetricRow, metric).record
    return None if record is None else getattr(record, name)


def _counted(form: object) -> Definition:
    return cast(Definition, form)


def _aggregate(form: object) -> EventAggregate:
    return cast(Definition, form).aggregate or EventAggregate()
