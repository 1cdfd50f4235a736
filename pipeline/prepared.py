"""What a transaction of the aggregate worker needs of its events, worked out before it begins: while the database
works, the next batch is prepared, and it does not wait for Python.
"""

from __future__ import annotations

import asyncio
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from core.events import EnrichedBatch, EnrichedEvent
from core.rollups import Resolution
from pipeline import copying
from pipeline.event_rows import Pair, staged_rows
from pipeline.fold import Tallies, fold_all

T = TypeVar("T")

# New events of one batch.
Group = tuple[EnrichedBatch, Sequence[EnrichedEvent]]


@dataclass(frozen=True, slots=True)
class Prepared:
    """Batches, and what they come to if no event of them is known yet, which is the rule."""

    batches: Sequence[EnrichedBatch]
    unique: Sequence[Pair]
    rows: Sequence[bytes]
    groups: Sequence[Group]
    tallies: dict[Resolution, Tallies]


async def prepare(batches: Sequence[EnrichedBatch]) -> Prepared:
    """Rows and tallies of batches; gives way to others while it works."""
    unique = unique_events(batches)
    rows = []
    for chunk in copying.in_chunks(staged_rows(unique)):
        rows.append(chunk)
        await asyncio.sleep(0)
    groups = grouped(unique)
    return Prepared(batches, unique, rows, groups, await giving_way(fold_groups(groups)))


def fold_groups(groups: Sequence[Group]) -> Generator[None, None, dict[Resolution, Tallies]]:
    return fold_all((batch.tenant_id, events) for batch, events in groups)


async def giving_way(work: Generator[None, None, T]) -> T:
    """The result of work that halts now and then."""
    while True:
        try:
            next(work)
        except StopIteration as end:
            result: T = end.value
            return result
        await asyncio.sleep(0)


def unique_events(batches: Sequence[EnrichedBatch]) -> list[Pair]:
    """Events of batches, each id of a tenant once: the first."""
    unique: dict[bytes, Pair] = {}
    for batch in batches:
        tenant = batch.tenant_id.bytes
        for event in batch.events:
            unique.setdefault(tenant + event.id, (batch, event))
    return list(unique.values())


def grouped(pairs: Sequence[Pair]) -> list[Group]:
    """Events by their batches, in their order."""
    groups: list[tuple[EnrichedBatch, list[EnrichedEvent]]] = []
    last: EnrichedBatch | None = None
    for batch, event in pairs:
        if batch is not last:
            last = batch
            groups.append((batch, []))
        groups[-1][1].append(event)
    return list(groups)
