"""The only doors to PostgreSQL: as a tenant, as the writer, as the doorkeeper; and as the owner for `sql/`.

No role behind the first three can bypass row-level security; a connection of one that could is refused.
Only `acquire(timeout=)` followed by calls with a time-out of their own is bounded when the server is frozen
(MagicStack/asyncpg#1326), so every call here has that form.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeVar
from uuid import UUID

import asyncpg

from core.access import setting_of
from core.errors import CloudMetricsError, DatabaseUnavailable, Misconfigured, TenantNotSet
from core.queries import Query, named
from core.settings import Settings
from core.tenancy import TenantId

ACQUIRE_SECONDS = 2.0
READ_SECONDS = 10.0
# Also how long a worker that froze while it sent rows can keep its place locked.
WRITE_SECONDS = 30.0
CONNECT_SECONDS = 5.0
# How long a worker that froze within a transaction keeps its place locked for the one that takes over.
IDLE_SECONDS = 15

# A plan is kept, and may be of a day when the tables were nearly empty: read whole for each of ten thousand cells, or
# joined row by row, they take a minute where their keys take a second.
# Ten thousand staged events and their sort fit into memory with these; without, they go through files.
WRITER_SETTINGS = {"enable_nestloop": "off", "enable_seqscan": "off", "work_mem": "32MB", "temp_buffers": "32MB"}

CHECK_ROLE = named("database", "check_role")
BEGIN = named("database", "begin")
BEGIN_READING = named("database", "begin_reading")
BEGIN_AS_TENANT = named("database", "begin_as_tenant")
BEGIN_READING_AS_TENANT = named("database", "begin_reading_as_tenant")
BEGIN_AS_GRANTEES = named("database", "begin_as_grantees")
BEGIN_READING_AS_GRANTEES = named("database", "begin_reading_as_grantees")
COMMIT = named("database", "commit")
ROLLBACK = named("database", "rollback")

T = TypeVar("T")

# What a server that is away, starting, stopping or frozen looks like from here.
_AWAY = (
    OSError,
    TimeoutError,
    asyncpg.InterfaceError,
    # A connection on which the server's last word came at the wrong moment, as after a long freeze; it is given up.
    asyncpg.InternalClientError,
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.InsufficientResourcesError,
)
# What passes when it is tried again later, though the server is there: for the writer, which has nobody to ask.
_PASSING = (
    asyncpg.OperatorInterventionError,
    asyncpg.TransactionRollbackError,
    asyncpg.PostgresSystemError,
    asyncpg.LockNotAvailableError,
)
# The same for whoever writes: where the server has become a standby since, the connection is of the wrong one.
_PASSING_FOR_DOORS = (
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.PostgresSystemError,
)

# What PostgreSQL takes back of one of two who wait for each other: the same again goes through.
_COLLIDED = (asyncpg.DeadlockDetectedError, asyncpg.SerializationError)


class Session:
    """One connection within one transaction; runs named queries only."""

    def __init__(self, connection: Any, seconds: float) -> None:
        self._connection = connection
        self._seconds = seconds

    async def fetch(self, query: Query, *args: object) -> list[asyncpg.Record]:
        rows: list[asyncpg.Record] = await self._connection.fetch(query.text, *args, timeout=self._seconds)
        return rows

    async def fetchrow(self, query: Query, *args: object) -> asyncpg.Record | None:
        row: asyncpg.Record | None = await self._connection.fetchrow(query.text, *args, timeout=self._seconds)
        return row

    async def execute(self, query: Query, *args: object) -> str:
        status: str = await self._connection.execute(query.text, *args, timeout=self._seconds)
        return status

    async def copy_binary(self, table: str, columns: Sequence[str], chunks: Iterable[bytes]) -> None:
        """COPY of rows that are in PostgreSQL's binary format already."""
        await self._connection.copy_to_table(
            table, source=_each(chunks), columns=columns, format="binary", timeout=self._seconds
        )


async def _each(chunks: Iterable[bytes]) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


