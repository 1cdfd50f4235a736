"""The cells of tenants' own metrics in the database: how they are read and written, and which minutes changed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any
from uuid import UUID

from core.database import Session
from core.metric_cells import MetricSummary
from core.queries import named
from core.rollups import Resolution
from pipeline.cell_writer import Added, After, CellWriter, bucket_time
from pipeline.cells import OpenMetricCell, OpenSlot
from pipeline.counted_metrics import Cell, Known
from pipeline.metric_fold import MetricSlot, MetricTally, merged_tallies
from pipeline.rollup_writer import LeftOut

TABLES = {r: named("metric_cells", f"table_{r.value}").text for r in Resolution}
READ_CELLS = {r: named("metric_cells", "read_cells").filled(table=TABLES[r]) for r in Resolution}
WRITE_CELLS = {r: named("metric_cells", "write_cells").filled(table=TABLES[r]) for r in Resolution}
COUNT_VALUES = named("metric_cells", "count_values")
# Rows of one statement: what it is given is built in memory.
ROWS_AT_ONCE = 2_000
# About 30 MB.
MAX_WEIGHT = 300_000

TouchedMetrics = dict[Resolution, dict[MetricSlot, OpenSlot[OpenMetricCell]]]
# A version's id, and its first and last minute that changed, in epoch seconds.
ChangedSpan = tuple[str, int, int]
# How many events count under `__other__`, by hour of a version and dimension.
MetricsLeftOut = Counter[tuple[MetricSlot, str]]


class MetricWriter(CellWriter[MetricSlot, OpenMetricCell, MetricTally]):
    """Writes the cells of tenants' own metrics."""

    def __init__(self) -> None:
        super().__init__(MAX_WEIGHT)

    def _new_cell(self) -> OpenMetricCell:
        return OpenMetricCell()

    def _merged(self, tallies: Sequence[MetricTally]) -> MetricTally:
        return merged_tallies(tallies)

    async def _read(
        self, session: Session, resolution: Resolution, shard: int, places: Sequence[tuple[MetricSlot, str, str]]
    ) -> dict[MetricSlot, dict[Cell, OpenMetricCell]]:
        keys = [
            (slot.tenant_id, slot.version_id, dimension, bucket_time(slot.bucket), value, slot.is_bot)
            for slot, dimension, value in places
        ]
        rows = await session.fetch(READ_CELLS[resolution], shard, *map(list, zip(*keys, strict=True)))
        found: dict[MetricSlot, dict[Cell, OpenMetricCell]] = {}
        for row in rows:
            cells = found.setdefault(_slot_of(row), {})
            cells[row["dimension"], row["value"]] = OpenMetricCell(MetricSummary.from_row(row))
        return found

    async def _count_values(
        self, session: Session, shard: int, hours: Collection[tuple[MetricSlot, str]]
    ) -> list[tuple[MetricSlot, str, int]]:
        keys = [(s.tenant_id, s.version_id, dimension, bucket_time(s.bucket), s.is_bot) for s, dimension in hours]
        rows = await session.fetch(COUNT_VALUES, shard, *map(list, zip(*keys, strict=True)))
        return [(_slot_of(row), row["dimension"], row["found"]) for row in rows]

    async def _write(
        self,
        session: Session,
        shard: int,
        tallies: Added[MetricSlot, MetricTally],
        touched: After[MetricSlot, OpenMetricCell],
    ) -> None:
        for resolution, added in tallies.items():
            rows = [
                (slot.tenant_id, slot.version_id, cell[0], bucket_time(slot.bucket), cell[1], slot.is_bot,
                    *touched[resolution][slot].cells[cell].summary.columns())
                for slot, cells in added.items()
                for cell in cells
            ]  # fmt: skip
            for start in range(0, len(rows), ROWS_AT_ONCE):
                columns = zip(*rows[start : start + ROWS_AT_ONCE], strict=True)
                await session.execute(WRITE_CELLS[resolution], shard, *map(list, columns))


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


def _slot_of(row: Any) -> MetricSlot:
    return MetricSlot(row["tenant_id"], row["version_id"], row["bucket"], row["is_bot"])
