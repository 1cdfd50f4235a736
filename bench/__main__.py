"""`python -m bench [ID…]`: ours beside peers and limits, on this machine, in one run.

Never asserted in tests. What is printed goes into `bench/results.json` too; ids that were not run keep their entry.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from pathlib import Path
from typing import Any

import uvloop

from bench.case import Case, Size
from bench.cases import dashboards, fanout, ingest, pipeline, relay
from bench.machine import describe
from bench.reports import freshness, growth, journeys, month, sockets, whole_way
from bench.reports.report import Length, Report
from bench.rounds import record_of, run_case

RESULTS = Path(__file__).resolve().parent / "results.json"
REPORTS: dict[str, Report] = {
    report.id: report for report in (whole_way.E1, freshness.E2, growth.GROWTH, month.Q4, journeys.Q5, sockets.SOCKETS)
}
SCREENS = (dashboards.Q1, dashboards.Q1_NODE, dashboards.Q2, dashboards.Q3)
FANOUT = (fanout.F1, fanout.F2A, fanout.F2B, fanout.F3, relay.F4)
CASES: dict[str, Case] = {case.id: case for case in (ingest.I1, ingest.I2, pipeline.P1, pipeline.P2, *SCREENS, *FANOUT)}
KNOWN = (*CASES, *REPORTS)


def keep(records: list[dict[str, Any]], machine: dict[str, str], path: Path) -> None:
    """Puts records over those with the same id."""
    known = json.loads(path.read_text(encoding="utf-8"))["results"] if path.exists() else []
    fresh = {record["id"]: {**record, "machine": machine} for record in records}
    merged = {record["id"]: record for record in known} | fresh
    text = json.dumps({"results": [merged[name] for name in sorted(merged)]}, indent=1)
    path.write_text(text + "\n", encoding="utf-8")


async def run(options: argparse.Namespace) -> None:
    print("\n".join(f"{name:<9}{value}" for name, value in describe().items()))
    size = Size(options.seconds, options.events)
    length = Length(
        minutes=options.minutes,
        step_seconds=min(30.0, options.minutes * 60),
        stored_events=options.stored,
        tenants=options.tenants,
    )
    for name in options.ids or [*CASES, *REPORTS]:
        if name in CASES:
            record = record_of(await run_case(CASES[name], size, options.rounds, print))
        else:
            report = REPORTS[name]
            print(f"\n{report.id}  {report.title}")
            record = {"id": report.id, "title": report.title, **await report.run(length, print)}
        # Described anew: its load is that of the rounds.
        keep([record], describe(), Path(options.results))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("ids", nargs="*", metavar="ID", help=f"of {', '.join(KNOWN)}; none: all")
    parser.add_argument("--rounds", type=int, default=5, help="pairs of measurements (5)")
    parser.add_argument("--seconds", type=float, default=3.0, help="of load in each measurement over HTTP (3)")
    parser.add_argument("--events", type=int, default=40_000, help="events of each measurement of the pipeline (40000)")
    parser.add_argument("--minutes", type=float, default=10.0, help="how long E1 and E2 go on (10)")
    parser.add_argument(
        "--stored", type=int, default=10_000_000, help="events that growth, Q4 and Q5 store at most (10 million)"
    )
    parser.add_argument("--tenants", type=int, default=1_000, help="tenants that growth has at most (1000)")
    parser.add_argument("--results", default=str(RESULTS), help="where the JSON goes")
    options = parser.parse_args()
    if unknown := set(options.ids) - set(KNOWN):
        parser.error(f"unknown {', '.join(sorted(unknown))}; there are {', '.join(KNOWN)}")
    # It says at every try that a server which starts is not there yet.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    uvloop.run(run(options))
    return 0


if __name__ == "__main__":
    sys.exit(main())
