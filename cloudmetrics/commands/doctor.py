"""`doctor`: a probe event through every hop, each hop's time, and what to do where it stops."""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import json
import os
from collections import Counter

from cloudmetrics.data_folder import DEFAULT, DataFolder, running_instance
from cloudmetrics.lag import read_lag
from cloudmetrics.probe import Hop, open_probe
from core.errors import CloudMetricsError, Unavailable

SUMMARY = "send a probe event through every hop and time each"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Sends one event, of a tenant of its own, through every hop. Times of checks are their own; those after "
        "`accept` count from its 202. Exits 1 where a hop fails."
    )
    parser.add_argument("--data", default=DEFAULT, metavar="DIR", help="data folder (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="one line of JSON")


def run(args: argparse.Namespace) -> int:
    folder, note = running_instance(args.data)
    if not args.json:
        print(f"{note['url']}  data {folder.path}")
    hops = asyncio.run(_probe(folder, note["url"], is_quiet=args.json))
    is_ok = all(hop.is_ok for hop in hops)
    behind = _behind(folder)
    if args.json:
        rows = [
            {"hop": h.name, "ok": h.is_ok, "ms": h.ms, "detail": h.detail, **({"advice": h.advice} if h.advice else {})}
            for h in hops
        ]
        print(json.dumps({"ok": is_ok, "url": note["url"], "hops": rows, "behind": behind}))
    else:
        print(f"  records behind: {', '.join(f'{group} {n}' for group, n in behind.items()) or 'unknown'}")
        print("Every hop answers." if is_ok else "A hop fails.")
    return 0 if is_ok else 1


def _behind(folder: DataFolder) -> dict[str, int]:
    """Records that each group has not done; {} while the log is away. `status` has them by topic and tenant."""
    try:
        places = asyncio.run(read_lag(folder.running_settings(os.environ)))
    except Unavailable:
        return {}
    behind = Counter[str]()
    for place in places:
        behind[place.group] += place.records
    return dict(behind)


async def _probe(folder: DataFolder, url: str, *, is_quiet: bool) -> list[Hop]:
    hops: list[Hop] = []

    def take(hop: Hop) -> None:
        hops.append(hop)
        if not is_quiet:
            print(_line(hop), flush=True)

    try:
        async with open_probe(folder, url) as probe:
            async for hop in probe.run():
                take(hop)
    except CloudMetricsError as error:
        advice = "start what is down: see `status`, and the files in logs/ of the data folder"
        take(dataclasses.replace(Hop("set-up", False, 0.0, error.message), advice=advice))
    return hops


def _line(hop: Hop) -> str:
    text = f"  {'ok  ' if hop.is_ok else 'FAIL'}  {hop.name:18} {hop.ms:8.1f} ms  {hop.detail}"
    return f"{text}\n        what to do: {hop.advice}" if hop.advice else text
