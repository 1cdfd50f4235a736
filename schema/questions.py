"""Saved questions: named, described, tagged, with an access list, asked like any other."""

from __future__ import annotations

from datetime import datetime
from typing import Any, cast

import strawberry
from strawberry import Info

from core.access import Level
from core.permissions import Permission
from core.questions import EditConflict, Question, Wanted
from query.narrowing import Range
from query.saved import as_json
from resolvers.context import Context
from resolvers.global_ids import global_id
from resolvers.questions import (
    KIND,
    answer_question,
    create_question,
    delete_question,
    level_for,
    restore_question,
    set_question_access,
    shown_query,
    update_question,
    warnings_of_question,
)
from resolvers.shares import links_of_question
from schema.access import AccessEntry, AccessEntryInput, AccessLevelType, InitialAccess, entries_of
from schema.guarded import guarded, mutation, shown_to
from schema.metrics import Breakdown, MetricQuery, MetricSeries, QueryWarning, TimeRange, breakdown_of
from schema.node import Node
from schema.refusals import Error, ErrorCode
from schema.scalars import JSONValue
from schema.shares import ShareLink

OWN_RANGE = "The question's own range when none is given."


@shown_to(Permission.QUESTIONS_READ)
@strawberry.type(description="A saved question: a `MetricQuery` with a name, an owner and an access list.")
class SavedQuestion(Node):
    @strawberry.field(description="Global id.")
    def id(self) -> strawberry.ID:
        return strawberry.ID(global_id(KIND, str(_row(self).id)))

    @strawberry.field(description="Its name.")
    def name(self) -> str:
        return _row(self).draft.name

    @strawberry.field(description="What it is for; may be empty.")
    def description(self) -> str:
        return _row(self).draft.description

    @strawberry.field(description="What is asked, as `MetricQuery` takes it.")
    def query(self) -> JSONValue:
        return JSONValue(shown_query(_row(self)))

    @strawberry.field(description="Its tags.")
    def tags(self) -> list[str]:
        return list(_row(self).draft.tags)

    @strawberry.field(description="Who made it and always manages it, as the audit trail names it: person:… or key_….")
    def owner(self) -> str:
        return _row(self).access.owner

    @strawberry.field(description="How much the caller may do with it, as far as its role goes.")
    def my_level(self, info: Info[Context, None]) -> AccessLevelType:  # type: ignore[valid-type]
        return level_for(info.context, _row(self).access)

    @strawberry.field(description="Who else may do what with it; null for who does not manage it.")
    def access(self, info: Info[Context, None]) -> list[AccessEntry] | None:
        access = _row(self).access
        return entries_of(access) if level_for(info.context, access) is Level.MANAGE else None

    revision: int = strawberry.field(description="Counts its edits; `updateQuestion` takes the one that was edited.")
    access_revision: int = strawberry.field(description="The same of its access list, for `setQuestionAccess`.")
    created_at: datetime = strawberry.field(description="When it was made.")
    created_by: str = strawberry.field(description="By whom, as the audit trail names it.")
    updated_at: datetime = strawberry.field(description="When it was last edited.")
    updated_by: str = strawberry.field(description="By whom, as the audit trail names it.")
    deleted_at: datetime | None = strawberry.field(description="When it was deleted; it is kept 30 days from then.")

    @strawberry.field(description="Why it can no longer be asked, if so: what it names may be gone.")
    async def warnings(self, info: Info[Context, None]) -> list[QueryWarning]:
        found = await warnings_of_question(info.context, _row(self))
        return [QueryWarning(code=w.code, message=w.message) for w in found]

    @guarded(Permission.METRICS_READ, f"Its answer over time. {OWN_RANGE}", cost=10)
    async def series(self, info: Info[Context, None], range: TimeRange | None = None) -> MetricSeries:
        return cast(MetricSeries, await answer_question(info.context, _row(self), _range(range)))

    @guarded(Permission.METRICS_READ, f"Its answer by dimension, ranked. {OWN_RANGE}", cost=10)
    async def breakdown(self, info: Info[Context, None], range: TimeRange | None = None) -> Breakdown:
        return breakdown_of(await answer_question(info.context, _row(self), _range(range), is_whole=True))

    @guarded(Permission.SHARES_WRITE, "Its share links, newest first, ended ones too, at most 100; empty for who does "
             "not manage it.")  # fmt: skip
    async def share_links(self, info: Info[Context, None]) -> list[ShareLink]:
        return cast("list[ShareLink]", await links_of_question(info.context, _row(self)))

    @classmethod
    def is_type_of(cls, obj: object, info: object) -> bool:
        return isinstance(obj, Question)


