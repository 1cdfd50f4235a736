"""The cells of built-in metrics in the database: how they are read, and written by way of a staging table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any
from uuid import UUID

from core.database import Session
from core.queries import joined, named
from core.rollups import TOTAL, Resolution, Slot
from core.summary import Summary, SummaryRow
from pipeline import copying
from pipeline.cell_writer import Added, After, CellWriter, bucket_time
from pipeline.cells import OpenCell, OpenSlot
from pipeline.fold import Cell, Tally, merged

TABLES = {r: named("aggregate", f"table_{r.value}").text for r in Resolution}
READ_CELLS = {r: named("aggregate", "read_cells").filled(table=TABLES[r]) for r in Resolution}
WRITE_CELLS = joined(
    *(named("aggregate", "write_cells").filled(table=TABLES[r], resolution=r.value) for r in Resolution)
)

CELL_COLUMNS = (
    "tenant_id", "dimension", "bucket", "type", "value", "is_bot", "shard", "count", "errors", "bytes",
    "duration_count", "duration_sum", "duration_min", "duration_max", "visitors", "sessions", "durations",
    "resolution",
)  # fmt: skip
SUMMARY_COLUMNS = len(SummaryRow.__struct_fields__)
_START = copying.row_start(len(CELL_COLUMNS))

COUNT_VALUES = named("aggregate", "count_values")

# Slots by resolution, as they are after a batch.
Touched = dict[Resolution, dict[Slot, OpenSlot[OpenCell]]]
# How many events count under `__other__`, by tenant and what they would have been grouped by.
LeftOut = Counter[tuple[UUID, str]]
# About 60 MB.
MAX_WEIGHT = 600_000


class RollupWriter(CellWriter[Slot, OpenCell, Tally]):
    """Writes the cells of built-in metrics, by way of a staging table."""

    def __init__(self) -> None:
        super().__init__(MAX_WEIGHT)

    def _new_cell(self) -> OpenCell:
        return OpenCell()

    def _merged(self, tallies: Sequence[Tally]) -> Tally:
        return merged(tallies)

    async def _read(
        self, session: Session, resolution: Resolution, shard: int, places: Sequence[tuple[Slot, str, str]]
    ) -> dict[Slot, dict[Cell, OpenCell]]:
        keys = [
            (slot.tenant_id, dimension, bucket_time(slot.bucket), slot.type, value, slot.is_bot)
            for slot, dimension, value in places
        ]
        rows = await session.fetch(READ_CELLS[resolution], shard, *map(list, zip(*keys, strict=True)))
        found: dict[Slot, dict[Cell, OpenCell]] = {}
        for row in rows:
            cells = found.setdefault(slot_of(row), {})
            cells[row["dimension"], row["value"]] = OpenCell(Summary.from_row(summary_of(row)))
        return found

    async def _count_values(
        self, session: Session, shard: int, hours: Collection[tuple[Slot, str]]
    ) -> list[tuple[Slot, str, int]]:
        keys = [(s.tenant_id, dimension, bucket_time(s.bucket), s.type, s.is_bot) for s, dimension in hours]
        rows = await session.fetch(COUNT_VALUES, shard, *map(list, zip(*keys, strict=True)))
        return [(slot_of(row), row["dimension"], row["found"]) for row in rows]

    async def _write(
        self, session: Session, shard: int, tallies: Added[Slot, Tally], touched: After[Slot, OpenCell]
    ) -> None:
        await session.copy_binary("staged_rollups", CELL_COLUMNS, copying.in_chunks(_rows(shard, tallies, touched)))
        await session.execute(WRITE_CELLS)


def left_out_of_tenants(counts: Counter[tuple[Slot, str]]) -> LeftOut:
    """The same counts by tenant and dimension."""
    left_out = LeftOut()
    for (slot, dimension), count in counts.items():
        left_out[slot.tenant_id, dimension] += count
    return left_out


def totals_of(touched: Touched) -> dict[Slot, SummaryRow]:
    """The new total of every minute that was touched."""
    minutes = touched.get(Resolution.MINUTE, {})
    return {slot: open_slot.cells[TOTAL, ""].summary.to_row() for slot, open_slot in minutes.items()}


def _rows(shard: int, tallies: Added[Slot, Tally], touched: After[Slot, OpenCell]) -> Iterator[bytes]:
    """Changed cells as rows of `CELL_COLUMNS` for a binary COPY."""
    for resolution, added in tallies.items():
        end = copying.text(resolution.value)
        for slot, cells in added.items():
            yield from _slot_rows(slot, shard, cells, touched[resolution][slot].cells, end)


def _slot_rows(
    slot: Slot, shard: int, changed: Mapping[Cell, Tally], cells: Mapping[Cell, OpenCell], end: bytes
) -> Iterator[bytes]:
    text, bigint, double, data = copying.text, copying.bigint, copying.double, copying.data
    tenant, bucket = data(slot.tenant_id.bytes), copying.moment(slot.bucket * 1000)
    type_, is_bot = text(slot.type), copying.boolean(value=slot.is_bot)
    number = copying.integer(shard)
    for dimension, value in changed:
        found = cells[dimension, value].summary
        yield b"".join(
            (
                _START, tenant, text(dimension), bucket, type_, text(value), is_bot, number, bigint(found.count),
                bigint(found.errors), bigint(found.bytes), bigint(found.duration_count), double(found.duration_sum),
                double(found.duration_min), double(found.duration_max), data(found.visitors.to_bytes()),
                data(found.sessions.to_bytes()), data(found.durations.to_bytes()), end,
            )
        )  # fmt: skip


def slot_of(row: Any) -> Slot:
    """The slot of a rollup row whose `bucket` is in epoch seconds."""
    return Slot(row["tenant_id"], row["bucket"], row["type"], row["is_bot"])


def summary_of(row: Any) -> SummaryRow:
    """The summary of a rollup row that ends with the summary's columns, in the order of `SummaryRow`."""
    return SummaryRow(*row[-SUMMARY_COLUMNS:])
