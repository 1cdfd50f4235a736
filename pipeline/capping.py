"""The cap on cardinality: of one metric, dimension and hour a writer keeps so many values; events with others count
under `__other__`, at each resolution alike. Totals stay exact.

Values are let in as they come, by what the hour's cells hold within the transaction: a batch that is counted again
after a kill finds what the first try found, and lets the same in.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from core.metric_definitions import MAX_VALUES_AN_HOUR, OVERFLOW
from core.rollups import TOTAL, Resolution
from pipeline.cells import OpenSlot
from pipeline.fold import Cell


class Timed(Hashable, Protocol):
    """A slot, of built-in metrics or a tenant's own."""

    @property
    def bucket(self) -> int: ...

    def _replace(self, *, bucket: int) -> Any: ...


S = TypeVar("S", bound=Timed)
T = TypeVar("T")


def hour_of(slot: S) -> S:
    """The hour in which a slot of any resolution lies."""
    hour: S = slot._replace(bucket=slot.bucket // Resolution.HOUR.seconds * Resolution.HOUR.seconds)
    return hour


def new_cells(added: Iterable[Cell], slot: OpenSlot[Any]) -> list[Cell]:
    """Cells that the slot has not and that the cap is about: neither the total nor `__other__` itself."""
    return [cell for cell in added if cell not in slot.cells and cell[0] != TOTAL and cell[1] != OVERFLOW]


def let_in(new: Iterable[Cell], slot: OpenSlot[Any], most: int = MAX_VALUES_AN_HOUR) -> list[Cell]:
    """Those of new cells that there is no room for; the others are counted among the slot's values."""
    left_out = []
    for cell in new:
        known = slot.values.get(cell[0], 0)
        if known < most:
            slot.values[cell[0]] = known + 1
        else:
            left_out.append(cell)
    return left_out


def capped(
    tallies: Mapping[S, Mapping[Cell, T]],
    left_out: Mapping[S, Collection[Cell]],
    merged: Callable[[Sequence[T]], T],
) -> dict[S, dict[Cell, T]]:
    """Tallies of which those that are left out, named by their hour, are merged into `__other__`."""
    return {slot: _capped(cells, left_out.get(hour_of(slot)), merged) for slot, cells in tallies.items()}


def _capped(
    cells: Mapping[Cell, T], left_out: Collection[Cell] | None, merged: Callable[[Sequence[T]], T]
) -> dict[Cell, T]:
    if not left_out:
        return dict(cells)
    kept: dict[Cell, T] = {}
    others: dict[str, list[T]] = {}
    for cell, tally in cells.items():
        if cell in left_out:
            others.setdefault(cell[0], []).append(tally)
        else:
            kept[cell] = tally
    for dimension, tallies in others.items():
        place = (dimension, OVERFLOW)
        kept[place] = merged([*tallies, kept[place]] if place in kept else tallies)
    return kept


def events_left_out(
    hours: Mapping[S, Mapping[Cell, Any]], left_out: Mapping[S, Collection[Cell]]
) -> Counter[tuple[S, str]]:
    """How many events count under `__other__`, by hour and dimension."""
    counts: Counter[tuple[S, str]] = Counter()
    for hour, cells in left_out.items():
        for cell in cells:
            counts[hour, cell[0]] += hours[hour][cell].count
    return counts
