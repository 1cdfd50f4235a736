"""Which stores a range is read from: whole buckets from the coarsest that fits, ragged ends from finer ones. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from core.rollups import Resolution

# Where each store has everything from, in epoch seconds; None is raw events. The coarsest first.
Since = Mapping[Resolution | None, int]
# A further statement costs about what so many stored buckets do.
STATEMENT_COST = 100
# A second of raw events counts as so many stored buckets.
RAW_COST = 10


@dataclass(frozen=True, slots=True)
class Piece:
    """[start, end) in epoch seconds, and the store it is read from; None is raw events."""

    resolution: Resolution | None
    start: int
    end: int

    @property
    def cost(self) -> float:
        """About how many stored buckets that is, of each group."""
        length = self.end - self.start
        return length * RAW_COST if self.resolution is None else length / self.resolution.seconds


def pieces_of(edges: Sequence[int], since: Since) -> tuple[tuple[Piece, ...], int | None]:
    """The cheapest pieces that cover buckets with these edges, none of whose stored buckets crosses an edge; and of
    which part, up to when, there is nothing any more: it is left out whole, since half of a bucket would mislead."""
    levels = list(since)
    covers = [_cover(edges, levels[n:], since) for n in range(len(levels))]
    if not covers:
        return (), edges[-1]
    return min(covers, key=lambda cover: (cover[1] or edges[0], _cost(cover[0])))


def _cost(pieces: Sequence[Piece]) -> float:
    return sum(piece.cost for piece in pieces) + STATEMENT_COST * len({piece.resolution for piece in pieces})


def _cover(
    edges: Sequence[int], levels: Sequence[Resolution | None], since: Since
) -> tuple[tuple[Piece, ...], int | None]:
    """Each bucket's inside from the coarsest level, what remains at its ends from the next, and so on."""
    rest = list(zip(edges, edges[1:], strict=False))
    found: list[Piece] = []
    for level in levels:
        taken, rest = _take(level, since[level], rest)
        found += _joined(level, taken)
    missing = max((end for _, end in rest), default=None)
    if missing is None:
        return tuple(found), None
    kept = [Piece(p.resolution, max(p.start, missing), p.end) for p in found if p.end > missing]
    if not kept:
        # Nothing of it is left: as much of the store that would have it.
        fitting = [level for level in levels if level is None or all(edge % level.seconds == 0 for edge in edges)]
        level = (fitting or levels)[0]
        kept = [Piece(level, edges[-1], edges[-1])]
    return tuple(kept), missing


def _take(
    level: Resolution | None, since: int, spans: Sequence[tuple[int, int]]
) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """What of the spans a level has, and what it leaves."""
    length = 1 if level is None else level.seconds
    taken: list[tuple[int, int]] = []
    rest: list[tuple[int, int]] = []
    for start, end in spans:
        first, last = -(-max(start, since) // length) * length, end // length * length
        if first >= last:
            rest.append((start, end))
            continue
        taken.append((first, last))
        if start < first:
            rest.append((start, first))
        if last < end:
            rest.append((last, end))
    return taken, rest


def _joined(level: Resolution | None, spans: Sequence[tuple[int, int]]) -> Iterator[Piece]:
    """Spans that touch as one piece."""
    start: int | None = None
    end = 0
    for first, last in spans:
        if start is not None and first != end:
            yield Piece(level, start, end)
            start = None
        start = first if start is None else start
        end = last
    if start is not None:
        yield Piece(level, start, end)
