"""From PostgreSQL's own partitions to TimescaleDB, with everything that was counted."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from tests.acceptance.test_main_job import LOG, ask, check_numbers, start_import
from tests.conftest import start_instance

pytestmark = pytest.mark.slow


def test_an_instance_moves_with_its_data_and_goes_on(tmp_path: Path, timescaledb: str) -> None:
    data = tmp_path / "data"
    plain = start_instance(data, "--empty")
    try:
        plain.cli("import", "access-log", str(LOG))
        assert "store    plain" in plain.cli("store", "show").stdout
        refused = plain.cli("store", "move", check=False)
        assert refused.returncode == 1 and "has not loaded TimescaleDB" in refused.stderr
        plain.cli("down")

        moved = start_instance(data, settings={"TIMESCALEDB": timescaledb})
        assert "store    plain" in moved.cli("store", "show").stdout
        assert "moved 10000 events to TimescaleDB" in moved.cli("store", "move").stdout
        assert "already" in moved.cli("store", "move", check=False).stderr
        check_numbers(moved)
        assert "0 accepted, 10,000 already there" in moved.cli("import", "access-log", str(LOG)).stdout
        check_numbers(moved)
        moved.cli("down")

        # Where TimescaleDB is, the folder remembers: nothing else opens these tables.
        later = start_instance(data)
        assert "store    timescale" in later.cli("store", "show").stdout
        check_numbers(later)
        assert sum(line["total"] for line in ask(later, "requests", groupBy=["status", "method"])) == 10_000
    finally:
        plain.cli("down", check=False)


def test_a_server_killed_in_the_middle_of_an_import_loses_and_doubles_nothing(tmp_path: Path, timescaledb: str) -> None:
    instance = start_instance(tmp_path / "data", "--empty", settings={"TIMESCALEDB": timescaledb})
    try:
        running = start_import(instance)
        for victim in ("postgres", "pipeline", "postgres"):
            time.sleep(1.0)
            if pid := instance.pid(victim):
                os.kill(pid, signal.SIGKILL)
        _, err = running.communicate(timeout=120)
        assert running.returncode == 0, err
        check_numbers(instance)
    finally:
        instance.cli("down")
