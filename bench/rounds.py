"""Rounds: both sides of each case in turn, the order reversed every round; the score is the median of paired ratios.

A noisy minute then strikes both sides alike; best and worst show how much it did.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

from bench.case import Case, Result, Sample, Size

Say = Callable[[str], None]


async def run_case(case: Case, size: Size, rounds: int, say: Say) -> Result:
    """All rounds of one case."""
    result = Result(case)
    say(f"\n{case.id}  {case.title}")
    async with case.open(size) as sides:
        for number in range(rounds):
            if number % 2 == 0:
                ours = await sides.ours()
                other = await sides.other()
            else:
                other = await sides.other()
                ours = await sides.ours()
            result.pairs.append((ours, other))
            unit = case.unit
            pair = f"{ours.rate:>9,.1f}{unit} against {other.rate:>9,.1f}{unit}"
            say(f"  round {number + 1}: {pair} = {result.ratios[-1]:.3f}")
    for line in lines_of(result):
        say(line)
    return result


def lines_of(result: Result) -> list[str]:
    """A case's score and costs as people read them."""
    case, record = result.case, record_of(result)
    verdict = "reaches its goal" if case.reaches(record["median"], case.goal) else "keeps its floor"
    if not case.reaches(record["median"], case.floor):
        verdict = "MISSES ITS FLOOR"
    return [
        f"  median {record['median']:.3f}, best {record['best']:.3f}, worst {record['worst']:.3f}; "
        f"goal {case.goal:g}, floor {case.floor:g}: {verdict}",
        *(f"  {side:<6}{_costs(record[side], case.unit)}" for side in ("ours", "other")),
    ]


def _costs(side: dict[str, Any], unit: str) -> str:
    costs = ", ".join(f"{name} {us:.1f}" for name, us in side["cpu_us_per_event"].items())
    return f"{side['rate']:>9,.1f}{unit}; CPU us each: {costs}; its core {side['busy']:.0%} busy"


def record_of(result: Result) -> dict[str, Any]:
    """What goes into results.json."""
    ratios = result.ratios
    return {
        "id": result.case.id,
        "title": result.case.title,
        "median": statistics.median(ratios),
        "best": min(ratios) if result.case.is_lower_better else max(ratios),
        "worst": max(ratios) if result.case.is_lower_better else min(ratios),
        "goal": result.case.goal,
        "floor": result.case.floor,
        "rounds": len(ratios),
        "unit": result.case.unit,
        "ours": _side([pair[0] for pair in result.pairs]),
        "other": _side([pair[1] for pair in result.pairs]),
    }


def _side(samples: list[Sample]) -> dict[str, Any]:
    return {
        "rate": statistics.median(sample.rate for sample in samples),
        "best": max(sample.rate for sample in samples),
        "worst": min(sample.rate for sample in samples),
        "busy": statistics.median(sample.busy for sample in samples),
        "cpu_us_per_event": {
            name: statistics.median(sample.cpu_us[name] for sample in samples) for name in samples[0].cpu_us
        },
    }
