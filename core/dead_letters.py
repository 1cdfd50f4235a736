"""Dead letters where they are kept: found, replayed, dropped. For the operator, who sees every tenant's."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from core.database import Database
from core.errors import BadInput, NotFound
from core.eventlog import EventLog
from core.queries import named

LIST = named("dead_letters", "list_letters")
FIND = named("dead_letters", "find_letter")
DROP = named("dead_letters", "drop_letter")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a letter stood in the log, and which worker put it aside; as text `worker:topic:partition:offset`."""

    worker: str
    topic: str
    partition: int
    offset: str

    @classmethod
    def parse(cls, text: str) -> Place:
        """Raises BadInput when it is not of that form."""
        parts = text.split(":")
        if len(parts) != 4 or not parts[2].isdecimal():
            raise BadInput(f"{text[:120]!r} is not worker:topic:partition:offset, as `deadletters list` shows it.")
        return cls(parts[0], parts[1], int(parts[2]), parts[3])

    def __str__(self) -> str:
        return f"{self.worker}:{self.topic}:{self.partition}:{self.offset}"


@dataclass(frozen=True, slots=True)
class KeptLetter:
    """A dead letter. `value` are the record's bytes, None where only their number was asked for."""

    place: Place
    tenant_id: UUID
    reason: str
    created_at: datetime
    size: int
    value: bytes | None = None


async def list_letters(database: Database, tenant_id: UUID | None, most: int) -> list[KeptLetter]:
    """The newest letters, of one tenant or of all."""
    async with database.as_writer() as session:
        rows = await session.fetch(LIST, tenant_id, most)
    return [_letter(row, row["size"]) for row in rows]


async def find_letter(database: Database, place: Place) -> KeptLetter:
    """One letter with its bytes.

    Raises:
        NotFound: there is none at that place.
    """
    async with database.as_writer() as session:
        row = await session.fetchrow(FIND, place.topic, place.partition, place.offset, place.worker)
    if row is None:
        raise NotFound(f"There is no dead letter {place}; `deadletters list` shows those there are.")
    return _letter(row, len(row["value"]), row["value"])


async def drop_letter(database: Database, place: Place) -> None:
    """Ends one; one that is gone already is no error."""
    async with database.as_writer() as session:
        await session.execute(DROP, place.topic, place.partition, place.offset, place.worker)


async def replay_letter(database: Database, log: EventLog, place: Place) -> None:
    """Appends a letter's bytes to the topic that they were read from, then drops it. Killed in between it is replayed
    twice, and its events still count once: by their ids.

    Raises:
        NotFound: there is none at that place.
        LogUnavailable, LogFull: it is kept.
    """
    letter = await find_letter(database, place)
    await log.append(place.topic, letter.tenant_id.bytes, letter.value or b"")
    await drop_letter(database, place)


def _letter(row: Any, size: int, value: bytes | None = None) -> KeptLetter:
    place = Place(row["worker"], row["topic"], row["partition"], row["offset"])
    return KeptLetter(place, UUID(int=row["tenant_id"].int), row["reason"], row["created_at"], size, value)
