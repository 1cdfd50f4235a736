"""The outbox: messages that wait, were sent, or were given up. Whoever takes one has it alone for `LEASE`; what it
does not settle by then is taken again, so that a killed worker delays a message and never loses it."""

from __future__ import annotations

import logging
import random
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID

from core.database import Database
from core.errors import BadInput, Misconfigured
from core.mail import MailKind, Message, is_of_use, unseal_text
from core.queries import named
from core.smtp import Outcome, PutOff, Refused

CLAIM = named("outbox", "claim_message")
SETTLE_SENT = named("outbox", "settle_sent")
SETTLE_PUT_OFF = named("outbox", "settle_put_off")
SETTLE_REFUSED = named("outbox", "settle_refused")
LIST = named("outbox", "list_messages")
FORGET = named("outbox", "forget_messages")

log = logging.getLogger(__name__)

# Longer than any sending may take (core.smtp.SEND_SECONDS).
LEASE = timedelta(minutes=2)
# A greylisting server takes the second attempt after a few minutes; none is overrun by the later ones.
FIRST_RETRY, LAST_RETRY = timedelta(seconds=30), timedelta(hours=1)
TOO_LATE = "its link has ended; it could not be sent in time"
TRIED_FOR_LONG = "it was tried for as long as it is worth, and no worker could say what came of it"
KEPT = timedelta(days=30)
# What nobody was to be told of, such as a reset for an address that nobody has.
KEPT_UNSENT = timedelta(days=1)


class MessageState(StrEnum):
    """What became of a message so far."""

    WAITING = "waiting"
    SENT = "sent"
    GIVEN_UP = "given_up"


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboxMessage:
    """A message as the outbox has it; subject and text are gone once it was sent."""

    id: UUID
    tenant: str
    kind: MailKind
    recipient: str
    subject: str
    text: str
    state: MessageState
    created_at: datetime
    next_attempt_at: datetime
    attempts: int
    last_error: str


@dataclass(frozen=True, slots=True)
class Claimed:
    """A message that this worker has alone, and which attempt this is."""

    id: UUID
    message: Message
    attempt: int


async def claim(database: Database, master_key: bytes) -> Claimed | None:
    """The message that is due longest, for this worker alone; None when none is due."""
    while True:
        async with database.as_writer() as session:
            row = await session.fetchrow(CLAIM, LEASE)
        if row is None:
            return None
        kind = MailKind(row["kind"])
        if not is_of_use(kind, row["created_at"]):
            await _give_up(database, row["id"], row["attempts"], TOO_LATE)
            continue
        if row["is_past"]:
            # Nobody settled the attempt before: what ends a worker each time is not tried for ever.
            await _give_up(database, row["id"], row["attempts"], row["last_error"] or TRIED_FOR_LONG)
            continue
        try:
            subject, text = unseal_text(row["sealed"], row["id"], master_key)
            message = Message(kind=kind, recipient=row["recipient"], subject=subject, text=text)
        except (Misconfigured, BadInput) as error:
            await _give_up(database, row["id"], row["attempts"], error.message)
            continue
        return Claimed(row["id"], message, row["attempts"])


async def settle(database: Database, claimed: Claimed, outcome: Outcome) -> None:
    """Notes what came of an attempt; nothing, where the lease had ended and somebody else took the message."""
    match outcome:
        case PutOff(reason):
            wait = pause(claimed.attempt)
            async with database.as_writer() as session:
                row = await session.fetchrow(SETTLE_PUT_OFF, claimed.id, claimed.attempt, reason, wait)
            if row is not None and row["is_given_up"]:
                _tell_given_up(claimed.id, claimed.attempt, reason)
        case Refused(reason):
            await _give_up(database, claimed.id, claimed.attempt, reason)
        case _:
            async with database.as_writer() as session:
                await session.execute(SETTLE_SENT, claimed.id, claimed.attempt)


async def _give_up(database: Database, message_id: UUID, attempt: int, reason: str) -> None:
    async with database.as_writer() as session:
        row = await session.fetchrow(SETTLE_REFUSED, message_id, attempt, reason)
    if row is not None:
        _tell_given_up(message_id, attempt, reason)


def _tell_given_up(message_id: UUID, attempt: int, reason: str) -> None:
    log.error(
        "mail given up; `outbox` shows it",
        extra={"action": "fail", "message_id": str(message_id), "attempts": attempt, "reason": reason},
    )


def pause(attempt: int) -> timedelta:
    """How long to wait after the n-th attempt: twice as long each time, a tenth more or less."""
    doubled = FIRST_RETRY * 2 ** min(attempt - 1, 20)
    chosen: timedelta = min(doubled, LAST_RETRY) * random.uniform(0.9, 1.1)
    return chosen


async def list_messages(
    database: Database, master_key: bytes, *, tenant_id: UUID | None, has_all: bool, most: int
) -> list[OutboxMessage]:
    """Messages, newest first: those not sent yet, or all; of one tenant, or of everybody."""
    async with database.as_writer() as session:
        rows = await session.fetch(LIST, tenant_id, has_all, most)
    return [_message(row, master_key) for row in rows]


async def forget_messages(database: Database) -> None:
    """Ends what is done with, and what waited a month for a server."""
    async with database.as_writer() as session:
        await session.execute(FORGET, KEPT, KEPT_UNSENT)


def _message(row: Any, master_key: bytes) -> OutboxMessage:
    subject, text = unseal_text(row["sealed"], row["id"], master_key) if row["sealed"] else ("", "")
    kind, state, last_error = MailKind(row["kind"]), MessageState(row["state"]), row["last_error"]
    if state is MessageState.WAITING and not is_of_use(kind, row["created_at"]):
        state, last_error = MessageState.GIVEN_UP, TOO_LATE
    return OutboxMessage(
        id=row["id"],
        tenant=row["slug"] or "",
        kind=kind,
        recipient=row["recipient"],
        subject=subject,
        text=text,
        state=state,
        created_at=row["created_at"],
        next_attempt_at=row["next_attempt_at"],
        attempts=row["attempts"],
        last_error=last_error,
    )
