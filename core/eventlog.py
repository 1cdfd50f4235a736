"""The event log as everyone sees it: append, consume in order, commit. Implementations pass `tests/contract/`.

A topic is a set of partitions, each an ordered sequence of records with opaque, increasing offsets. A group of
consumers shares a topic's partitions: each partition has one consumer at a time. A record is delivered until its
offset is committed (at least once); a consumer that keeps offsets elsewhere, with its results, seeks to them.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NewType, Protocol

import msgspec

Offset = NewType("Offset", str)

# With what a request does before it, the whole of an ingest request ends within 5 s.
APPEND_SECONDS = 4.0


@dataclass(frozen=True, slots=True, order=True)
class Partition:
    """One ordered part of a topic."""

    topic: str
    number: int = 0


@dataclass(frozen=True, slots=True)
class Record:
    """One record as delivered; `next_offset` is where a reader goes on after it."""

    partition: Partition
    offset: Offset
    next_offset: Offset
    key: bytes
    value: bytes


class DeadLetter(msgspec.Struct, frozen=True):
    """A record that can never be processed: its bytes, where it stood, and why."""

    topic: str
    partition: int
    offset: str
    worker: str
    reason: str
    value: bytes


class Forgotten(msgspec.Struct, frozen=True):
    """Records of a tenant that were dropped from shared topics, and those that stay until they are read, or until the
    log's retention ends them; None where the log cannot tell."""

    dropped: int
    remaining: int | None


# Called with the partitions a consumer was given; answers the offsets it keeps elsewhere (none: the group's own).
OnAssigned = Callable[[Sequence[Partition]], Awaitable[Mapping[Partition, Offset]]]


class Consumer(Protocol):
    """One member of a group. Not for use by two tasks at once."""

    async def poll(self, *, max_records: int, wait_seconds: float) -> list[Record]:
        """The next records, in order within each partition; [] when none came in time.

        Raises:
            LogUnavailable: the log is away; poll again.
        """
        ...

    async def commit(self, offsets: Mapping[Partition, Offset]) -> None:
        """Marks everything before these offsets as done for the group."""
        ...

    async def rewind(self) -> None:
        """Begins anew with all that was polled and not committed, from the offsets that are kept elsewhere if any.

        Raises:
            LogUnavailable: the log is away; poll again.
        """
        ...

    async def close(self) -> None:
        """Leaves the group; its partitions go to others at once."""
        ...


class EventLog(Protocol):
    """A durable log. `append` returns only when the record would survive a kill -9 of any process."""

    @property
    def name(self) -> str:
        """Whose offsets these are: those of another log say nothing here."""
        ...

    async def create_topic(self, topic: str) -> None:
        """Makes the topic known to consumers; harmless when it exists."""
        ...

    async def append(self, topic: str, key: bytes, value: bytes) -> Offset:
        """Adds one record.

        Raises:
            LogUnavailable: not known to be stored within `APPEND_SECONDS`; sending again is safe for events with ids.
            LogFull: refused before it was stored.
        """
        ...

    def consume(self, group: str, topics: re.Pattern[str], on_assigned: OnAssigned | None = None) -> Consumer:
        """Joins a group on all topics whose whole name matches, those made later included."""
        ...

    async def lag(self, group: str, topics: re.Pattern[str]) -> dict[Partition, int]:
        """Records of each matching partition that the group has not committed."""
        ...

    async def done_until(self, group: str, topics: re.Pattern[str]) -> int:
        """Epoch milliseconds before which everything appended to matching topics is committed by the group."""
        ...

    async def trim(self) -> int:
        """Drops records that every group has committed and that retention no longer asks for; how many."""
        ...

    async def delete_topic(self, topic: str) -> bool:
        """Ends a topic with all its records; whether there was one. Whoever appends to it afterwards makes it anew.

        Raises:
            LogUnavailable: the log is away; it may be there still.
        """
        ...

    async def forget(self, topics: re.Pattern[str], tenant: bytes) -> Forgotten:
        """Drops records whose key is a tenant's from topics that tenants share, as far as the log can drop single
        records, and everybody has read them.

        Raises:
            LogUnavailable: the log is away; some may be there still.
        """
        ...

    async def close(self) -> None: ...
