"""How cells are written within a transaction that counts, of built-in metrics and of tenants' own alike: tallies are
added to what the shard's cells had, values that an hour has no room for go to `__other__`, and whole values are
written."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Generic, TypeVar

from core.database import Session
from core.rollups import TOTAL, Resolution
from pipeline.capping import Timed, capped, events_left_out, let_in, new_cells
from pipeline.cells import Counting, OpenCells, OpenSlot
from pipeline.fold import Cell

S = TypeVar("S", bound=Timed)
C = TypeVar("C", bound=Counting)
T = TypeVar("T")

# A slot, and a dimension and a value of it.
Place = tuple[S, str, str]
# What a batch adds, and slots as they are after it, by resolution.
Added = Mapping[Resolution, Mapping[S, Mapping[Cell, T]]]
After = Mapping[Resolution, Mapping[S, OpenSlot[C]]]


class CellWriter(ABC, Generic[S, C, T]):
    """Writes the cells of shards, each of which nobody else writes at the time: S is a slot, C one of its cells while
    it is open, T what a batch adds to one."""

    def __init__(self, max_weight: int) -> None:
        self._open: OpenCells[S, C] = OpenCells(max_weight)

    async def write(
        self, session: Session, shard: int, tallies: Added[S, T]
    ) -> tuple[dict[Resolution, dict[S, OpenSlot[C]]], Counter[tuple[S, str]]]:
        """Adds tallies to the cells of a shard: the slots as they are then, to be handed to `keep` once it is
        committed; and how many events count under `__other__`, by hour and dimension."""
        added = tallies[Resolution.HOUR]
        hours = await self._known(session, Resolution.HOUR, shard, added)
        left_out = await self._left_out(session, shard, added, hours)
        counts = events_left_out(added, left_out)
        if left_out:
            tallies = {resolution: capped(added, left_out, self._merged) for resolution, added in tallies.items()}
            await self._complete(session, Resolution.HOUR, shard, tallies[Resolution.HOUR], hours)
        touched = {Resolution.HOUR: hours}
        for resolution, added in tallies.items():
            if resolution is not Resolution.HOUR:
                touched[resolution] = await self._known(session, resolution, shard, added)
            self._add(added, touched[resolution])
        await self._write(session, shard, tallies, touched)
        return touched, counts

    def keep(self, shard: int, touched: After[S, C]) -> None:
        """Remembers cells as they were committed."""
        for resolution, slots in touched.items():
            self._open.put(shard, resolution, slots)

    def forget(self, shard: int) -> None:
        """Forgets a shard that somebody else may have written."""
        self._open.forget(shard)

    @abstractmethod
    def _new_cell(self) -> C:
        """A cell in which nothing counts."""

    @abstractmethod
    def _merged(self, tallies: Sequence[T]) -> T:
        """One tally of several."""

    @abstractmethod
    async def _read(
        self, session: Session, resolution: Resolution, shard: int, places: Sequence[Place[S]]
    ) -> dict[S, dict[Cell, C]]:
        """Those of the cells that the shard has in its table; at least one is asked for."""

    @abstractmethod
    async def _count_values(
        self, session: Session, shard: int, hours: Collection[tuple[S, str]]
    ) -> list[tuple[S, str, int]]:
        """How many values dimensions of hours have in the table; none is not told."""

    @abstractmethod
    async def _write(self, session: Session, shard: int, tallies: Added[S, T], touched: After[S, C]) -> None:
        """Writes the whole values of the cells that have a tally."""

    def _add(self, added: Mapping[S, Mapping[Cell, T]], slots: dict[S, OpenSlot[C]]) -> None:
        for slot, cells in added.items():
            open_slot = slots.setdefault(slot, OpenSlot(is_whole=True))
            for cell, tally in cells.items():
                if cell not in open_slot.cells:
                    open_slot.cells[cell] = self._new_cell()
                open_slot.cells[cell].add(tally)

    async def _known(
        self, session: Session, resolution: Resolution, shard: int, added: Mapping[S, Mapping[Cell, T]]
    ) -> dict[S, OpenSlot[C]]:
        """What the shard has in these slots: from memory, else from its table. A slot without its total has no cell at
        all: asked first, it saves looking for each cell of a new bucket."""
        known = self._open.take(shard, resolution, added)
        unmet = [(slot, TOTAL, "") for slot in added if slot not in known]
        if unmet:
            for slot in await self._read(session, resolution, shard, unmet):
                known[slot] = OpenSlot(is_whole=False)
        await self._complete(session, resolution, shard, added, known)
        return known

    async def _complete(
        self,
        session: Session,
        resolution: Resolution,
        shard: int,
        added: Mapping[S, Mapping[Cell, T]],
        known: Mapping[S, OpenSlot[C]],
    ) -> None:
        """Reads what is added to and not in memory."""
        missing = [
            (slot, *cell)
            for slot, open_slot in known.items()
            if not open_slot.is_whole
            for cell in added[slot]
            if cell not in open_slot.cells
        ]
        if missing:
            for slot, cells in (await self._read(session, resolution, shard, missing)).items():
                known[slot].cells |= cells

    async def _left_out(
        self, session: Session, shard: int, hours: Mapping[S, Mapping[Cell, T]], known: dict[S, OpenSlot[C]]
    ) -> dict[S, set[Cell]]:
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
            for slot, dimension, count in await self._count_values(session, shard, unmet):
                known[slot].values[dimension] = count
        left_out = {slot: set(let_in(cells, known[slot])) for slot, cells in new.items()}
        return {slot: cells for slot, cells in left_out.items() if cells}


@lru_cache(maxsize=10_000)
def bucket_time(bucket: int) -> datetime:
    """A bucket's start, given in epoch seconds."""
    return datetime.fromtimestamp(bucket, UTC)
