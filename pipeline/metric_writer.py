"""Cells of tenants' own metrics within a transaction that counts: tallies are added to what cells had, whole values are
written. As `rollup_writer` does it for the built-in ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from core.database import Session
from core.metric_cells import MetricSummary
from core.queries import named
from core.rollups import TOTAL, Resolution
from pipeline.capping import capped, events_left_out, let_in, new_cells
from pipeline.cells import OpenCells, OpenMetricCell, OpenSlot
from pipeline.counted_metrics import Cell, Known
from pipeline.metric_fold import MetricSlot, MetricTallies, merged_tallies
from pipeline.rollup_writer import LeftOut, bucket_time

TABLES = {r: named("metric_cells", f"table_{r.value}").text for r in Resolution}
READ_CELLS = {r: named("metric_cells", "read_cells").filled(table=TABLES[r]) for r in Resolution}
WRITE_CELLS = {r: named("metric_cells", "write_cells").filled(table=TABLES[r]) for r in Resolution}
COUNT_VALUES = named("metric_cells", "count_values")
# Rows of one statement: what it is given is built in memory.
ROWS_AT_ONCE = 2_000
# About 30 MB.
MAX_WEIGHT = 300_000

Slots = dict[MetricSlot, OpenSlot[OpenMetricCell]]
TouchedMetrics = dict[Resolution, Slots]
# A version's id, and its first and last minute that changed, in epoch seconds.
ChangedSpan = tuple[str, int, int]
# How many events count under `__other__`, by hour of a version and dimension.
MetricsLeftOut = Counter[tuple[MetricSlot, str]]


class MetricWriter:
    """Writes the cells of shards, each of which nobody else writes at the time."""

    def __init__(self) -> None:
        self._open: OpenCells[MetricSlot, OpenMetricCell] = OpenCells(MAX_WEIGHT)

    async def write(
        self, session: Session, shard: int, tallies: Mapping[Resolution, MetricTallies]
    ) -> tuple[TouchedMetrics, MetricsLeftOut]:
        """Adds tallies to the cells of a shard. What it gives is to be handed to `keep` once it is committed."""
        hours = await self._known(session, Resolution.HOUR, shard, tallies[Resolution.HOUR])
        left_out = await self._left_out(session, shard, tallies[Resolution.HOUR], hours)
        counts = MetricsLeftOut()
        if left_out:
            counts = events_left_out(tallies[Resolution.HOUR], left_out)
            tallies = {resolution: capped(added, left_out, merged_tallies) for resolution, added in tallies.items()}
            await self._complete(session, Resolution.HOUR, shard, tallies[Resolution.HOUR], hours)
        touched: TouchedMetrics = {}
        for resolution, added in tallies.items():
            is_hour = resolution is Resolution.HOUR
            slots = touched[resolution] = hours if is_hour else await self._known(session, resolution, shard, added)
            for slot, cells in added.items():
                open_slot = slots.setdefault(slot, OpenSlot(is_whole=True))
                for cell, tally in cells.items():
                    if cell not in open_slot.cells:
                        open_slot.cells[cell] = OpenMetricCell()
                    open_slot.cells[cell].add(tally)
            await _write(session, resolution, shard, added, slots)
        return touched, counts

    def keep(self, shard: int, touched: TouchedMetrics) -> None:
        """Remembers cells as they were committed."""
        for resolution, slots in touched.items():
            self._open.put(shard, resolution, slots)

    def forget(self, shard: int) -> None:
        """Forgets a shard that somebody else may have written."""
        self._open.forget(shard)

    async def _known(self, session: Session, resolution: Resolution, shard: int, added: MetricTallies) -> Slots:
        """What the shard has in these slots: from memory, else from its table; a slot without its total has nothing."""
        known = self._open.take(shard, resolution, added)
        unmet = [(slot, TOTAL, "") for slot in added if slot not in known]
        for slot in await _read(session, resolution, shard, unmet):
            known[slot] = OpenSlot(is_whole=False)
        await self._complete(session, resolution, shard, added, known)
        return known

    async def _complete(
        self, session: Session, resolution: Resolution, shard: int, added: MetricTallies, known: Slots
    ) -> None:
        """Reads what is added to and not in memory."""
        missing = [
            (slot, *cell)
            for slot, open_slot in known.items()
            if not open_slot.is_whole
            for cell in added[slot]
            if cell not in open_slot.cells
        ]
        for slot, cells in (await _read(session, resolution, shard, missing)).items():
            known[slot].cells |= {cell: OpenMetricCell(summary) for cell, summary in cells.items()}

    async def _left_out(
        self, session: Session, shard: int, hours: MetricTallies, known: Slots
    ) -> dict[MetricSlot, set[Cell]]:
        """Cells of hours that have no room for them; how many values an hour of another worker has is asked once."""
        new = {}
        for slot, cells in hours.items():
            if found := new_cells(cells, known.setdefault(slot, OpenSlot(is_whole=True))):
                new[slot] = found
        unmet = {
            (slot, dimension)
            for slot, cells in new.items()
            if not known[slot].is_whole
            for dimension, _ in cells
            if dimension not in known[slot].values
        }
        if unmet:
            keys = ((s.tenant_id, s.version_id, d, bucket_time(s.bucket), s.is_bot) for s, d in unmet)
            for row in await session.fetch(COUNT_VALUES, shard, *map(list, zip(*keys, strict=True))):
                known[_slot_of(row)].values[row["dimension"]] = row["found"]
        left_out = {slot: set(let_in(cells, known[slot])) for slot, cells in new.items()}
        return {slot: cells for slot, cells in left_out.items() if cells}


def spans_of(touched: TouchedMetrics) -> dict[UUID, list[ChangedSpan]]:
    """Which minutes of which versions changed, by tenant."""
    spans: dict[tuple[UUID, UUID], tuple[int, int]] = {}
    for slot in touched.get(Resolution.MINUTE, {}):
        place = (slot.tenant_id, slot.version_id)
        first, last = spans.get(place, (slot.bucket, slot.bucket))
        spans[place] = min(first, slot.bucket), max(last, slot.bucket)
    by_tenant: dict[UUID, list[ChangedSpan]] = {}
    for (tenant_id, version_id), span in spans.items():
        by_tenant.setdefault(tenant_id, []).append((str(version_id), *span))
    return by_tenant


def metrics_left_out(counts: MetricsLeftOut, metrics: Known) -> LeftOut:
    """The same counts by what a tenant calls it: `metric/dimension`."""
    keys = {version.id: version.key for counted in metrics.values() for version in counted.versions}
    left_out = LeftOut()
    for (slot, dimension), count in counts.items():
        left_out[slot.tenant_id, f"{keys[slot.version_id]}/{dimension}"] += count
    return left_out


async def _read(
    session: Session, resolution: Resolution, shard: int, places: Sequence[tuple[MetricSlot, str, str]]
) -> dict[MetricSlot, dict[Cell, MetricSummary]]:
    if not places:
        return {}
    keys = [
        (slot.tenant_id, slot.version_id, dimension, bucket_time(slot.bucket), value, slot.is_bot)
        for slot, dimension, value in places
    ]
    rows = await session.fetch(READ_CELLS[resolution], shard, *map(list, zip(*keys, strict=True)))
    found: dict[MetricSlot, dict[Cell, MetricSummary]] = {}
    for row in rows:
        found.setdefault(_slot_of(row), {})[row["dimension"], row["value"]] = MetricSummary.from_row(row)
    return found


async def _write(session: Session, resolution: Resolution, shard: int, added: MetricTallies, slots: Slots) -> None:
    """Whole values of the cells that were added to."""
    rows = [
        (slot.tenant_id, slot.version_id, cell[0], bucket_time(slot.bucket), cell[1], slot.is_bot,
            *slots[slot].cells[cell].summary.columns())
        for slot, cells in added.items()
        for cell in cells
    ]  # fmt: skip
    for start in range(0, len(rows), ROWS_AT_ONCE):
        columns = zip(*rows[start : start + ROWS_AT_ONCE], strict=True)
        await session.execute(WRITE_CELLS[resolution], shard, *map(list, columns))


def _slot_of(row: Any) -> MetricSlot:
    return MetricSlot(row["tenant_id"], row["version_id"], row["bucket"], row["is_bot"])
