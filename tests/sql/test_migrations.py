"""The migration runner: once each, in order, never changed, one runner at a time."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest

from core.errors import Misconfigured
from core.settings import Settings
from sql.__main__ import FOLDER, Migration, migrate, pending, status

ON_BOTH_STORES = True


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copytree(FOLDER, tmp_path / "sql", ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    return tmp_path / "sql"


async def test_a_second_run_finds_nothing_to_do(settings: Settings, store_mode: str) -> None:
    assert await migrate(settings.owner_url) == []
    *files, store = await status(settings.owner_url)
    assert all(line.startswith("applied") for line in files) and store == f"store    {store_mode}"


async def test_a_new_file_runs_once_even_when_two_run_at_once(settings: Settings, folder: Path) -> None:
    (folder / "migrations/9001_add.sql").write_text("CREATE TABLE added (tenant_id uuid NOT NULL);")
    outcomes = await asyncio.gather(*(migrate(settings.owner_url, folder) for _ in range(3)))
    assert sorted(outcomes) == [[], [], ["9001_add.sql"]]
    # A file that ran and is not here: this code is older than the database.
    with pytest.raises(Misconfigured, match=r"9001_add\.sql ran on this database"):
        await migrate(settings.owner_url)


async def test_a_file_that_fails_leaves_nothing_and_may_be_mended(settings: Settings, folder: Path) -> None:
    (folder / "migrations/9001_add.sql").write_text("CREATE TABLE added (tenant_id uuid NOT NULL);")
    broken = folder / "migrations/9002_broken.sql"
    broken.write_text("CREATE TABLE half (a int); SELECT nonsense;")
    with pytest.raises(Exception, match="nonsense"):
        await migrate(settings.owner_url, folder)
    broken.write_text("CREATE TABLE half (a int);")
    assert await migrate(settings.owner_url, folder) == ["9002_broken.sql"]


def test_a_changed_file_stops_the_run() -> None:
    files = [Migration("0001_a.sql", "a", "1"), Migration("0002_b.sql", "b", "2")]
    assert pending(files, {"0001_a.sql": "1"}) == [files[1]]
    with pytest.raises(Misconfigured, match=r"0001_a\.sql was changed"):
        pending(files, {"0001_a.sql": "other"})
