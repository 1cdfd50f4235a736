"""The supervisor of the embedded size: servers, migrations, web and workers, until told to stop."""

from __future__ import annotations

import asyncio
import errno
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import httpx2

from cloudmetrics import accounts
from cloudmetrics.children import Child, python_child
from cloudmetrics.data_folder import DataFolder
from cloudmetrics.embedded import postgres, valkey
from core.errors import CloudMetricsError, DatabaseUnavailable, Misconfigured
from core.permissions import Scope
from core.settings import Settings
from core.tenancy import KeyKind, Tier
from sql.__main__ import migrate

READY_SECONDS = 60.0
STOP_SECONDS = 14.0
DEMO_DAYS = 7
OWNER = "owner@demo.local"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What `up` was asked for."""

    folder: DataFolder
    settings: Settings
    is_empty: bool


def check_port(settings: Settings) -> None:
    """Refuses a port that somebody else has.

    Raises:
        Misconfigured: with the remedy.
    """
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.host, settings.port))
        except socket.gaierror as error:
            raise Misconfigured(f"there is no host {settings.host!r} ({error.strerror}); give another --host") from None
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise Misconfigured(
                    f"cannot listen on {settings.host} port {settings.port} ({error.strerror}); give another --host or "
                    "--port"
                ) from None
            raise Misconfigured(
                f"port {settings.port} on {settings.host} is taken ({error.strerror}); stop the program that has it, "
                f"or start with --port {settings.port + 1}"
            ) from None


class Supervisor:
    """Owns every process of one data folder."""

    def __init__(self, wanted: Wanted, say: Callable[[str], None]) -> None:
        self._wanted = wanted
        self._say = say
        self._children: list[Child] = []
        self._watches: list[asyncio.Task[None]] = []

    async def run(self, on_ready: Callable[[dict[str, object]], None]) -> None:
        """Starts all, calls back when ready, and returns after all has stopped."""
        stop = asyncio.Event()
        for signum in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(signum, self._on_signal, stop)
        starting = asyncio.ensure_future(self._start())
        stopped = asyncio.ensure_future(stop.wait())
        try:
            await asyncio.wait({starting, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if starting.done():
                on_ready(starting.result())
                note = asyncio.create_task(self._keep_note())
                await stopped
                note.cancel()
        finally:
            starting.cancel()
            await self._stop()

    def _on_signal(self, stop: asyncio.Event) -> None:
        if stop.is_set():
            for child in self._children:
                if child.process is not None and child.process.poll() is None:
                    child.process.kill()
            os._exit(1)
        self._say("stopping …")
        stop.set()

    async def _start(self) -> dict[str, object]:
        folder, settings = self._wanted.folder, self._wanted.settings
        folder.keep_log(settings)
        folder.keep_store(settings)
        is_first = not folder.read("credentials")
        self._add(Child("valkey", lambda: valkey.start_valkey(folder, settings)))
        self._add(Child("postgres", self._start_postgres, signal.SIGINT))
        await self._until(lambda: valkey.is_answering(settings.redis_url), "valkey")
        await self._until(self._bootstrap, "postgres")
        await migrate(settings.owner_url)
        if is_first:
            await self._create_first_tenant()
        if "email" not in folder.read("credentials"):
            await self._create_owner()
        environ = settings.to_env()
        self._add(Child("web", python_child("web", environ=environ, log=folder.logs / "web.log")))
        # Accepting goes before counting where both want the processor.
        log = folder.logs / "pipeline.log"
        self._add(Child("pipeline", python_child("pipeline", "all", environ=environ, log=log, niceness=10)))
        await self._until(self._is_ready, "web")
        self._write_note()
        self._start_demo(is_first=is_first)
        return self._block()

    def _start_demo(self, *, is_first: bool) -> None:
        folder = self._wanted.folder
        has_demo = bool(folder.read("demo"))
        if is_first and not self._wanted.is_empty:
            folder.write("demo", {"sent_until_ms": 0})
            has_demo = True
        if has_demo:
            arguments = ("demo", "--data", str(folder.path), "--backfill-days", str(DEMO_DAYS), "--resume")
            seed = ("--seed", "first start")
            start = python_child("cloudmetrics", *arguments, *seed, environ={}, log=None, niceness=15)
            self._add(Child("demo", start, is_once=True))

    def _add(self, child: Child) -> None:
        child.launch()
        self._children.append(child)
        self._watches.append(asyncio.create_task(child.watch(self._say)))

    async def _until(self, is_there: Callable[[], Awaitable[bool]], name: str) -> None:
        end = time.monotonic() + READY_SECONDS
        while not await is_there():
            if time.monotonic() > end:
                raise Misconfigured(
                    f"{name} did not answer within {READY_SECONDS:.0f} s; see {self._wanted.folder.logs / name}.log"
                )
            await asyncio.sleep(0.03)

    def _start_postgres(self) -> subprocess.Popen[bytes]:
        settings = self._wanted.settings
        return postgres.start_postgres(self._wanted.folder, settings.postgres_bin, settings.timescaledb)

    async def _bootstrap(self) -> bool:
        try:
            await postgres.bootstrap(self._wanted.folder)
            return True
        except DatabaseUnavailable:
            return False

    async def _is_ready(self) -> bool:
        try:
            async with httpx2.AsyncClient(timeout=2.0) as client:
                return (await client.get(f"{self._url()}/health/ready")).status_code == 200
        except httpx2.HTTPError:
            return False

    async def _create_first_tenant(self) -> None:
        settings = self._wanted.settings
        await accounts.create_tenant(settings, slug="demo", name="Demo", tier=Tier.SELF_HOSTED, is_demo=True)
        secret = await accounts.create_key(
            settings, tenant="demo", kind=KeyKind.SECRET, name="first key", scopes=frozenset(Scope), is_unsigned=True
        )
        publishable = await accounts.create_key(
            settings, tenant="demo", kind=KeyKind.PUBLISHABLE, name="first page key",
            scopes=frozenset({Scope.EVENTS_WRITE}), origins=("*",),
        )  # fmt: skip
        self._wanted.folder.write(
            "credentials",
            {
                "tenant": "demo",
                "secret_key": secret.secret,
                "secret_key_id": secret.key_id,
                "publishable_key": publishable.secret,
            },
        )

    async def _create_owner(self) -> None:
        """Who signs in; also in a folder that is older than sign-in."""
        folder = self._wanted.folder
        known, password = folder.read("credentials"), secrets.token_urlsafe(18)
        await accounts.create_owner(
            self._wanted.settings, tenant=known["tenant"], email=OWNER, name="Owner", password=password
        )
        folder.write("credentials", {**known, "email": OWNER, "password": password})

    def _url(self) -> str:
        settings = self._wanted.settings
        host = "127.0.0.1" if settings.host in ("0.0.0.0", "::") else settings.host
        return f"http://{f'[{host}]' if ':' in host else host}:{settings.port}"

    def _block(self) -> dict[str, object]:
        return {**addresses(self._url()), **self._wanted.folder.read("credentials")}

    def _write_note(self) -> None:
        children = {child.name: {"pid": child.pid, "restarts": child.restarts} for child in self._children}
        self._wanted.folder.write("run", {"pid": os.getpid(), **addresses(self._url()), "children": children})

    async def _keep_note(self) -> None:
        """Keeps run.json true when a child is started again."""
        known: object = None
        while True:
            now = [(child.name, child.pid) for child in self._children]
            if now != known:
                self._write_note()
                known = now
            await asyncio.sleep(0.5)

    async def _stop(self) -> None:
        """Feeders and web first, then workers, then the servers they use; each within what is left of the time."""
        end = time.monotonic() + STOP_SECONDS
        order = {"demo": 0, "web": 0, "pipeline": 1, "valkey": 2, "postgres": 2}
        for rank in (0, 1, 2):
            group = [child for child in self._children if order[child.name] == rank]
            await asyncio.gather(*(child.stop(max(0.5, end - time.monotonic() - (2 - rank))) for child in group))
        for watch in self._watches:
            watch.cancel()
        await asyncio.gather(*self._watches, return_exceptions=True)
        self._wanted.folder.forget("run")


def addresses(url: str) -> dict[str, object]:
    """Where the doors are."""
    return {
        "url": url,
        "graphql": f"{url}/graphql",
        "graphql_ws": f"{url.replace('http', 'ws', 1)}/graphql",
        "events": f"{url}/v1/events",
    }


def supervise(wanted: Wanted, on_ready: Callable[[dict[str, object]], None]) -> int:
    """Runs one instance in this process; 0 after an orderly stop, 1 when it could not start."""

    def say(text: str) -> None:
        print(f"cloudmetrics: {text}", file=sys.stderr, flush=True)

    try:
        asyncio.run(Supervisor(wanted, say).run(on_ready))
    except CloudMetricsError as error:
        say(error.message)
        return 1
    return 0
