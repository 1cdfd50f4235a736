"""Clocks that are wrong, by libfaketime before web and workers; and many faults at random."""

from __future__ import annotations

import shutil
import subprocess
import time
from pathlib import Path

from cloudmetrics.embedded.kafka_server import SERVICES
from tests.faults.fault import Fault, Scene
from tests.faults.installation import WORKERS

LIBRARY = "libfaketime.so.1"
FOLDER = SERVICES / "faketime"


def faketime() -> Path | None:
    """The library, of the system or fetched once from Debian without installing it; None where it cannot be had."""
    for folder in (Path("/usr/lib"), FOLDER):
        found = next(folder.rglob(LIBRARY), None) if folder.exists() else None
        if found is not None:
            return found
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        return None
    FOLDER.mkdir(parents=True, exist_ok=True)
    subprocess.run(["apt-get", "download", "libfaketime"], cwd=FOLDER, check=False, capture_output=True)
    for package in FOLDER.glob("*.deb"):
        subprocess.run(["dpkg-deb", "-x", package, FOLDER], check=False, capture_output=True)
    return next(FOLDER.rglob(LIBRARY), None)


def why_no_clock() -> str:
    return "" if faketime() else "needs libfaketime"


def jumping_clock(scene: Scene) -> None:
    """Web, or a worker, ten minutes ahead, then ten behind; and back, which is a jump as well."""
    for name in ("web", scene.dice.choice(WORKERS)):
        for offset in ("+600", "-600"):
            # What runs on it waits and times out by the steady clock, which no jump moves.
            environ = {"LD_PRELOAD": str(faketime()), "FAKETIME": offset, "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
            scene.site.restart(name, environ=environ)
            scene.site.until_ready()
            time.sleep(2.0)
        scene.site.restart(name)


FAULTS = (Fault("F31", "clock of one process 10 min ahead, then behind", jumping_clock, why_not=why_no_clock),)