@strawberry.input(description="A question to save.")
class CreateQuestionInput:
    name: str = strawberry.field(description="1 to 200 characters.")
    query: MetricQuery = strawberry.field(description="What it asks; refused if it could not be asked now.")
    description: str = strawberry.field(default="", description="Up to 2,000 characters.")
    tags: list[str] = strawberry.field(default_factory=list, description="Up to 20, each up to 50 characters.")
    access: InitialAccess = strawberry.field(
        default=InitialAccess.EVERYONE_VIEWS, description="Who sees it; `setQuestionAccess` says more."
    )


@strawberry.input(description="An edit. What is left out, or null, stays as it is.")
class UpdateQuestionInput:
    id: strawberry.ID = strawberry.field(description="Its global id.")
    revision: int = strawberry.field(description="The revision that was edited.")
    name: str | None = strawberry.field(default=None, description="1 to 200 characters.")
    query: MetricQuery | None = strawberry.field(default=None, description="What it asks.")
    description: str | None = strawberry.field(default=None, description="Up to 2,000 characters.")
    tags: list[str] | None = strawberry.field(default=None, description="All its tags.")

    def texts(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "description": self.description,
            "tags": tuple(self.tags) if self.tags is not None else None,
        }


@strawberry.input(description="Another access list, whole.")
class SetQuestionAccessInput:
    id: strawberry.ID = strawberry.field(description="Its global id.")
    access_revision: int = strawberry.field(description="The `accessRevision` that was edited.")
    access: list[AccessEntryInput] = strawberry.field(
        description="At most 100 lines. Its owner and the tenant's owners manage it whatever they say."
    )


@strawberry.input(description="Which question to delete.")
class DeleteQuestionInput:
    id: strawberry.ID = strawberry.field(description="Its global id.")


@strawberry.input(description="Which deleted question to restore.")
class RestoreQuestionInput:
    id: strawberry.ID = strawberry.field(description="Its global id.")


@strawberry.type(description="It is saved.")
class CreateQuestionPayload:
    question: SavedQuestion = strawberry.field(description="As it is saved.")


@strawberry.type(description="It is changed, or was so already.")
class UpdateQuestionPayload:
    question: SavedQuestion = strawberry.field(description="As it is now.")


@strawberry.type(description="Its access list is changed, or was so already.")
class SetQuestionAccessPayload:
    question: SavedQuestion = strawberry.field(description="As it is now.")


@strawberry.type(description="It is deleted, and its share links show nothing. `restoreQuestion` takes it back.")
class DeleteQuestionPayload:
    question: SavedQuestion = strawberry.field(description="As it was, with the time of its deletion.")


@strawberry.type(description="It is there again, and so are its share links.")
class RestoreQuestionPayload:
    question: SavedQuestion = strawberry.field(description="As it is now.")


@shown_to(Permission.QUESTIONS_READ)
@strawberry.type(description="What an edit said; null where it said nothing.")
class QuestionEdit:
    name: str | None = strawberry.field(description="Its name.")
    description: str | None = strawberry.field(description="What it is for.")
    query: JSONValue | None = strawberry.field(description="What is asked, as `MetricQuery` takes it.")
    tags: list[str] | None = strawberry.field(description="Its tags.")


