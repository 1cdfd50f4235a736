"""`demo`: generated traffic through the public ingest door, until stopped."""

from __future__ import annotations

import argparse
import asyncio
import sys
import time

from cloudmetrics.client import Credentials, open_sender
from cloudmetrics.commands.import_ import credentials_of
from cloudmetrics.data_folder import DEFAULT, DataFolder
from cloudmetrics.demo.feed import Feed, KeepPlace
from cloudmetrics.demo.journeys import Traffic
from core.errors import Misconfigured

SUMMARY = "send generated traffic"
DAY_MS = 86_400_000
PLACE = "demo"
DEFAULT_RATE = 0.3
MAX_DAYS = 365
MAX_RATE = 1000.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Sends the journeys of several visitors of a shop, with a daily wave, a release and an incident a week, until "
        "stopped. The same seed gives the same events, and none counts twice. Every event has properties.demo = true."
    )
    parser.add_argument(
        "--rate", type=float, default=DEFAULT_RATE, metavar="N",
        help="events a second, averaged over a week (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument("--backfill-days", type=float, default=0.0, metavar="N", help="begin so long ago (default: 0)")
    parser.add_argument("--seed", default="1", help="which traffic (default: %(default)s)")
    parser.add_argument(
        "--resume", action="store_true", help="go on where the last --resume ended; the data folder keeps the place"
    )
    parser.add_argument("--data", metavar="DIR", help=f"data folder of a local instance (default: {DEFAULT})")
    parser.add_argument("--url", help="address of an instance elsewhere; needs --key")
    parser.add_argument("--key", help="publishable key, or <key id>:<secret key>")
    parser.add_argument("--tenant", help="slug of the tenant, of a local instance (default: its first)")


def run(args: argparse.Namespace) -> int:
    if not 0 < args.rate <= MAX_RATE:
        raise Misconfigured(f"--rate must be above 0 and at most {MAX_RATE:.0f} events a second")
    if not 0 <= args.backfill_days <= MAX_DAYS:
        raise Misconfigured(f"--backfill-days must be 0 to {MAX_DAYS}")
    if args.resume and args.url:
        raise Misconfigured("--resume keeps its place in a data folder: use it with --data")
    credentials = credentials_of(args)
    start_ms = int(time.time() * 1000 - args.backfill_days * DAY_MS)
    folder = DataFolder.at(args.data or DEFAULT)
    if args.resume:
        start_ms = max(start_ms, folder.read(PLACE).get("sent_until_ms", 0))
    print(
        f"cloudmetrics: generated traffic goes to {credentials.url}, about {args.rate:g} events a second, "
        "marked properties.demo = true",
        file=sys.stderr,
        flush=True,
    )
    keep_place = _keep_in(folder) if args.resume else _keep_nowhere
    asyncio.run(_feed(credentials, Traffic(args.rate, args.seed), keep_place, start_ms))
    return 0


async def _feed(credentials: Credentials, traffic: Traffic, keep_place: KeepPlace, start_ms: int) -> None:
    async with open_sender(credentials) as sender:
        await Feed(traffic, sender, keep_place).run(start_ms)


def _keep_in(folder: DataFolder) -> KeepPlace:
    return lambda until_ms: folder.write(PLACE, {"sent_until_ms": until_ms})


def _keep_nowhere(until_ms: int) -> None:
    return None
