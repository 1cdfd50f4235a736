"""`store show|move`: how a local instance stores its events, and the move from partitions to TimescaleDB."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys

from cloudmetrics.data_folder import DEFAULT, running_instance
from sql.__main__ import move, status

SUMMARY = "how events are stored; move them from partitions to TimescaleDB"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "`show` says which migrations ran and how events are stored. `move` takes them from PostgreSQL's partitions "
        "to TimescaleDB, all or nothing; readers and workers wait meanwhile, and the disk needs room for two copies. "
        "The instance must have been started with CLOUDMETRICS_TIMESCALEDB."
    )
    parser.add_argument("action", choices=["show", "move"], help="which")
    parser.add_argument("--data", default=DEFAULT, metavar="DIR", help="data folder (default: %(default)s)")


def run(args: argparse.Namespace) -> int:
    folder, _ = running_instance(args.data)
    url = folder.running_settings(os.environ).owner_url
    if args.action == "show":
        print("\n".join(asyncio.run(status(url))))
        return 0
    moved = asyncio.run(move(url, lambda text: print(text, file=sys.stderr, flush=True)))
    print(f"moved {moved} events to TimescaleDB")
    return 0
