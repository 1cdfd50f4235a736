"""What a transaction of the aggregate worker needs of its events, worked out before it begins: while the database
works, the next batch is prepared, and it does not wait for Python.
"""

from __future__ import annotations

import asyncio
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from typing import TypeVar
from uuid import UUID

from core.events import EnrichedBatch, EnrichedEvent
from core.rollups import Resolution
from pipeline import copying
from pipeline.counted_metrics import NONE, CountedMetrics, Known
from pipeline.event_rows import Pair, staged_rows
from pipeline.fold import Tallies, fold_all
from pipeline.metric_fold import MetricTallies, fold_metrics

T = TypeVar("T")

# New events of one batch.
Group = tuple[EnrichedBatch, Sequence[EnrichedEvent]]


@dataclass(frozen=True, slots=True)
class Prepared:
    """Batches, and what they come to if no event of them is known yet, which is the rule. `metrics`: what of their
    tenants' own is counted, at which revision."""

    batches: Sequence[EnrichedBatch]
    unique: Sequence[Pair]
    rows: Sequence[bytes]
    groups: Sequence[Group]
    tallies: dict[Resolution, Tallies]
    metrics: Known = field(default_factory=dict)
    metric_tallies: dict[Resolution, MetricTallies] = field(default_factory=dict)

    def revision(self, tenant_id: UUID) -> int:
        """The metrics revision with which a tenant's events were prepared."""
        return self.metrics.get(tenant_id, NONE).revision


async def prepare(batches: Sequence[EnrichedBatch], known: Known | None = None) -> Prepared:
    """Rows and tallies of batches; gives way to others while it works. `known`: what is counted of tenants that have
    metrics of their own."""
    metrics = metrics_of(batches, known or {})
    unique = unique_events(batches)
    rows = []
    revisions = {tenant_id: counted.revision for tenant_id, counted in metrics.items()}
    for chunk in copying.in_chunks(staged_rows(unique, revisions)):
        rows.append(chunk)
        await asyncio.sleep(0)
    groups = grouped(unique)
    tallies = await giving_way(fold_groups(groups))
    own = await giving_way(fold_own(groups, metrics)) if metrics else {}
    return Prepared(batches, unique, rows, groups, tallies, metrics, own)


def metrics_of(batches: Sequence[EnrichedBatch], known: Known) -> dict[UUID, CountedMetrics]:
    """What is known of the tenants of some batches."""
    return {b.tenant_id: known[b.tenant_id] for b in batches if b.tenant_id in known} if known else {}


def fold_own(groups: Sequence[Group], metrics: Known) -> Generator[None, None, dict[Resolution, MetricTallies]]:
    """What the events add to their tenants' own metrics."""
    return fold_metrics(
        (batch.tenant_id, metrics[batch.tenant_id], events) for batch, events in groups if batch.tenant_id in metrics
    )


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
