"""Where share links come from, for those who manage what they show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from uuid import UUID

from core.access import grantees_of
from core.database import Database
from core.errors import BadInput
from core.filters import DimensionFilter, FilterOp
from core.questions import KIND as QUESTION
from core.questions import Question
from core.shares import (
    SHARED_KINDS,
    MadeLink,
    ShareLink,
    Terms,
    create_link,
    find_links,
    links_of_objects,
    revoke_link,
)
from core.tenancy import TenantId
from query.definitions import Metrics, check_asked
from query.narrowing import Range
from query.question import MetricQuestion
from query.saved import check_saved, write_filters
from resolvers.context import Context
from resolvers.global_ids import missing, parse_global_id, uuid_of
from resolvers.questions import load_question, metrics_of, query_of

KIND = "ShareLink"
MAX_RANGES = 20
MAX_DIMENSIONS = 20


@dataclass(frozen=True, slots=True)
class Asked:
    """What is asked of a new link."""

    object_id: str
    name: str
    expires_at: datetime | None
    locked: tuple[DimensionFilter, ...]
    terms: Terms


@dataclass(frozen=True, slots=True)
class LoadLinksOf:
    """Loads the links of many objects of a kind, newest first."""

    grantees: tuple[str, ...]
    object_kind: str

    async def __call__(
        self, database: Database, tenant_id: TenantId, ids: Sequence[UUID]
    ) -> Sequence[list[ShareLink] | None]:
        found = await links_of_objects(database, tenant_id, self.grantees, self.object_kind, ids)
        return [found.get(id, []) for id in ids]


@dataclass(frozen=True, slots=True)
class LoadLinks:
    """Loads links by their ids."""

    grantees: tuple[str, ...]

    async def __call__(
        self, database: Database, tenant_id: TenantId, ids: Sequence[UUID]
    ) -> Sequence[ShareLink | None]:
        found = await find_links(database, tenant_id, self.grantees, ids)
        return [found.get(id) for id in ids]


async def links_of_question(context: Context, question: Question) -> list[ShareLink]:
    """A question's links; none for who does not manage it."""
    load = LoadLinksOf(grantees_of(context.principal), QUESTION)
    return await context.loaders.of(load).load(question.id) or []


async def load_link(context: Context, id: UUID) -> ShareLink | None:
    """One of an object that the caller manages."""
    return await context.loaders.of(LoadLinks(grantees_of(context.principal))).load(id)


async def create_share_link(context: Context, asked: Asked) -> MadeLink:
    """A new link.

    Raises:
        BadInput, NotFound, PermissionDenied.
    """
    question = await _shared_question(context, asked.object_id)
    terms = replace(asked.terms, locked_filters=write_filters(asked.locked))
    metric = await query_of(context, question)
    check_terms(metric, await metrics_of(context, metric), asked.locked, terms)
    return await create_link(
        context.backends.database,
        context.principal,
        context.request_id,
        QUESTION,
        question.id,
        name=asked.name,
        terms=terms,
        expires_at=asked.expires_at,
    )


async def revoke_share_link(context: Context, id: str) -> ShareLink:
    """Ends a link. Raises NotFound, PermissionDenied."""
    return await revoke_link(context.backends.database, context.principal, context.request_id, uuid_of(id, KIND))


def check_terms(metric: MetricQuestion, metrics: Metrics, locked: Sequence[DimensionFilter], terms: Terms) -> None:
    """Refuses conditions, ranges and dimensions with which nobody could ask the question.

    Raises:
        BadInput: names the field.
    """
    if len(terms.ranges) > MAX_RANGES or len(terms.filter_dimensions or ()) > MAX_DIMENSIONS:
        raise BadInput(f"ranges and filterDimensions have at most {MAX_RANGES} entries.", field="ranges")
    now = datetime.now(UTC)
    try:
        check_asked(replace(metric, filters=(*metric.filters, *locked)), metrics)
    except BadInput as error:
        raise BadInput(error.message, code=error.code, field="lockedFilters") from None
    try:
        for last in terms.ranges:
            check_saved(Range(last=last).of(metric), metrics, now)
    except BadInput as error:
        raise BadInput(error.message, code=error.code, field="ranges") from None
    try:
        some = tuple(DimensionFilter(name, FilterOp.EQ, ("1",)) for name in terms.filter_dimensions or ())
        check_asked(replace(metric, filters=some), metrics)
    except BadInput as error:
        raise BadInput(error.message, code=error.code, field="filterDimensions") from None


async def _shared_question(context: Context, object_id: str) -> Question:
    name, _ = parse_global_id(object_id)
    if name not in {kind for kind, _ in SHARED_KINDS.values()}:
        raise missing("object", field="objectId")
    question = await load_question(context, uuid_of(object_id, name, field="objectId"))
    if question is None:
        raise missing(name, field="objectId")
    return question