class Database:
    """Three pools, opened on first use and empty at first, so that a process starts while the server is away."""

    def __init__(self, settings: Settings, *, pool_size: int = 8) -> None:
        self._urls = {"app": settings.app_url, "writer": settings.writer_url, "doorkeeper": settings.doorkeeper_url}
        self._pool_size = pool_size
        self._pools: dict[str, Any] = {}
        self._opening = asyncio.Lock()

    @asynccontextmanager
    async def as_tenant(
        self, tenant_id: TenantId, *, is_write: bool = False, grantees: Sequence[str] = ()
    ) -> AsyncIterator[Session]:
        """One transaction that sees exactly one tenant; read-only unless `is_write`. Of objects with access lists it
        sees what `grantees` may (core/access.py); without any, touching them is an error."""
        begin = BEGIN_AS_TENANT if is_write else BEGIN_READING_AS_TENANT
        if grantees:
            begin = BEGIN_AS_GRANTEES if is_write else BEGIN_READING_AS_GRANTEES
        begin = begin.filled(tenant_id=str(UUID(str(tenant_id))), grantees=setting_of(grantees))
        async with self._session("app", begin, seconds=READ_SECONDS, is_write=is_write) as session:
            yield session

    @asynccontextmanager
    async def as_writer(self) -> AsyncIterator[Session]:
        """One transaction of the aggregate worker: whole batches of many tenants."""
        async with self._session("writer", BEGIN, seconds=WRITE_SECONDS, is_write=True) as session:
            yield session

    @asynccontextmanager
    async def as_doorkeeper(self, *, is_write: bool = False) -> AsyncIterator[Session]:
        """One transaction that looks up keys and tenants, and notes when a key was last used."""
        begin = BEGIN if is_write else BEGIN_READING
        async with self._session("doorkeeper", begin, seconds=CONNECT_SECONDS, is_write=is_write) as session:
            yield session

    async def close(self) -> None:
        for pool in self._pools.values():
            with suppress(TimeoutError):
                async with asyncio.timeout(ACQUIRE_SECONDS):
                    await pool.close()
            pool.terminate()

    @asynccontextmanager
    async def _session(
        self, door: str, begin: Query, *, seconds: float, is_write: bool = False
    ) -> AsyncIterator[Session]:
        # In a reading transaction of ours, a write is a fault of ours.
        passing = (*(_PASSING if door == "writer" else ()), *(_PASSING_FOR_DOORS if is_write else ()))
        with _unavailable_when_away(passing):
            pool = await self._pool(door)
            async with pool.acquire(timeout=ACQUIRE_SECONDS) as connection:
                async with _transaction(connection, begin, seconds if is_write else ACQUIRE_SECONDS):
                    yield Session(connection, seconds)

    async def _pool(self, door: str) -> Any:
        async with self._opening:
            if door not in self._pools:
                self._pools[door] = await asyncpg.create_pool(
                    self._urls[door],
                    min_size=0,
                    max_size=self._pool_size,
                    init=_refuse_bypassing_role,
                    reset=_reset,
                    timeout=CONNECT_SECONDS,
                    server_settings={
                        **(WRITER_SETTINGS if door == "writer" else {}),
                        "application_name": f"cloudmetrics {door}",
                        "statement_timeout": f"{int(READ_SECONDS if door == 'app' else WRITE_SECONDS)}s",
                        "idle_in_transaction_session_timeout": f"{IDLE_SECONDS}s",
                        "timezone": "UTC",
                    },
                )
        return self._pools[door]


async def answered_within(seconds: float, asking: Coroutine[Any, Any, T]) -> T:
    """What a look-up answers, if it does so in time. One that is late goes on to its own end, which the doors bound:
    to cancel it could take longer than to leave it (MagicStack/asyncpg#1326).

    Raises:
        DatabaseUnavailable: it was late.
    """
    task = asyncio.ensure_future(asking)
    done, _ = await asyncio.wait({task}, timeout=seconds)
    if not done:
        task.add_done_callback(lambda late: late.cancelled() or late.exception())
        raise DatabaseUnavailable(retry_after=2.0)
    return task.result()


@asynccontextmanager
async def as_owner(url: str) -> AsyncIterator[Any]:
    """One connection as the owner, for `sql/` and the first start only."""
    with _unavailable_when_away():
        connection = await asyncpg.connect(url, timeout=CONNECT_SECONDS)
        try:
            yield connection
        finally:
            await connection.close(timeout=CONNECT_SECONDS)


async def _refuse_bypassing_role(connection: Any) -> None:
    """Row-level security holds nobody who is superuser, BYPASSRLS or an owner (PostgreSQL manual, 5.9)."""
    reason = await connection.fetchval(CHECK_ROLE.text, timeout=CONNECT_SECONDS)
    if reason:
        raise Misconfigured(f"the database role {reason}: row-level security would not hold it; use another role")


@asynccontextmanager
async def _transaction(connection: Any, begin: Query, commit_seconds: float) -> AsyncIterator[None]:
    """One transaction. Where it is read, and for whom, goes with its BEGIN: one way to the server and not three."""
    try:
        await connection.execute(begin.text, timeout=ACQUIRE_SECONDS)
        yield
    except BaseException as error:
        # A server that takes no writes any more: the next connection may be to the one that does.
        if isinstance(error, asyncpg.ReadOnlySQLTransactionError):
            connection.terminate()
            raise
        # Whatever went wrong, nobody else gets this connection with something open.
        try:
            await connection.execute(ROLLBACK.text, timeout=ACQUIRE_SECONDS)
        except Exception:
            connection.terminate()
        raise
    await connection.execute(COMMIT.text, timeout=commit_seconds)


async def _reset(connection: Any) -> None:
    """Before a connection goes back: nothing outlives a transaction here, so the usual four statements are spared."""
    if connection.is_in_transaction():
        connection.terminate()


class _unavailable_when_away:
    """Turns what an absent server looks like, and what it took back, into the one error callers know."""

    def __init__(self, also: tuple[type[BaseException], ...] = ()) -> None:
        self._away = (*_AWAY, *also)

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is None or isinstance(error, CloudMetricsError):
            return
        if isinstance(error, self._away):
            raise DatabaseUnavailable(retry_after=2.0) from error
        if isinstance(error, _COLLIDED):
            raise DatabaseUnavailable(
                "Another change was in the way of this one; nothing was changed. Send it again."
            ) from error
        if isinstance(error, asyncpg.UndefinedObjectError) and "app.current_" in str(error):
            raise TenantNotSet from error
