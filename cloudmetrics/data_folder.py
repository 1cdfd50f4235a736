"""The data folder: where everything of one instance lies, and what any command finds there."""

from __future__ import annotations

import base64
import fcntl
import hashlib
import json
import os
import secrets
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from cloudmetrics.embedded.xmlsec import known_xmlsec1
from core.errors import Misconfigured
from core.settings import PREFIX, Settings

DEFAULT = ".cloudmetrics"
ROLES = ("owner", "app", "writer", "doorkeeper")
# A Unix socket's path has room for 107 bytes; PostgreSQL adds `/.s.PGSQL.5432.lock`.
MAX_SOCKET_FOLDER = 85
DATABASE = "cloudmetrics"
LOG_SETTINGS = ("kafka_brokers", "log_partitions", "kafka_replication", "tenant_topics")


@dataclass(frozen=True, slots=True)
class DataFolder:
    """Paths of one instance."""

    path: Path

    @classmethod
    def at(cls, path: str | Path) -> DataFolder:
        """The folder at a path, made or not.

        Raises:
            Misconfigured: no path, or one of something else.
        """
        if not str(path):
            raise Misconfigured(f"--data is empty; leave it out for {DEFAULT}, or name a folder")
        whole = Path(path).resolve()
        if whole.exists() and not whole.is_dir():
            raise Misconfigured(f"{whole} is not a folder; name another with --data")
        return cls(whole)

    @property
    def postgres(self) -> Path:
        return self.path / "postgres"

    @property
    def valkey(self) -> Path:
        return self.path / "valkey"

    @property
    def logs(self) -> Path:
        return self.path / "logs"

    @property
    def sockets(self) -> Path:
        """Where sockets lie: in the folder, or in a short private one where its path is too long or too odd."""
        inside = self.path / "run"
        text = str(inside)
        if len(text.encode()) <= MAX_SOCKET_FOLDER and not set(text) & set(",\"'\\"):
            return inside
        name = hashlib.sha256(text.encode()).hexdigest()[:16]
        return Path(tempfile.gettempdir()) / f"cloudmetrics-{os.getuid()}-{name}"

    @property
    def valkey_socket(self) -> Path:
        return self.sockets / "valkey.sock"

    def create(self) -> None:
        """Makes the folders, for their owner alone."""
        for folder in (self.path, self.postgres, self.valkey, self.logs, self.sockets):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self.sockets.stat().st_uid != os.getuid():
            raise Misconfigured(f"{self.sockets} belongs to somebody else; remove it.")

    def lock(self) -> int:
        """Holds the folder for this process and the ones it starts no more; the lock ends with it.

        Raises:
            BlockingIOError: another supervisor holds it.
        """
        handle = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            raise
        return handle

    def is_held(self) -> bool:
        """Whether a supervisor holds the folder: a note alone may be left from one that was killed."""
        if not (self.path / "lock").exists():
            return False
        try:
            os.close(self.lock())
        except BlockingIOError:
            return True
        return False

    def read(self, name: str) -> dict[str, Any]:
        """A JSON file of the folder; {} when it is not there."""
        try:
            found: dict[str, Any] = json.loads((self.path / f"{name}.json").read_text(encoding="utf-8"))
            return found
        except (FileNotFoundError, json.JSONDecodeError):
            return {}

    def write(self, name: str, value: Mapping[str, Any]) -> None:
        """Replaces a JSON file, readable by its owner alone, whole or not at all."""
        target = self.path / f"{name}.json"
        fresh = target.with_suffix(".new")
        handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(value, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        os.replace(fresh, target)

    def forget(self, name: str) -> None:
        (self.path / f"{name}.json").unlink(missing_ok=True)

    def secrets(self) -> dict[str, str]:
        """Passwords and the master key, made at the first start."""
        known = self.read("secrets")
        if not known:
            known = {name: secrets.token_hex(16) for name in ("superuser", *ROLES)}
            known["master_key"] = base64.b64encode(secrets.token_bytes(32)).decode()
            self.write("secrets", known)
        return known

    def database_url(self, role: str, database: str = DATABASE) -> str:
        """PostgreSQL's address for a role, or for `superuser`."""
        user = "postgres" if role == "superuser" else f"cm_{role}"
        return f"postgresql://{user}:{self.secrets()[role]}@/{database}?host={quote(str(self.sockets))}&port=5432"

    def settings(
        self,
        environ: Mapping[str, str],
        *,
        host: str | None = None,
        port: int | None = None,
        workers: int | None = None,
    ) -> Settings:
        """The settings of this instance: the environment's, with this folder's addresses and keys."""
        made = {f"{PREFIX}{role.upper()}_URL": self.database_url(role) for role in ROLES}
        made[f"{PREFIX}REDIS_URL"] = f"unix://{quote(str(self.valkey_socket))}?db=0"
        made[f"{PREFIX}MASTER_KEY"] = self.secrets()["master_key"]
        if not environ.get(f"{PREFIX}EXPORT_FOLDER"):
            made[f"{PREFIX}EXPORT_FOLDER"] = str(self.path / "exports")
        if f"{PREFIX}TIMESCALEDB" not in environ:
            made[f"{PREFIX}TIMESCALEDB"] = self.read("store").get("timescaledb", "")
        if f"{PREFIX}XMLSEC1" not in environ:
            made[f"{PREFIX}XMLSEC1"] = known_xmlsec1()
        if host is not None:
            made[f"{PREFIX}HOST"] = host
        if port is not None:
            made[f"{PREFIX}PORT"] = str(port)
        if workers is not None:
            made[f"{PREFIX}WEB_WORKERS"] = str(workers)
        return Settings.from_env({**environ, **made})

    def keep_log(self, settings: Settings) -> None:
        """Notes which log the instance runs on, and what links to it begin with, for the commands that talk to it."""
        kept = {name: getattr(settings, name) for name in LOG_SETTINGS}
        self.write("log", {**kept, "public_url": settings.public_base})

    def keep_store(self, settings: Settings) -> None:
        """Notes where TimescaleDB is: tables of its can be opened with it alone, at this start and every later one."""
        self.write("store", {"timescaledb": settings.timescaledb})

    def running_settings(self, environ: Mapping[str, str]) -> Settings:
        """The settings of the instance that runs here: its log is what it was started with, whatever is set now."""
        kept = {f"{PREFIX}{name.upper()}": str(value) for name, value in self.read("log").items()}
        return self.settings({**environ, **kept})


def running_instance(data: str) -> tuple[DataFolder, dict[str, Any]]:
    """The instance that runs on a data folder.

    Raises:
        Misconfigured: none does.
    """
    folder = DataFolder.at(data)
    run = folder.read("run")
    if not run or not folder.is_held():
        raise Misconfigured(f"nothing runs on {folder.path}; start it with: python -m cloudmetrics up --data {data}")
    return folder, run
