"""Dead letters: what no worker could process, for the tenant's administrator."""

from __future__ import annotations

from datetime import datetime
from typing import cast

import strawberry
from strawberry import Info

from core.own_letters import OwnLetter
from core.permissions import Permission
from resolvers.context import Context
from resolvers.dead_letters import drop_dead_letter, replay_dead_letter
from resolvers.global_ids import global_id
from schema.guarded import mutation, shown_to
from schema.node import Node


@shown_to(Permission.DEAD_LETTERS_READ)
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


@strawberry.input(description="Which letter to send on its way again.")
class ReplayDeadLetterInput:
    id: strawberry.ID = strawberry.field(description="Its global id.")


@strawberry.input(description="Which letter to end.")
class DropDeadLetterInput:
    id: strawberry.ID = strawberry.field(description="Its global id.")


@shown_to(Permission.DEAD_LETTERS_WRITE)
@strawberry.type(description="It is on its way; events of it that were counted already count no more.")
class ReplayDeadLetterPayload:
    id: strawberry.ID = strawberry.field(description="As given; the letter is gone, and comes anew if it fails again.")


@shown_to(Permission.DEAD_LETTERS_WRITE)
@strawberry.type(description="It is gone.")
class DropDeadLetterPayload:
    id: strawberry.ID = strawberry.field(description="As given.")


async def resolve_replay_dead_letter(
    info: Info[Context, None], input: ReplayDeadLetterInput
) -> ReplayDeadLetterPayload:
    """Sends a letter on its way again."""
    await replay_dead_letter(info.context, input.id)
    return ReplayDeadLetterPayload(id=input.id)


async def resolve_drop_dead_letter(info: Info[Context, None], input: DropDeadLetterInput) -> DropDeadLetterPayload:
    """Ends a letter."""
    await drop_dead_letter(info.context, input.id)
    return DropDeadLetterPayload(id=input.id)


@strawberry.type
class DeadLetterMutations:
    replay_dead_letter = mutation(
        Permission.DEAD_LETTERS_WRITE,
        resolve_replay_dead_letter,
        ReplayDeadLetterPayload,
        "Sends a record that was put aside on its way again.",
    )
    drop_dead_letter = mutation(
        Permission.DEAD_LETTERS_WRITE,
        resolve_drop_dead_letter,
        DropDeadLetterPayload,
        "Ends a record that was put aside; its events never count.",
    )
