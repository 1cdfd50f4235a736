"""Where saved questions come from, and how they are asked: by the same engine as any other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from core.access import AccessList, Grant, Level, grantees_of, level_of
from core.database import Database
from core.errors import BadInput
from core.questions import FIND_MANY, MAX_TAG_LENGTH, Draft, Question, Questions, Wanted, check_text, question_of
from core.tenancy import TenantId
from query.answer import Answer, QueryWarning
from query.definitions import Metrics, metrics_for
from query.narrowing import Range
from query.question import MetricQuestion
from query.saved import as_json, check_saved, read_query, write_query
from resolvers.context import Context
from resolvers.global_ids import missing, uuid_of
from resolvers.pages import Page, asked
from resolvers.series import answer_series

KIND = "SavedQuestion"
MAX_SEARCH_LENGTH = 200


@dataclass(frozen=True, slots=True)
class LoadQuestions:
    """Loads many for those who speak for these grantees; equal ones are one loader of an operation."""

    grantees: tuple[str, ...]

    async def __call__(self, database: Database, tenant_id: TenantId, ids: Sequence[UUID]) -> Sequence[Question | None]:
        async with database.as_tenant(tenant_id, grantees=self.grantees) as session:
            rows = await session.fetch(FIND_MANY, list(ids))
        found = {question.id: question for question in map(question_of, rows)}
        return [found.get(id) for id in ids]


async def load_question(context: Context, id: UUID) -> Question | None:
    """One that the caller may see and that is not deleted."""
    return await context.loaders.of(LoadQuestions(grantees_of(context.principal))).load(id)


async def find_question(context: Context, id: str) -> Question:
    """One by its global id.

    Raises:
        NotFound: there is none that the caller may see.
    """
    found = await load_question(context, uuid_of(id, KIND))
    if found is None:
        raise missing(KIND)
    return found


async def list_questions(context: Context, wanted: Wanted, first: int | None, after: str | None) -> Page[Question]:
    """A page of those that the caller may see, newest first.

    Raises:
        BadInput: `first`, `after`, `search` or `tag` cannot be used.
    """
    check_text(wanted.search or "", MAX_SEARCH_LENGTH, "search")
    check_text(wanted.tag or "", MAX_TAG_LENGTH, "tag")
    page = asked(context, KIND, first, after)
    questions = questions_of(context)
    rows = await questions.page(wanted, page.rows, _start(page.place) if page.place is not None else None)

    async def count() -> int:
        return await questions.count(wanted)

    return page.page(rows, lambda row: f"{row.created_at.isoformat()}|{row.id}", count)


def questions_of(context: Context) -> Questions:
    """The caller's way to its tenant's questions."""
    return Questions(context.backends.database, context.principal, context.request_id)


def level_for(context: Context, access: AccessList) -> Level:
    """How much the caller may do with an object that it sees."""
    return level_of(grantees_of(context.principal), access) or Level.VIEW


async def metrics_of(context: Context, question: MetricQuestion) -> Metrics:
    """The metrics among which that of a question is. Raises DatabaseUnavailable."""
    return await metrics_for(context.backends.metrics, context.principal.tenant.id, [question])


async def query_of(context: Context, question: Question) -> MetricQuestion:
    """What is asked, as the engine takes it.

    Raises:
        BadInput: it can no longer be asked in this version; says why.
    """
    metric = read_query(question.draft.query)
    check_saved(metric, await metrics_of(context, metric), datetime.now(UTC))
    return metric


def shown_query(question: Question) -> Any:
    """What is asked, as the API takes it; as it is stored where this version cannot read it."""
    try:
        return as_json(read_query(question.draft.query))
    except BadInput:
        return question.draft.stored_query


async def warnings_of_question(context: Context, question: Question) -> list[QueryWarning]:
    """Why it can no longer be asked, if so."""
    try:
        await query_of(context, question)
    except BadInput as error:
        message = f"This question was saved when it could be asked, and cannot any more: {error.message} Edit it."
        return [QueryWarning("query_no_longer_fits", message)]
    return []


async def answer_question(context: Context, question: Question, range: Range, *, is_whole: bool = False) -> Answer:
    """Its answer, over its own range or another; `is_whole`: the range as one bucket.

    Raises:
        BadInput: it can no longer be asked, or not over this range.
    """
    metric = range.of(await query_of(context, question))
    return await answer_series(context, replace(metric, is_whole=is_whole))


async def create_question(
    context: Context, name: str, description: str, metric: MetricQuestion, tags: Sequence[str], grants: Sequence[Grant]
) -> Question:
    """A new one, the caller's own. Raises BadInput, PermissionDenied."""
    draft = Draft(name, description, await _written(context, metric), tuple(tags))
    return await questions_of(context).create(draft, grants)


async def update_question(
    context: Context, id: str, revision: int, metric: MetricQuestion | None, texts: dict[str, Any]
) -> Question:
    """An edit of the fields that are given. Raises BadInput, NotFound, PermissionDenied, EditConflict."""
    changes = {name: value for name, value in texts.items() if value is not None}
    if metric is not None:
        changes["query"] = await _written(context, metric)
    return await questions_of(context).update(uuid_of(id, KIND), revision, changes)


async def set_question_access(context: Context, id: str, access_revision: int, grants: Sequence[Grant]) -> Question:
    """Another access list. Raises BadInput, NotFound, PermissionDenied, Conflict."""
    return await questions_of(context).set_access(uuid_of(id, KIND), access_revision, grants)


async def delete_question(context: Context, id: str) -> Question:
    """Deletes one. Raises NotFound, PermissionDenied."""
    return await questions_of(context).delete(uuid_of(id, KIND))


async def restore_question(context: Context, id: str) -> Question:
    """Takes that back. Raises NotFound, PermissionDenied."""
    return await questions_of(context).restore(uuid_of(id, KIND))


async def _written(context: Context, metric: MetricQuestion) -> str:
    try:
        check_saved(metric, await metrics_of(context, metric), datetime.now(UTC))
    except BadInput as error:
        raise BadInput(error.message, code=error.code, field=f"query.{error.field or ''}".rstrip(".")) from None
    return write_query(metric)


def _start(place: str) -> tuple[datetime, UUID]:
    stamp, _, id = place.partition("|")
    return datetime.fromisoformat(stamp), UUID(id)
