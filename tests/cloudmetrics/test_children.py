"""Child processes: started again whatever goes wrong, and nobody else's is ever stopped."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path

import pytest

from cloudmetrics.children import Child
from cloudmetrics.data_folder import DataFolder
from cloudmetrics.embedded import postgres, valkey


async def test_a_start_that_fails_is_tried_again() -> None:
    starts, said = 0, []

    def start() -> subprocess.Popen[bytes]:
        nonlocal starts
        starts += 1
        if starts == 2:
            raise BlockingIOError("no process to be had")
        return subprocess.Popen(["sleep", "0" if starts < 3 else "60"])

    child = Child("sleeper", start)
    child.launch()
    watch = asyncio.create_task(child.watch(said.append))
    try:
        async with asyncio.timeout(20):
            while starts < 3:
                await asyncio.sleep(0.05)
    finally:
        await child.stop(5)
        watch.cancel()
    assert any("cannot be started: no process" in line for line in said)


@pytest.mark.parametrize("name", ["postgres", "valkey-server"])
def test_a_stranger_with_a_pid_of_ours_is_left_alone(tmp_path: Path, name: str) -> None:
    folder = DataFolder.at(tmp_path / "data")
    folder.create()
    (folder.postgres / "cluster").mkdir()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    stranger = subprocess.Popen(["bash", "-c", f"exec -a {name} sleep 60"], cwd=elsewhere)
    try:
        (folder.postgres / "cluster" / "postmaster.pid").write_text(f"{stranger.pid}\n")
        (folder.valkey / "pid").write_text(str(stranger.pid))
        assert not postgres.stop_left_behind(folder)
        assert not valkey.stop_left_behind(folder)
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()
