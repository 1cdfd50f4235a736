"""What a transaction of the aggregate worker counts beside the events: usage by day and key, and what became of events
by minute, reason and key. All by the moment of receipt, and once a batch: an event costs a look at its time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, timedelta
from functools import lru_cache
from operator import attrgetter
from uuid import UUID

from core.database import Session
from core.events import EnrichedBatch, EnrichedEvent
from core.ingest_counts import add_counts
from core.outcomes import COUNTED_BEFORE, IngestCell, Outcome, cell_of
from core.queries import named
from pipeline.prepared import Group

ADD_USAGE = named("aggregate", "add_usage")

DAY_MS = 86_400_000
# What is older than this when it comes revises minutes that were closed: senders that batch for a minute are not late.
LATE_MS = 5 * 60_000
# By how late an event was; an import of history is in the last.
LATE_REASONS = ((5 * DAY_MS, "over_5_days"), (DAY_MS, "over_1_day"), (3_600_000, "over_1_hour"))
LATE = "over_5_minutes"

UsageKey = tuple[UUID, date, str]
_time_of = attrgetter("timestamp_ms")


async def add_usage(
    session: Session,
    batches: Sequence[EnrichedBatch],
    groups: Sequence[Group],
    left_out: Mapping[tuple[UUID, str], int] | None = None,
) -> None:
    """Adds what these batches brought, what of it (`groups`) was new, and what of that counts under `__other__`."""
    accepted: Counter[int] = Counter()
    late: Counter[IngestCell] = Counter()
    for batch, events in groups:
        accepted[id(batch)] += len(events)
        late.update(late_cells(batch, events))
    usage: dict[UsageKey, list[int]] = {}
    cells: Counter[IngestCell] = late
    received = {batch.tenant_id: batch.received_ms for batch in batches} if left_out else {}
    for (tenant_id, what), count in (left_out or {}).items():
        cells[cell_of(tenant_id, received[tenant_id], Outcome.OVERFLOW, what, "")] += count
    for batch in batches:
        new = accepted[id(batch)]
        known = len(batch.events) - new
        counted = usage.setdefault(usage_key(batch), [0, 0])
        counted[0] += new
        counted[1] += known
        if new:
            cells[_cell(batch, Outcome.ACCEPTED, "")] += new
        if known:
            cells[_cell(batch, Outcome.DUPLICATES, COUNTED_BEFORE)] += known
    rows = [(*key, *counts) for key, counts in sorted(usage.items())]
    if rows:
        await session.execute(ADD_USAGE, *(list(column) for column in zip(*rows, strict=True)))
        await add_counts(session, cells)


def late_cells(batch: EnrichedBatch, events: Sequence[EnrichedEvent]) -> dict[IngestCell, int]:
    """Those of a batch's events that came late, by how late."""
    if batch.received_ms - min(map(_time_of, events)) <= LATE_MS:
        return {}
    reasons = Counter(_late_reasons(batch.received_ms, events))
    return {_cell(batch, Outcome.LATE, reason): count for reason, count in reasons.items()}


def _late_reasons(received_ms: int, events: Iterable[EnrichedEvent]) -> Iterable[str]:
    for event in events:
        late_ms = received_ms - event.timestamp_ms
        if late_ms > LATE_MS:
            yield next((reason for limit, reason in LATE_REASONS if late_ms > limit), LATE)


def _cell(batch: EnrichedBatch, outcome: Outcome, reason: str) -> IngestCell:
    return cell_of(batch.tenant_id, batch.received_ms, outcome, reason, batch.key_id)


def usage_key(batch: EnrichedBatch) -> UsageKey:
    return batch.tenant_id, day_of(batch.received_ms // DAY_MS), batch.key_id


@lru_cache(maxsize=10_000)
def day_of(epoch_day: int) -> date:
    return date(1970, 1, 1) + timedelta(days=epoch_day)
