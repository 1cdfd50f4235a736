"""`status`: what runs, where, how much data, how far behind."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import httpx2

from cloudmetrics.data_folder import DEFAULT, DataFolder, running_instance
from cloudmetrics.lag import read_lag
from core.errors import LogUnavailable, Unavailable

MOST_SHOWN = 20
SUMMARY = "what runs, where, how much data, how far behind"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", default=DEFAULT, metavar="DIR", help="data folder (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="one line of JSON")


def run(args: argparse.Namespace) -> int:
    folder, note = running_instance(args.data)
    try:
        health = httpx2.get(f"{note['url']}/health/ready", timeout=5.0).json()
    except httpx2.HTTPError as error:
        health = {"status": f"web does not answer: {type(error).__name__}", "lag": {}}
    processes = {"supervisor": {"pid": note["pid"], "restarts": 0}, **note["children"]}
    for name, process in processes.items():
        pid = process["pid"]
        has_children = name in ("postgres", "web")
        process["memory_mb"] = round(memory_of(pid, has_children=has_children) / 1e6, 1) if pid else 0.0
        if name == "web":
            process["workers"] = (children_of(pid) or [pid]) if pid else []
    behind = _behind(folder)
    found = {
        "url": note["url"],
        "health": health,
        "processes": processes,
        "memory_mb": round(sum(p["memory_mb"] for p in processes.values()), 1),
        "disk_mb": round(size_of(folder.path) / 1e6, 1),
        "data": str(folder.path),
        "log": "ok" if behind is not None else LogUnavailable.default_code,
        "behind": behind or [],
    }
    print(json.dumps(found) if args.json else _text(found))
    return 0 if health["status"] == "ready" else 1


def _behind(folder: DataFolder) -> list[dict[str, Any]] | None:
    """Records that each group has not done, by place; None while the log is away."""
    try:
        return [asdict(place) for place in asyncio.run(read_lag(folder.running_settings(os.environ)))]
    except Unavailable:
        return None


def _text(found: dict[str, Any]) -> str:
    lines = [f"{found['health']['status']}  {found['url']}  data {found['data']} ({found['disk_mb']} MB)"]
    for name, process in found["processes"].items():
        memory = f"{process['memory_mb']:>7} MB"
        workers = f", {len(process['workers'])} workers" if len(process.get("workers", [])) > 1 else ""
        restarts = f"started again {process['restarts']} times"
        lines.append(f"  {name:12} pid {process['pid'] or 'down':<8} {memory}  {restarts}{workers}")
    lag = ", ".join(f"{group} {records}" for group, records in found["health"]["lag"].items())
    lines.append(f"  memory {found['memory_mb']} MB; records behind: {lag or 'unknown'}")
    if found["log"] != "ok":
        lines.append("  the event log does not answer; what is behind it is not known")
    waiting = sorted((place for place in found["behind"] if place["records"]), key=lambda place: -place["records"])
    for place in waiting[:MOST_SHOWN]:
        owner = f" of {place['tenant']}" if place["tenant"] else ""
        lines.append(
            f"  {place['group']:12} {place['records']:>7} behind on {place['topic']}[{place['partition']}]{owner}"
        )
    return "\n".join(lines)


def memory_of(pid: int, *, has_children: bool) -> int:
    """Proportional memory of a process, and of its children where asked, in bytes: what is shared counts once."""
    total = 0
    for part in [pid, *(children_of(pid) if has_children else [])]:
        try:
            for line in Path(f"/proc/{part}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1]) * 1024
        except OSError:
            continue
    return total


def children_of(pid: int) -> list[int]:
    """Direct children; PostgreSQL's backends and the web's workers have none of their own."""
    try:
        return [int(text) for text in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def size_of(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except OSError:
            continue
    return total
