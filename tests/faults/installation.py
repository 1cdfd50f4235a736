"""One running installation: real servers, a proxy of ours before each, web and two workers, and handles to all."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx2

from cloudmetrics import accounts
from cloudmetrics.children import python_child
from cloudmetrics.data_folder import DataFolder
from cloudmetrics.embedded import postgres, valkey
from cloudmetrics.embedded.kafka_server import KafkaFolder, free_port, start_kafka, until_answering
from core.errors import Unavailable
from core.eventlog import EventLog
from core.log import open_log
from core.permissions import Scope
from core.settings import Settings
from core.tenancy import KeyKind, Tenant, Tier
from core.topics import GROUPS
from sql.__main__ import migrate
from tests.faults.disks import SmallDisk
from tests.faults.proxy import FAIR, Proxies, Proxy

READY_SECONDS = 90.0
STOP_SECONDS = 20.0
WORKERS = ("worker-a", "worker-b")
PROGRAMS = {"web": ("web",), "worker-a": ("pipeline", "all"), "worker-b": ("pipeline", "all")}
# Those that use the servers end before them.
STOP_ORDER = ("web", *WORKERS, "kafka", "valkey", "postgres")


@dataclass(frozen=True, slots=True)
class Member:
    """A tenant and its secret key."""

    tenant: Tenant
    key: str


class Installation:
    """All processes of one log, started and stopped by name: web, worker-a, worker-b, postgres, valkey, kafka."""

    def __init__(self, log: str, home: Path, *, fsync: str = "always", disks: Mapping[str, SmallDisk] | None = None):
        self.log = log
        self.home = home
        self.disks = dict(disks or {})
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        # What ended that nobody had ended: name and status.
        self.deaths: list[str] = []
        self.folder = DataFolder.at(home / "data")
        self.folder.create()
        self._network = Proxies()
        self.proxies: dict[str, Proxy] = {
            "valkey": self._network.add("valkey", self.folder.valkey_socket),
            "postgres": self._network.add("postgres", self.folder.sockets / ".s.PGSQL.5432"),
        }
        self._kafka = KafkaFolder.at(home / "kafka")
        if log == "kafka":
            self.proxies["kafka"] = self._network.add("kafka", self._kafka.broker_port)
            self._kafka = dataclasses.replace(self._kafka, advertised_port=self.proxies["kafka"].port)
        self.direct = dataclasses.replace(
            self.folder.settings({}, port=free_port()), kafka_brokers=self._brokers(), log_fsync=fsync
        )
        self.settings = self._through_proxies()
        self.url = f"http://127.0.0.1:{self.settings.port}"
        self._numbers = 0

    @property
    def log_server(self) -> str:
        """The server that is the log."""
        return self.log

    @property
    def servers(self) -> list[str]:
        return ["postgres", "valkey", *(["kafka"] if self.log == "kafka" else [])]

    def _brokers(self) -> str:
        return f"127.0.0.1:{self.proxies['kafka'].port}" if self.log == "kafka" else ""

    def _through_proxies(self) -> Settings:
        passwords, port = self.folder.secrets(), self.proxies["postgres"].port
        urls = {
            f"{role}_url": f"postgresql://cm_{role}:{passwords[role]}@127.0.0.1:{port}/cloudmetrics"
            for role in ("owner", "app", "writer", "doorkeeper")
        }
        return dataclasses.replace(
            self.direct, redis_url=f"redis://127.0.0.1:{self.proxies['valkey'].port}/0", **urls
        )  # fmt: skip

    # --- one process -------------------------------------------------------------------------------------------------

    def start(self, name: str, *, fail_point: str = "", environ: Mapping[str, str] | None = None) -> None:
        """Starts what does not run; it may take a while until it serves."""
        if name in self.processes and self.processes[name].poll() is None:
            return
        if name == "valkey":
            self.processes[name] = valkey.start_valkey(self.folder, self.direct)
        elif name == "postgres":
            self.processes[name] = postgres.start_postgres(self.folder)
        elif name == "kafka":
            self.processes[name] = start_kafka(self._kafka)
        else:
            settings = dataclasses.replace(self.settings, fail_point=fail_point)
            child = {**settings.to_env(), **(environ or {})}
            self.processes[name] = python_child(
                *PROGRAMS[name], environ=child, log=self.folder.logs / f"{name}.log"
            )()  # fmt: skip

    def kill(self, name: str) -> None:
        """kill -9, and no word before it."""
        self.processes[name].kill()
        self.processes[name].wait()

    def stop(self, name: str) -> None:
        """Asks it to end, as a deployment does; insists when it does not."""
        process = self.processes[name]
        process.send_signal(signal.SIGINT if name == "postgres" else signal.SIGTERM)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.deaths.append(f"{name} did not stop within {STOP_SECONDS:.0f} s")
            self.kill(name)

    def restart(self, name: str, *, fail_point: str = "", environ: Mapping[str, str] | None = None) -> None:
        if self.processes[name].poll() is None:
            self.stop(name)
        self.start(name, fail_point=fail_point, environ=environ)

    def freeze(self, name: str) -> None:
        """SIGSTOP to it and all its children."""
        for pid in self._tree(name):
            os.kill(pid, signal.SIGSTOP)

    def thaw(self, name: str) -> None:
        for pid in self._tree(name):
            os.kill(pid, signal.SIGCONT)

    def _tree(self, name: str) -> list[int]:
        pid = self.processes[name].pid
        if self.processes[name].poll() is not None:
            return []
        return [pid, *(int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]

    def kill_child(self, name: str, pid: int) -> None:
        """kill -9 of one of its children."""
        if pid not in self._tree(name):
            raise RuntimeError(f"{pid} is no child of {name}")
        os.kill(pid, signal.SIGKILL)

    def has_ended(self, name: str) -> bool:
        return self.processes[name].poll() is not None

    def until_ended(self, *names: str, seconds: float = 30.0) -> list[str]:
        """Waits until one of these processes has ended by itself; which have."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and not any(self.has_ended(name) for name in names):
            time.sleep(0.02)
        return [name for name in names if self.has_ended(name)]

    def until_frozen(self, *names: str, seconds: float) -> list[str]:
        """Waits until one of these processes has stopped itself; which have."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and not any(self._is_frozen(name) for name in names):
            time.sleep(0.02)
        return [name for name in names if self._is_frozen(name)]

    def _is_frozen(self, name: str) -> bool:
        stat = Path(f"/proc/{self.processes[name].pid}/stat").read_text()
        return stat.rpartition(")")[2].split()[0] == "T"

    # --- all of it ---------------------------------------------------------------------------------------------------

    def open(self) -> None:
        """Starts everything, and returns when it serves."""
        for name in self.servers:
            self.start(name)
        asyncio.run(self._prepare())
        self.heal()

    async def _prepare(self) -> None:
        if self.log == "kafka":
            await until_answering(self.direct.kafka_brokers)
        await _until(lambda: valkey.is_answering(self.direct.redis_url))
        await _until(lambda: postgres.is_answering(self.folder))
        await postgres.bootstrap(self.folder)
        await migrate(self.direct.owner_url)

    def heal(self) -> None:
        """Ends every spoilt network and freeze, starts what has ended, and returns when all of it serves."""
        for disk in self.disks.values():
            disk.free()
        for proxy in self.proxies.values():
            proxy.weather(FAIR)
        for name in self.processes:
            self.thaw(name)
        self.until_ready()

    def until_ready(self) -> None:
        """Starts what has ended, and returns when all of it serves."""
        end = time.monotonic() + READY_SECONDS
        while True:
            self.revive()
            if self.is_ready():
                return
            if time.monotonic() > end:
                raise RuntimeError(f"not ready within {READY_SECONDS:.0f} s; logs are in {self.folder.logs}")
            time.sleep(0.1)

    def renew(self) -> None:
        """Web and workers anew, when they did not heal by themselves."""
        for name in ("web", *WORKERS):
            self.kill(name)
        self.heal()

    def revive(self) -> None:
        """Starts what has ended, as the supervisor does."""
        for name in (*self.servers, "web", *WORKERS):
            process = self.processes.get(name)
            if process is None or process.poll() is not None:
                if process is not None and process.returncode not in (0, -signal.SIGKILL):
                    self.deaths.append(f"{name} ended with {process.returncode}")
                    time.sleep(0.3)
                self.start(name)

    def is_ready(self) -> bool:
        try:
            return httpx2.get(f"{self.url}/health/ready", timeout=5).status_code == 200
        except httpx2.HTTPError:
            return False

    def close(self) -> None:
        for name in self.processes:
            self.thaw(name)
        for name in STOP_ORDER:
            if name in self.processes and not self.has_ended(name):
                self.kill(name) if name == "kafka" else self.stop(name)
        self._network.close()

    # --- what is asked of it -----------------------------------------------------------------------------------------

    def new_member(self) -> Member:
        """A fresh tenant, which no earlier fault has touched."""
        self._numbers += 1
        return asyncio.run(self._new_member(f"tenant-{self._numbers}"))

    async def _new_member(self, slug: str) -> Member:
        tenant = await accounts.create_tenant(self.direct, slug=slug, name="", tier=Tier.SELF_HOSTED)
        made = await accounts.create_key(
            self.direct, tenant=slug, kind=KeyKind.SECRET, name="", scopes=frozenset(Scope), is_unsigned=True
        )
        return Member(tenant, made.secret)

    def drain(self, seconds: float) -> bool:
        """Waits until all that is in the log is done; whether it is."""
        return asyncio.run(self._drain(seconds))

    async def _drain(self, seconds: float) -> bool:
        log, end, calm = open_log(self.direct), time.monotonic() + seconds, 0
        try:
            while time.monotonic() < end:
                self.revive()
                calm = calm + 1 if await _lag(log) == 0 else 0
                if calm == 2:
                    return True
                await asyncio.sleep(0.1)
            return False
        finally:
            await log.close()


async def _lag(log: EventLog) -> int:
    """Records that some worker has not done yet; more than 0 while nobody can tell."""
    try:
        return sum([sum((await log.lag(group, topics)).values()) for group, topics in GROUPS.items()])
    except Unavailable:
        return 1


async def _until(is_so: Callable[[], object]) -> None:
    end = time.monotonic() + READY_SECONDS
    while not await is_so():  # type: ignore[misc]
        if time.monotonic() > end:
            raise RuntimeError(f"no server within {READY_SECONDS:.0f} s")
        await asyncio.sleep(0.05)
