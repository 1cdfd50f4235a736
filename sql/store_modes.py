"""The two ways to store raw events, behind one set of table names, and the move from the first to the second.

`plain`: declarative partitions. `timescale`: a hypertable. Which one a database has is found out, not set: a new
database gets the second where its server has TimescaleDB loaded, one with partitions keeps them until it is moved.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Any

from core.errors import Misconfigured
from core.queries import named

FOLDER = Path(__file__).resolve().parent / "stores"
HAS_TIMESCALE_TABLES = named("stores", "has_timescale_tables")
CAN_HAVE_TIMESCALE = named("stores", "can_have_timescale")
CREATE_EXTENSION = named("stores", "create_extension")
LIST_PARTITIONS = named("stores", "list_plain_partitions")
OPEN_TO_OWNER = named("stores", "open_to_owner")
DAYS_OF = named("stores", "days_of_partition")
ENSURE_PARTITION = named("stores", "ensure_partition")
COPY_PARTITION = named("stores", "copy_partition")
DROP_PLAIN = named("stores", "drop_plain_events")

Say = Callable[[str], None]


class StoreMode(StrEnum):
    """How `events` is stored."""

    PLAIN = "plain"
    TIMESCALE = "timescale"


async def mode_of(connection: Any) -> StoreMode:
    """How the database of a connection stores events."""
    is_timescale = await connection.fetchval(HAS_TIMESCALE_TABLES.text)
    return StoreMode.TIMESCALE if is_timescale else StoreMode.PLAIN


async def settle_store(connection: Any) -> StoreMode:
    """The mode, its functions brought up to date; a database without any partition yet gets the best that its server
    has. Within the caller's transaction.

    Raises:
        Misconfigured: the tables are TimescaleDB's, and the server has not loaded it.
    """
    mode = await mode_of(connection)
    can = await connection.fetchval(CAN_HAVE_TIMESCALE.text)
    if mode is StoreMode.TIMESCALE and not can:
        raise Misconfigured(
            "the events of this database are in TimescaleDB's tables, and its server has not loaded TimescaleDB "
            "(shared_preload_libraries); the embedded size finds it by CLOUDMETRICS_TIMESCALEDB"
        )
    if mode is StoreMode.PLAIN and can and not await connection.fetch(LIST_PARTITIONS.text, "events"):
        await move_to_timescale(connection, lambda _: None)
        return StoreMode.TIMESCALE
    await connection.execute((FOLDER / f"{mode.value}.sql").read_text(encoding="utf-8"))
    return mode


async def move_to_timescale(connection: Any, say: Say) -> int:
    """Moves all events from partitions into a hypertable, within the caller's transaction; how many rows.

    Readers and workers wait until it ends; what it needs is room for a second copy.

    Raises:
        Misconfigured: the server has no TimescaleDB, or the events are there already.
    """
    if await mode_of(connection) is StoreMode.TIMESCALE:
        raise Misconfigured("the events of this database are in TimescaleDB's tables already")
    if not await connection.fetchval(CAN_HAVE_TIMESCALE.text):
        raise Misconfigured(
            "this PostgreSQL has not loaded TimescaleDB: install it, add it to shared_preload_libraries, and restart"
        )
    await connection.execute(CREATE_EXTENSION.text)
    partitions = [row["name"] for row in await connection.fetch(LIST_PARTITIONS.text, "events")]
    for script in ("to_timescale.sql", "timescale.sql"):
        await connection.execute((FOLDER / script).read_text(encoding="utf-8"))
    moved = 0
    for number, partition in enumerate(partitions, 1):
        rows = await _move_partition(connection, partition)
        moved += rows
        say(f"{number} of {len(partitions)}  {partition}  {rows} events")
    await connection.execute(DROP_PLAIN.text)
    return moved


async def _move_partition(connection: Any, partition: str) -> int:
    await connection.execute(OPEN_TO_OWNER.filled(partition=partition).text)
    for row in await connection.fetch(DAYS_OF.filled(partition=partition).text):
        await connection.fetchval(ENSURE_PARTITION.text, row["retention_class"], row["day"])
    status: str = await connection.execute(COPY_PARTITION.filled(partition=partition).text, timeout=None)
    return int(status.split()[-1])
