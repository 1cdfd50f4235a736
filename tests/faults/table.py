"""The one table that a campaign ends with."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby

from tests.faults.rows import Row

HEAD = (
    "fault", "log", "what", "runs", "acknowledged", "lost", "duplicated", "unexpected", "recovered",
    "s to first 202", "s to lag 0", "longest call s", "s a run",
)  # fmt: skip


def table(rows: Iterable[Row]) -> str:
    """Rows for Markdown, one for each fault on each log; seconds are median / worst of the runs."""
    lines = ["| " + " | ".join(HEAD) + " |", "|" + "---|" * len(HEAD)]
    for _, runs in groupby(rows, key=lambda row: (row.fault, row.log)):
        lines.append(_line(list(runs)))
    return "\n".join(lines)


def _line(runs: list[Row]) -> str:
    one, done = runs[0], [row for row in runs if not row.not_run]
    what = one.what + (f" (not run: {one.not_run})" if one.not_run else "")
    numbers = [
        len(done),
        *(sum(getattr(row, name) for row in runs) for name in HEAD[4:9]),
    ]
    times = [
        _spread(row.to_accept for row in done),
        _spread(row.to_drain for row in done),
        f"{max((row.longest_call for row in done), default=0.0):.1f}",
        _spread(row.seconds for row in done),
    ]
    return "| " + " | ".join([one.fault, one.log, what, *(f"{n:,}" for n in numbers), *times]) + " |"


def failures(rows: Iterable[Row]) -> list[str]:
    """What went wrong beside the events, a line each."""
    return [f"{row.fault} on {row.log}, run {row.run + 1}: {failure}" for row in rows for failure in row.failures]


def last_line(rows: Iterable[Row]) -> str:
    found = list(rows)
    return " ".join(f"{name} {sum(getattr(row, name) for row in found)}" for name in HEAD[4:9])


def _spread(seconds: Iterable[float | None]) -> str:
    ordered = sorted(second for second in seconds if second is not None)
    return f"{ordered[len(ordered) // 2]:.1f} / {ordered[-1]:.1f}" if ordered else ""
