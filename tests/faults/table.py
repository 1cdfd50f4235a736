"""The one table that a campaign ends with."""

from __future__ import annotations

from collections.abc import Iterable

from tests.faults.campaign import Outcome
from tests.faults.checker import Kind

HEAD = (
    "fault", "log", "what", "runs", "acknowledged", "lost", "duplicated", "unexpected", "recovered",
    "s to first 202", "s to lag 0", "longest call s",
)  # fmt: skip


def table(outcomes: Iterable[Outcome]) -> str:
    """Rows for Markdown; seconds are median / worst of the runs."""
    lines = ["| " + " | ".join(HEAD) + " |", "|" + "---|" * len(HEAD)]
    for outcome in outcomes:
        what = outcome.fault.name + (f" (not run: {outcome.not_run})" if outcome.not_run else "")
        numbers = [outcome.runs, outcome.acknowledged, *outcome.found.values(), outcome.recovered]
        times = [_spread(outcome.to_accept), _spread(outcome.to_drain), f"{outcome.longest_call:.1f}"]
        cells = [outcome.fault.id, outcome.log, what, *(f"{n:,}" for n in numbers), *times]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def failures(outcomes: Iterable[Outcome]) -> list[str]:
    """What went wrong beside the events, a line each."""
    return [f"{o.fault.id} on {o.log}: {failure}" for o in outcomes for failure in o.failures]


def last_line(outcomes: Iterable[Outcome]) -> str:
    found = list(outcomes)
    lost, duplicated, unexpected = (sum(outcome.found[kind] for outcome in found) for kind in Kind)
    acknowledged, recovered = sum(o.acknowledged for o in found), sum(o.recovered for o in found)
    return (
        f"acknowledged {acknowledged} lost {lost} duplicated {duplicated} unexpected {unexpected} recovered {recovered}"
    )


def _spread(seconds: list[float]) -> str:
    if not seconds:
        return ""
    ordered = sorted(seconds)
    return f"{ordered[len(ordered) // 2]:.1f} / {ordered[-1]:.1f}"
