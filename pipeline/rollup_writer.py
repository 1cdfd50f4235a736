"""Rollups within the aggregate worker's transaction: tallies are added to what cells had, whole values are written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any
from uuid import UUID

from core.database import Session
from core.queries import joined, named
from core.rollups import TOTAL, Resolution, Slot
from core.summary import Summary, SummaryRow
from pipeline import copying
from pipeline.capping import capped, events_left_out, let_in, new_cells
from pipeline.cells import OpenCell, OpenCells, OpenSlot
from pipeline.fold import Cell, Tallies, Tally, merged

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

Slots = dict[Slot, OpenSlot[OpenCell]]
# Slots by resolution, as they are after a batch.
Touched = dict[Resolution, Slots]
# How many events count under `__other__`, by tenant and what they would have been grouped by.
LeftOut = Counter[tuple[UUID, str]]


class RollupWriter:
    """Writes the rollups of shards, each of which nobody else writes at the time."""

    def __init__(self) -> None:
        self._open: OpenCells[Slot, OpenCell] = OpenCells()

    async def write(
        self, session: Session, shard: int, tallies: Mapping[Resolution, Tallies]
    ) -> tuple[Touched, LeftOut]:
        """Adds tallies to the cells of a shard, by way of the staging tables. What it gives is to be handed to `keep`
        once it is committed."""
        hours = await self._known(session, Resolution.HOUR, shard, tallies[Resolution.HOUR])
        left_out = await self._left_out(session, shard, tallies[Resolution.HOUR], hours)
        counts = LeftOut()
        if left_out:
            for (slot, dimension), count in events_left_out(tallies[Resolution.HOUR], left_out).items():
                counts[slot.tenant_id, dimension] += count
            tallies = {resolution: capped(added, left_out, merged) for resolution, added in tallies.items()}
            await self._complete(session, Resolution.HOUR, shard, tallies[Resolution.HOUR], hours)
        touched: Touched = {}
        for resolution, added in tallies.items():
            is_hour = resolution is Resolution.HOUR
            slots = touched[resolution] = hours if is_hour else await self._known(session, resolution, shard, added)
            for slot, cells in added.items():
                open_slot = slots.setdefault(slot, OpenSlot(is_whole=True))
                for cell, tally in cells.items():
                    if cell not in open_slot.cells:
                        open_slot.cells[cell] = OpenCell()
                    open_slot.cells[cell].add(tally)
        await session.copy_binary("staged_rollups", CELL_COLUMNS, copying.in_chunks(_rows(shard, tallies, touched)))
        await session.execute(WRITE_CELLS)
        return touched, counts

    def keep(self, shard: int, touched: Touched) -> None:
        """Remembers cells as they were committed."""
        for resolution, slots in touched.items():
            self._open.put(shard, resolution, slots)

    def forget(self, shard: int) -> None:
        """Forgets a shard that somebody else may have written."""
        self._open.forget(shard)

    async def _known(self, session: Session, resolution: Resolution, shard: int, added: Tallies) -> Slots:
        """What the shard has in these slots: from memory, else from its table. A slot without its total has no cell at
        all: asked first, it saves looking for each cell of a new bucket."""
        known = self._open.take(shard, resolution, added)
        unmet = [(slot, TOTAL, "") for slot in added if slot not in known]
        for slot in await self._read(session, resolution, shard, unmet):
            known[slot] = OpenSlot(is_whole=False)
        await self._complete(session, resolution, shard, added, known)
        return known

    async def _complete(
        self, session: Session, resolution: Resolution, shard: int, added: Tallies, known: Slots
    ) -> None:
        """Reads what is added to and not in memory."""
        missing = [
            (slot, *cell)
            for slot, open_slot in known.items()
            if not open_slot.is_whole
            for cell in added[slot]
            if cell not in open_slot.cells
        ]
        for slot, cells in (await self._read(session, resolution, shard, missing)).items():
            known[slot].cells |= {cell: OpenCell(summary) for cell, summary in cells.items()}

    async def _left_out(self, session: Session, shard: int, hours: Tallies, known: Slots) -> dict[Slot, set[Cell]]:
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
            columns = zip(*((s.tenant_id, d, bucket_time(s.bucket), s.type, s.is_bot) for s, d in unmet), strict=True)
            for row in await session.fetch(COUNT_VALUES, shard, *map(list, columns)):
                known[slot_of(row)].values[row["dimension"]] = row["found"]
        left_out = {slot: set(let_in(cells, known[slot])) for slot, cells in new.items()}
        return {slot: cells for slot, cells in left_out.items() if cells}

    async def _read(
        self, session: Session, resolution: Resolution, shard: int, places: Sequence[tuple[Slot, str, str]]
    ) -> dict[Slot, dict[Cell, Summary]]:
        if not places:
            return {}
        keys = [
            (slot.tenant_id, dimension, bucket_time(slot.bucket), slot.type, value, slot.is_bot)
            for slot, dimension, value in places
        ]
        rows = await session.fetch(READ_CELLS[resolution], shard, *(list(column) for column in zip(*keys, strict=True)))
        found: dict[Slot, dict[Cell, Summary]] = {}
        for row in rows:
            cells = found.setdefault(slot_of(row), {})
            cells[row["dimension"], row["value"]] = Summary.from_row(summary_of(row))
        return found


def totals_of(touched: Touched) -> dict[Slot, SummaryRow]:
    """The new total of every minute that was touched."""
    minutes = touched.get(Resolution.MINUTE, {})
    return {slot: open_slot.cells[TOTAL, ""].summary.to_row() for slot, open_slot in minutes.items()}


def _rows(shard: int, tallies: Mapping[Resolution, Tallies], touched: Touched) -> Iterator[bytes]:
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


@lru_cache(maxsize=10_000)
def bucket_time(bucket: int) -> datetime:
    return datetime.fromtimestamp(bucket, UTC)


def slot_of(row: Any) -> Slot:
    """The slot of a rollup row whose `bucket` is in epoch seconds."""
    return Slot(row["tenant_id"], row["bucket"], row["type"], row["is_bot"])


def summary_of(row: Any) -> SummaryRow:
    """The summary of a rollup row that ends with the summary's columns, in the order of `SummaryRow`."""
    return SummaryRow(*row[-SUMMARY_COLUMNS:])