@strawberry.type(description="Somebody else has edited it since: both versions, to be put together and sent again.")
class QuestionConflict(Error):
    theirs: SavedQuestion = strawberry.field(description="The question as it is now.")
    yours: QuestionEdit = strawberry.field(description="The edit that was not made.")
    changed_fields: list[str] = strawberry.field(description="Fields of the edit that differ from the question now.")


async def resolve_create_question(info: Info[Context, None], input: CreateQuestionInput) -> CreateQuestionPayload:
    """Saves a question."""
    made = await create_question(
        info.context, input.name, input.description, input.query.to_domain(), input.tags, input.access.to_domain()
    )
    return CreateQuestionPayload(question=cast(SavedQuestion, made))


async def resolve_update_question(info: Info[Context, None], input: UpdateQuestionInput) -> Any:
    """Edits a question."""
    metric = input.query.to_domain() if input.query is not None else None
    try:
        made = await update_question(info.context, input.id, input.revision, metric, input.texts())
    except EditConflict as conflict:
        return _conflict(conflict, input)
    return UpdateQuestionPayload(question=cast(SavedQuestion, made))


async def resolve_set_question_access(
    info: Info[Context, None], input: SetQuestionAccessInput
) -> SetQuestionAccessPayload:
    """Says who may do what with a question."""
    grants = [line.to_domain() for line in input.access]
    made = await set_question_access(info.context, input.id, input.access_revision, grants)
    return SetQuestionAccessPayload(question=cast(SavedQuestion, made))


async def resolve_delete_question(info: Info[Context, None], input: DeleteQuestionInput) -> DeleteQuestionPayload:
    """Deletes a question."""
    return DeleteQuestionPayload(question=cast(SavedQuestion, await delete_question(info.context, input.id)))


async def resolve_restore_question(info: Info[Context, None], input: RestoreQuestionInput) -> RestoreQuestionPayload:
    """Restores a question."""
    return RestoreQuestionPayload(question=cast(SavedQuestion, await restore_question(info.context, input.id)))


@strawberry.type
class QuestionMutations:
    create_question = mutation(
        Permission.QUESTIONS_WRITE, resolve_create_question, CreateQuestionPayload, "Saves a question."
    )
    update_question = mutation(
        Permission.QUESTIONS_WRITE,
        resolve_update_question,
        UpdateQuestionPayload,
        "Edits a question, for who has the level EDIT on it.",
        also=(QuestionConflict,),
    )
    set_question_access = mutation(
        Permission.QUESTIONS_WRITE,
        resolve_set_question_access,
        SetQuestionAccessPayload,
        "Says who may do what with a question, for who has the level MANAGE on it.",
    )
    delete_question = mutation(
        Permission.QUESTIONS_WRITE,
        resolve_delete_question,
        DeleteQuestionPayload,
        "Deletes a question, for who has the level MANAGE on it.",
    )
    restore_question = mutation(
        Permission.QUESTIONS_WRITE,
        resolve_restore_question,
        RestoreQuestionPayload,
        "Takes back a deletion of the last 30 days, for who has the level MANAGE on it.",
    )


def wanted_of(search: str | None, tag: str | None, is_deleted: bool) -> Wanted:
    return Wanted(search or None, tag or None, is_deleted)


def _conflict(conflict: EditConflict, input: UpdateQuestionInput) -> QuestionConflict:
    yours = QuestionEdit(
        name=input.name,
        description=input.description,
        query=JSONValue(as_json(input.query.to_domain())) if input.query is not None else None,
        tags=input.tags,
    )
    return QuestionConflict(
        code=ErrorCode.CONFLICT,
        message=conflict.message,
        path=["input", "revision"],
        theirs=cast(SavedQuestion, conflict.theirs),
        yours=yours,
        changed_fields=list(conflict.changed),
    )


def _range(range: TimeRange | None) -> Range:
    return range.to_domain() if range is not None else Range()


def _row(question: object) -> Question:
    return cast(Question, question)
