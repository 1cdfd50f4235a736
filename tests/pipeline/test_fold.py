"""What a batch adds to cells, against counting event by event."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Generator
from typing import Any, TypeVar
from uuid import UUID, uuid4

import pytest

from core.events import EnrichedEvent
from core.rollups import Resolution, Slot
from core.summary import MAX_SUM
from pipeline.cells import MAX_HASHES, OpenCell, OpenCells, OpenSlot
from pipeline.fold import Tally, dimension_values, fold_all
from pipeline.prepared import unique_events
from tests.pipeline.builders import NOW_MS, batch_of, enriched

T = TypeVar("T")


def result_of(work: Generator[None, None, T]) -> T:
    while True:
        try:
            next(work)
        except StopIteration as end:
            value: T = end.value
            return value


def random_event(chance: random.Random) -> EnrichedEvent:
    is_request = chance.random() < 0.5
    return enriched(
        id=uuid4().bytes,
        type=chance.choice(["page_view", "http_request"]),
        timestamp_ms=NOW_MS - chance.randrange(2 * 3_600_000),
        visitor=chance.randrange(9),
        session=chance.choice([None, *range(5)]),
        page_path=chance.choice(["", "/a", "/b"]),
        country=chance.choice(["", "DE"]),
        status=chance.choice([200, 404, 500, 503]) if is_request else None,
        bytes=chance.choice([None, 0, chance.randrange(1000)]) if is_request else None,
        duration_ms=chance.choice([None, 0.0, chance.random()]) if is_request else None,
        is_bot=chance.random() < 0.2,
    )


def one_by_one(groups: list[tuple[UUID, list[EnrichedEvent]]], seconds: int) -> dict[Any, Tally]:
    cells: defaultdict[Any, Tally] = defaultdict(Tally)
    for tenant_id, events in groups:
        for event in events:
            slot = Slot(tenant_id, event.timestamp_ms // 1000 // seconds * seconds, event.type, event.is_bot)
            for cell in dimension_values(event):
                tally = cells[slot, cell]
                tally.count += 1
                tally.errors += event.status is not None and event.status >= 500
                tally.bytes += event.bytes or 0
                tally.visitors.add(event.visitor)
                if event.session is not None:
                    tally.sessions.add(event.session)
                if event.duration_ms is not None:
                    tally.durations.append(event.duration_ms)
    return dict(cells)


@pytest.mark.parametrize("seed", range(8))
def test_folding_gives_what_counting_one_by_one_gives(seed: int) -> None:
    chance = random.Random(seed)
    tenants = [uuid4(), uuid4()]
    groups = [
        (chance.choice(tenants), [random_event(chance) for _ in range(chance.choice([1, 3, 60]))]) for _ in range(7)
    ]
    folded = result_of(fold_all(groups))
    for resolution in Resolution:
        expected = one_by_one(groups, resolution.seconds)
        found = {(slot, cell): tally for slot, cells in folded[resolution].items() for cell, tally in cells.items()}
        assert found.keys() == expected.keys()
        for key, tally in found.items():
            tally.durations.sort()
            expected[key].durations.sort()
            assert tally == expected[key], key


def test_of_one_id_the_first_event_of_a_tenant_is_kept() -> None:
    first, again = enriched(visitor=1), enriched(visitor=2)
    twice = enriched(id=first.id, visitor=3)
    tenant, other = uuid4(), uuid4()
    batches = [batch_of(tenant, first, again), batch_of(tenant, twice), batch_of(other, twice)]
    assert [(batch.tenant_id, event.visitor) for batch, event in unique_events(batches)] == [
        (tenant, 1), (tenant, 2), (other, 3),
    ]  # fmt: skip


def test_a_cell_counts_visitors_once_however_often_they_come_and_past_what_it_remembers() -> None:
    cell = OpenCell()
    for start in range(0, 3 * MAX_HASHES, MAX_HASHES // 2):
        hashes = {n * 0x9E3779B97F4A7C15 % 2**63 for n in range(start, start + MAX_HASHES)}
        cell.add(Tally(count=len(hashes), bytes=MAX_SUM, visitors=hashes))
    assert len(cell.visitors) <= MAX_HASHES
    assert cell.summary.visitors.estimate() == pytest.approx(3.5 * MAX_HASHES, rel=0.05)
    assert cell.summary.count == 6 * MAX_HASHES and cell.summary.bytes == MAX_SUM
    assert cell.summary.sessions.to_bytes() == b""


def test_open_cells_are_there_once_and_go_when_there_is_no_room_or_the_shard_is_forgotten() -> None:
    kept = OpenCells(max_weight=100)
    slots = [Slot(uuid4(), 60 * n, "a", False) for n in range(6)]
    for slot in slots:
        kept.put(0, Resolution.MINUTE, {slot: OpenSlot(is_whole=True, cells={("", ""): OpenCell()})})
    assert set(kept.take(0, Resolution.MINUTE, slots)) == set(slots[1:])
    assert kept.take(0, Resolution.MINUTE, slots) == {}
    kept.put(0, Resolution.MINUTE, {slots[0]: OpenSlot(is_whole=True)})
    kept.put(1, Resolution.MINUTE, {slots[0]: OpenSlot(is_whole=True)})
    kept.forget(0)
    assert kept.take(0, Resolution.MINUTE, slots) == {} and set(kept.take(1, Resolution.MINUTE, slots)) == {slots[0]}
