"""`watch`: a metric's live stream in the terminal, one line a changed bucket."""

from __future__ import annotations

import argparse
import asyncio
from datetime import datetime
from typing import Any

from cloudmetrics.data_folder import DEFAULT, running_instance
from cloudmetrics.stream import Frame, open_stream
from core.errors import Misconfigured

SUMMARY = "follow a metric live"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("metric", nargs="?", default="events", help="its key (default: %(default)s)")
    parser.add_argument("--last", default="10m", help="how far back it begins (default: %(default)s)")
    parser.add_argument("--group-by", metavar="DIMENSION", help="a line for each of its values")
    parser.add_argument("--data", metavar="DIR", help=f"data folder of a local instance (default: {DEFAULT})")
    parser.add_argument("--url", help="address of an instance elsewhere; needs --key")
    parser.add_argument("--key", help="secret key with the scope metrics:read")


def run(args: argparse.Namespace) -> int:
    if bool(args.url) != bool(args.key) or (args.url and args.data):
        raise Misconfigured("--url and --key go together, and without --data")
    url, key = args.url, args.key
    if not url:
        folder, note = running_instance(args.data or DEFAULT)
        url, key = note["url"], folder.read("credentials")["secret_key"]
    question: dict[str, Any] = {"metric": args.metric, "range": {"last": args.last}, "interval": "MINUTE"}
    if args.group_by:
        question["groupBy"] = [args.group_by]
    asyncio.run(_watch(url.rstrip("/"), key, question))
    return 0


async def _watch(url: str, key: str, question: dict[str, Any]) -> None:
    async with open_stream(url, key, question) as frames:
        async for frame in frames:
            for line in lines_of(frame):
                print(line, flush=True)


def lines_of(frame: Frame) -> list[str]:
    """A frame as text: a snapshot by its totals, a change by its buckets, a heartbeat not at all."""
    if frame["kind"] == "HEARTBEAT":
        return []
    if frame["kind"] == "GAP":
        return ["GAP       something was missed; the whole follows"]
    columns = frame["columns"]
    if frame["kind"] == "SNAPSHOT":
        return [f"SNAPSHOT  total {_number(s['total'])}{_labels(s)}" for s in columns["series"]]
    return [
        f"{frame['kind']:9} {datetime.fromtimestamp(moment / 1000):%H:%M}  {_number(series['values'][n])}"
        f"   total {_number(series['total'])}{_labels(series)}"
        for n, moment in enumerate(columns["timestamps"])
        for series in columns["series"]
    ]


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:,.6g}" if isinstance(value, float) else f"{value:,}"


def _labels(series: dict[str, Any]) -> str:
    return "".join(f"   {name} {value or '(unknown)'}" for name, value in series["labels"].items())
