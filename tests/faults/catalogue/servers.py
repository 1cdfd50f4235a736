"""The log, the database and Valkey: killed, frozen, missing at the start, locked, emptied, full."""

from __future__ import annotations

import asyncio
import shutil
import time
from contextlib import suppress
from typing import Any

from core.database import as_owner
from core.errors import DatabaseUnavailable
from core.valkey import open_valkey
from tests.faults.fault import KAFKA, DidNotStrike, Fault, Scene, Strike
from tests.faults.installation import WORKERS
from tests.faults.journal import ACCEPTED

BACKENDS = "SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'cloudmetrics%'"
LOCK = "BEGIN; LOCK TABLE event_ids IN ACCESS EXCLUSIVE MODE"
LOCK_ROLLUPS = "SET deadlock_timeout = '30s'; BEGIN; LOCK TABLE rollup_1h IN EXCLUSIVE MODE"
IS_WAITED_FOR = "SELECT count(*) > 0 FROM pg_locks WHERE NOT granted AND relation = 'rollup_1h'::regclass"
TAKE_OFFSETS = "SELECT 1 FROM log_offsets FOR UPDATE"
DEADLOCKS = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"


def killed(server: str | None, seconds: float = 3.0, times: int = 2) -> Strike:
    """kill -9, and a new start after a while; None is the server that is the log."""

    def strike(scene: Scene) -> None:
        name = server or scene.site.log_server
        for _ in range(times):
            scene.site.kill(name)
            time.sleep(seconds * scene.dice.uniform(0.5, 1.0))
            scene.site.heal()

    return strike


def frozen(server: str | None, seconds: float) -> Strike:
    def strike(scene: Scene) -> None:
        name = server or scene.site.log_server
        scene.site.freeze(name)
        time.sleep(seconds)
        scene.site.thaw(name)

    return strike


def frozen_beside_the_log(scene: Scene) -> None:
    """Valkey is frozen where it is not the log; what the door said meanwhile is noted."""
    began = time.monotonic()
    frozen("valkey", 6.0)(scene)
    calls = [call for member in scene.clients.members for call in scene.clients.sent(member).calls_since(began)]
    if not calls:
        raise DidNotStrike("nobody called while Valkey was frozen")
    taken, longest = sum(code == ACCEPTED for _, code in calls), max(seconds for seconds, _ in calls)
    scene.note(f"Valkey frozen: {taken} of {len(calls)} calls accepted, the longest {longest:.2f} s")


def log_away_at_start(scene: Scene) -> None:
    """Web and workers start while nobody listens; the log comes later."""
    site = scene.site
    for name in ("web", *WORKERS):
        site.stop(name)
    site.kill(site.log_server)
    for name in ("web", *WORKERS):
        site.start(name)
    time.sleep(5.0)
    if ended := [name for name in ("web", *WORKERS) if site.has_ended(name)]:
        raise DidNotStrike(f"{', '.join(ended)} did not wait for the log")


def kill_backend(scene: Scene) -> None:
    """kill -9 of one backend: the whole server recovers as from a crash."""

    async def pids() -> list[int]:
        async with as_owner(scene.site.folder.database_url("superuser")) as connection:
            return [row["pid"] for row in await connection.fetch(BACKENDS)]

    for _ in range(2):
        found, end = list[int](), time.monotonic() + 40
        while not found:
            if time.monotonic() > end:
                raise DidNotStrike("nobody was connected")
            # Away while it recovers from the kill before.
            with suppress(DatabaseUnavailable):
                found = asyncio.run(pids())
            time.sleep(0.1)
        scene.site.kill_child("postgres", scene.dice.choice(found))
        time.sleep(2.0)


def lock_ledger(scene: Scene) -> None:
    """Whoever counts, and whoever looks for duplicates, waits until his time-out: all connections are taken."""

    async def hold() -> None:
        async with as_owner(scene.site.folder.database_url("superuser")) as connection:
            await connection.execute(LOCK)
            await asyncio.sleep(8.0)

    asyncio.run(hold())


