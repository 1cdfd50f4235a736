"""`python -m sql migrate|status|move`: numbered files in, an up-to-date schema out.

Each file of `migrations/` runs once, in its own transaction, in order, under an advisory lock; a file that has
changed since it ran stops the run. What `stores/` has for the database's way to store events, and the files of
`policies/`, run every time, in one transaction.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.database import as_owner
from core.errors import CloudMetricsError, Misconfigured
from core.queries import named
from core.settings import Settings
from sql.store_modes import mode_of, move_to_timescale, settle_store

FOLDER = Path(__file__).resolve().parent
LOCK = named("migrations", "lock_migrations")
CREATE_TABLE = named("migrations", "create_migrations_table")
LIST = named("migrations", "list_migrations")
RECORD = named("migrations", "record_migration")


@dataclass(frozen=True, slots=True)
class Migration:
    """One numbered file and the SHA-256 of its text."""

    name: str
    text: str
    checksum: str

    @classmethod
    def read(cls, path: Path) -> Migration:
        text = path.read_text(encoding="utf-8")
        return cls(path.name, text, hashlib.sha256(text.encode()).hexdigest())


def read_folder(folder: Path) -> list[Migration]:
    """The files of a folder in their order."""
    return [Migration.read(path) for path in sorted(folder.glob("*.sql"))]


def pending(files: list[Migration], applied: dict[str, str]) -> list[Migration]:
    """The files that have not run.

    Raises:
        Misconfigured: a file was changed after it ran, or one that ran is gone.
    """
    for name in sorted(applied.keys() - {file.name for file in files}):
        raise Misconfigured(f"migration {name} ran on this database and is not in this version; use the newer version")
    for file in files:
        if applied.get(file.name, file.checksum) != file.checksum:
            raise Misconfigured(f"migration {file.name} was changed after it ran; add a new file instead")
    return [file for file in files if file.name not in applied]


async def migrate(owner_url: str, folder: Path = FOLDER) -> list[str]:
    """Brings the database up to date; the names of what ran."""
    async with as_owner(owner_url) as connection:
        await connection.execute(LOCK.text)
        await connection.execute(CREATE_TABLE.text)
        todo = pending(read_folder(folder / "migrations"), await _applied(connection))
        for file in todo:
            async with connection.transaction():
                await connection.execute(file.text)
                await connection.execute(RECORD.text, file.name, file.checksum)
        async with connection.transaction():
            await settle_store(connection)
            await _apply_policies(connection, folder)
    return [file.name for file in todo]


async def move(owner_url: str, say: Callable[[str], None] = lambda _: None) -> int:
    """Moves the events of a database from partitions to TimescaleDB; how many. All or nothing.

    Raises:
        Misconfigured: the database is not up to date, has no TimescaleDB, or has them there already.
    """
    async with as_owner(owner_url) as connection:
        await connection.execute(LOCK.text)
        await connection.execute(CREATE_TABLE.text)
        if pending(read_folder(FOLDER / "migrations"), await _applied(connection)):
            raise Misconfigured("the database is not up to date; run `python -m sql migrate` first")
        async with connection.transaction():
            moved = await move_to_timescale(connection, say)
            await _apply_policies(connection, FOLDER)
    return moved


async def _apply_policies(connection: Any, folder: Path) -> None:
    for policy in read_folder(folder / "policies"):
        await connection.execute(policy.text)


async def status(owner_url: str) -> list[str]:
    """One line for each file: whether it ran; and one for how events are stored."""
    async with as_owner(owner_url) as connection:
        await connection.execute(CREATE_TABLE.text)
        applied = await _applied(connection)
        store = await mode_of(connection)
    files = read_folder(FOLDER / "migrations")
    waiting = {file.name for file in pending(files, applied)}
    lines = [f"{'pending' if file.name in waiting else 'applied'}  {file.name}" for file in files]
    return [*lines, f"store    {store.value}"]


async def _applied(connection: Any) -> dict[str, str]:
    return {row["name"]: row["checksum"] for row in await connection.fetch(LIST.text)}


async def _run(command: str, url: str) -> list[str]:
    if command == "migrate":
        return await migrate(url)
    if command == "status":
        return await status(url)
    return [f"moved {await move(url, lambda text: print(text, file=sys.stderr, flush=True))} events to TimescaleDB"]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m sql", description="Migrations of the database.")
    parser.add_argument(
        "command",
        choices=["migrate", "status", "move"],
        help="apply what is pending; list all files; move the events from partitions to TimescaleDB",
    )
    command = parser.parse_args().command
    try:
        url = Settings.from_env(os.environ).owner_url
        if not url:
            raise Misconfigured("CLOUDMETRICS_OWNER_URL is not set: the address of PostgreSQL as the tables' owner")
        lines = asyncio.run(_run(command, url))
    except CloudMetricsError as error:
        print(f"sql {command}: {error.message}", file=sys.stderr)
        return 1
    print("\n".join(lines) if lines else "up to date")
    return 0


if __name__ == "__main__":
    sys.exit(main())
