"""`down`: an orderly stop from elsewhere."""

from __future__ import annotations

import argparse
import os
import signal
import sys

from cloudmetrics.data_folder import DEFAULT, DataFolder
from cloudmetrics.embedded.postgres import wait_gone

SUMMARY = "stop what runs on a data folder"
STOP_SECONDS = 20.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", default=DEFAULT, metavar="DIR", help="data folder (default: %(default)s)")


def run(args: argparse.Namespace) -> int:
    folder = DataFolder.at(args.data)
    pid = folder.read("run").get("pid")
    if pid is None or not folder.is_held():
        print(f"nothing runs on {folder.path}")
        return 0
    os.kill(pid, signal.SIGTERM)
    if not wait_gone(pid, STOP_SECONDS):
        print(f"the supervisor (pid {pid}) has not ended within {STOP_SECONDS:.0f} s", file=sys.stderr)
        return 1
    print(f"stopped; the data stays in {folder.path}")
    return 0