def deadlock(scene: Scene) -> None:
    """We hold what the worker wants, and ask for what it holds; the server ends the worker's transaction."""

    async def cross() -> int:
        async with as_owner(scene.site.folder.database_url("superuser")) as connection:
            before = await connection.fetchval(DEADLOCKS)
            await connection.execute(LOCK_ROLLUPS)
            try:
                async with asyncio.timeout(40):
                    while not await connection.fetchval(IS_WAITED_FOR):
                        await asyncio.sleep(0.02)
                    await connection.execute(TAKE_OFFSETS)
            except TimeoutError:
                return 0
            await connection.execute("COMMIT")
            await asyncio.sleep(1.5)
            return int(await connection.fetchval(DEADLOCKS)) - int(before)

    if sum(asyncio.run(cross()) for _ in range(3)) == 0:
        raise DidNotStrike("there was no deadlock")


def emptied(scene: Scene) -> None:
    """kill -9 of Valkey, which comes back with nothing; only where it is not the log."""
    site = scene.site
    site.kill("valkey")
    shutil.rmtree(site.folder.valkey)
    site.folder.create()
    site.start("valkey")


def at_valkey(scene: Scene, *commands: tuple[Any, ...], times: int = 1) -> None:
    """Commands, once a second."""

    async def run() -> None:
        client = open_valkey(scene.site.direct.redis_url, seconds=2.0, connections=1)
        try:
            for _ in range(times):
                for command in commands:
                    await client.execute_command(*command)
                await asyncio.sleep(1.0)
        finally:
            await client.aclose()

    asyncio.run(run())


def flush_all(scene: Scene) -> None:
    at_valkey(scene, ("FLUSHALL",))


def flush_scripts(scene: Scene) -> None:
    at_valkey(scene, ("SCRIPT", "FLUSH"), times=4)


def out_of_memory(scene: Scene) -> None:
    """No room for a single key more."""
    limit = scene.site.direct.log_max_bytes * 3 // 2
    at_valkey(scene, ("CONFIG", "SET", "maxmemory", "1"), times=1)
    time.sleep(3.0)
    at_valkey(scene, ("CONFIG", "SET", "maxmemory", str(limit)))


def full_disk(server: str | None) -> Strike:
    """No byte is left where a server writes; then there is room again, and the server is started if it has ended."""

    def strike(scene: Scene) -> None:
        disk = scene.site.disks[server or scene.site.log_server]
        disk.fill()
        time.sleep(6.0)
        disk.free()

    return strike


FAULTS = (
    Fault("F8", "kill -9 the log's server", killed(None), is_short=("valkey",)),
    Fault("F9", "log's server frozen 14 s", frozen(None, 14.0)),
    Fault("F10", "log away when web and workers start", log_away_at_start),
    Fault("F13", "log's disk full", full_disk(None), needs_disk=True, may_end=("kafka", "valkey")),
    Fault("F14", "kill -9 one PostgreSQL backend", kill_backend),
    Fault("F15", "kill -9 PostgreSQL", killed("postgres")),
    Fault("F16", "PostgreSQL frozen 10 s", frozen("postgres", 10.0)),
    Fault("F17", "PostgreSQL's disk full", full_disk("postgres"), needs_disk=True, may_end=("postgres",)),
    Fault("F18", "ledger locked, all connections wait", lock_ledger),
    Fault("F19", "deadlock within the worker's transaction", deadlock),
    Fault("F21", "kill -9 Valkey, back empty", emptied, logs=KAFKA),
    Fault("F21b", "FLUSHALL", flush_all, logs=KAFKA),
    Fault("F22", "Valkey frozen 6 s", frozen_beside_the_log, logs=KAFKA),
    Fault("F23", "SCRIPT FLUSH each second", flush_scripts),
    Fault("F24", "Valkey's disk full", full_disk("valkey"), logs=KAFKA, needs_disk=True, may_end=("valkey",)),
    Fault("F25", "Valkey out of memory", out_of_memory),
)
