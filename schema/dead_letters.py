"""Dead letters: what no worker could process, for the tenant's administrator."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Union, cast

import strawberry
from strawberry import Info

from core.errors import CloudMetricsError, NotFound
from core.own_letters import OwnLetter
from resolvers.context import Context
from resolvers.dead_letters import drop_dead_letter, replay_dead_letter
from resolvers.nodes import global_id
from schema.node import Node, PageInfo
from schema.refusals import (
    Error,
    ErrorCode,
    LimitReached,
    PermissionDeniedError,
    ServiceUnavailable,
    ValidationError,
    typed_error,
)


@strawberry.type(description="A record of the tenant's that no worker could process, as it was put aside.")
class DeadLetter(Node):
    @strawberry.field(description="Global id.")
    def id(self) -> strawberry.ID:
        return strawberry.ID(global_id("DeadLetter", str(cast(OwnLetter, self).place)))

    @strawberry.field(description="Which worker put it aside, such as enrich.")
    def worker(self) -> str:
        return cast(OwnLetter, self).place.worker

    @strawberry.field(description="The topic it was read from; a replay goes there.")
    def topic(self) -> str:
        return cast(OwnLetter, self).place.topic

    @strawberry.field(description="The topic's partition.")
    def partition(self) -> int:
        return cast(OwnLetter, self).place.partition

    @strawberry.field(description="Its place there.")
    def offset(self) -> str:
        return cast(OwnLetter, self).place.offset

    reason: str = strawberry.field(description="Why it could not be processed.")
    created_at: datetime = strawberry.field(description="When it was put aside.")
    size: int = strawberry.field(description="Bytes of the record.")
    preview: str = strawberry.field(
        description="Its beginning as text, at most 500 characters; keys and visitors' addresses are masked."
    )

    @classmethod
    def is_type_of(cls, obj: object, info: object) -> bool:
        return isinstance(obj, OwnLetter)


@strawberry.type(description="A dead letter and where it stands in the list.")
class DeadLetterEdge:
    cursor: str = strawberry.field(description="For `after`.")
    node: DeadLetter = strawberry.field(description="The letter.")


@strawberry.type(description="A page of dead letters, newest first.")
class DeadLetterConnection:
    edges: list[DeadLetterEdge] = strawberry.field(description="Newest first.")
    page_info: PageInfo = strawberry.field(description="Where the page stands.")


@strawberry.type(name="NotFound", description="There is nothing with that id.")
class NotFoundError(Error):
    pass


@strawberry.input(description="Which letter to send on its way again.")
class ReplayDeadLetterInput:
    id: strawberry.ID = strawberry.field(description="Its global id.")


@strawberry.input(description="Which letter to end.")
class DropDeadLetterInput:
    id: strawberry.ID = strawberry.field(description="Its global id.")


@strawberry.type(description="It is on its way; events of it that were counted already count no more.")
class ReplayDeadLetterPayload:
    id: strawberry.ID = strawberry.field(description="As given; the letter is gone, and comes anew if it fails again.")


@strawberry.type(description="It is gone.")
class DropDeadLetterPayload:
    id: strawberry.ID = strawberry.field(description="As given.")


Refusal = ValidationError | PermissionDeniedError | LimitReached | ServiceUnavailable | NotFoundError

ReplayDeadLetterResult = Annotated[
    Union[ReplayDeadLetterPayload, NotFoundError, PermissionDeniedError, ServiceUnavailable],
    strawberry.union("ReplayDeadLetterResult", description="The letter's way, or a typed refusal."),
]
DropDeadLetterResult = Annotated[
    Union[DropDeadLetterPayload, NotFoundError, PermissionDeniedError, ServiceUnavailable],
    strawberry.union("DropDeadLetterResult", description="The letter's end, or a typed refusal."),
]


async def resolve_replay_dead_letter(info: Info[Context, None], input: ReplayDeadLetterInput) -> ReplayDeadLetterResult:
    """Sends a letter on its way again."""
    try:
        await replay_dead_letter(info.context, input.id)
    except CloudMetricsError as error:
        return cast(ReplayDeadLetterResult, _refusal(error))
    return ReplayDeadLetterPayload(id=input.id)


async def resolve_drop_dead_letter(info: Info[Context, None], input: DropDeadLetterInput) -> DropDeadLetterResult:
    """Ends a letter."""
    try:
        await drop_dead_letter(info.context, input.id)
    except CloudMetricsError as error:
        return cast(DropDeadLetterResult, _refusal(error))
    return DropDeadLetterPayload(id=input.id)


def _refusal(error: CloudMetricsError) -> Refusal:
    if isinstance(error, NotFound):
        return NotFoundError(code=ErrorCode.NOT_FOUND, message=error.message, path=["input", "id"])
    return typed_error(error, ["input"])
