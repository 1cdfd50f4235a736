"""Real servers for tests: one PostgreSQL and one Valkey a session, a fresh migrated database a module."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import hypothesis
import pytest
from argon2 import PasswordHasher

from cloudmetrics.data_folder import DataFolder
from cloudmetrics.embedded import postgres, valkey
from cloudmetrics.embedded.kafka_server import KafkaFolder, fetch_jars, start_kafka, until_answering
from cloudmetrics.embedded.timescaledb import fetch_timescaledb
from cloudmetrics.embedded.xmlsec import fetch_xmlsec1
from core import accounts, api_keys, people
from core.database import Database, as_owner
from core.errors import Misconfigured
from core.key_requests import Grantor, KeyRequest
from core.keys import ApiKey
from core.people import Person
from core.permissions import Role, Scope
from core.queries import named
from core.settings import Settings
from core.tenancy import KeyKind, Tenant, Tier
from core.valkey import open_valkey
from core.valkey_log import ValkeyLog
from sql.__main__ import migrate

# Timings are never asserted, and a run leaves no file behind.
hypothesis.settings.register_profile("house", deadline=None, database=None)
hypothesis.settings.load_profile("house")

ROOT = Path(__file__).resolve().parent.parent
TEMPLATE = "cm_template"
_numbers = itertools.count(1)


def pytest_sessionstart(session: pytest.Session) -> None:
    """Fetches what is fetched before two processes could do so at once. What cannot be had is told by who needs it."""
    if getattr(session.config.option, "numprocesses", None) and not hasattr(session.config, "workerinput"):
        with suppress(Misconfigured):
            fetch_jars()
        with suppress(Misconfigured):
            fetch_timescaledb()
        with suppress(Misconfigured):
            fetch_xmlsec1()


def pytest_make_parametrize_id(val: object) -> str | None:
    """Packed bytes by their length: gzip puts the second into them, and two processes must find tests of the same
    names."""
    if isinstance(val, bytes) and not (val.isascii() and val.decode("ascii").isprintable()):
        return f"{len(val)}-bytes"
    return None


@dataclass(frozen=True, slots=True)
class Servers:
    """A data folder whose servers run."""

    folder: DataFolder


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    yield from _serve(DataFolder.at(tmp_path_factory.mktemp("servers")))


@pytest.fixture(scope="session")
def timescaledb(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The folder of TimescaleDB, by a path with a space. Where it cannot be had: a failure in CI, elsewhere a skip."""
    try:
        link = tmp_path_factory.mktemp("extension") / "timescale db"
        link.symlink_to(fetch_timescaledb())
        return str(link)
    except Misconfigured as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(error.message)


@pytest.fixture(scope="session")
def xmlsec1() -> str:
    """The path of xmlsec1. Where it cannot be had: a failure in CI, elsewhere a skip."""
    try:
        return fetch_xmlsec1()
    except Misconfigured as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(error.message)


@pytest.fixture(scope="session")
def timescale_servers(tmp_path_factory: pytest.TempPathFactory, timescaledb: str) -> Iterator[Servers]:
    yield from _serve(DataFolder.at(tmp_path_factory.mktemp("timescale")), timescaledb)


def _serve(folder: DataFolder, timescaledb: str = "") -> Iterator[Servers]:
    folder.create()
    settings = folder.settings({})
    processes = [valkey.start_valkey(folder, settings), postgres.start_postgres(folder, timescaledb=timescaledb)]

    async def prepare() -> None:
        for _ in range(1200):
            if await valkey.is_answering(settings.redis_url) and await postgres.is_answering(folder):
                break
            await asyncio.sleep(0.05)
        await postgres.bootstrap(folder, TEMPLATE)
        await migrate(folder.database_url("owner", TEMPLATE))

    try:
        asyncio.run(prepare())
        yield Servers(folder)
    finally:
        for process, signum in zip(processes, (signal.SIGTERM, signal.SIGINT), strict=True):
            process.send_signal(signum)
            # A shutdown checkpoint of many databases takes its time on a busy disk.
            process.wait(60)


@pytest.fixture(scope="session")
def kafka_brokers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A broker of Apache Kafka itself. Where it cannot be had: a failure in CI, elsewhere a skip."""
    folder = KafkaFolder.at(tmp_path_factory.mktemp("kafka"))
    try:
        process = start_kafka(folder)
    except Misconfigured as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(error.message)
    try:
        # In a thread, since a test's own loop may be running when it asks for this.
        with ThreadPoolExecutor(1) as pool:
            pool.submit(asyncio.run, until_answering(folder.brokers)).result()
        yield folder.brokers
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def store_mode(request: pytest.FixtureRequest) -> str:
    """How events are stored: plain; in a module that says `ON_BOTH_STORES = True`, once in each way."""
    return str(getattr(request, "param", "plain"))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if getattr(metafunc.module, "ON_BOTH_STORES", False) and "store_mode" in metafunc.fixturenames:
        metafunc.parametrize("store_mode", ["plain", "timescale"], indirect=True, scope="module")


@pytest.fixture(scope="module")
def servers_of_store(request: pytest.FixtureRequest, store_mode: str) -> Servers:
    running: Servers = request.getfixturevalue("servers" if store_mode == "plain" else "timescale_servers")
    return running


@pytest.fixture(scope="module")
def settings(servers_of_store: Servers) -> Settings:
    """Settings of a fresh migrated database and an empty Valkey."""
    name = f"test_{next(_numbers)}"
    folder = servers_of_store.folder

    async def make() -> None:
        async with as_owner(folder.database_url("superuser", "postgres")) as connection:
            text = named("bootstrap", "create_database_like").text
            await connection.execute(text.format(name=name, template=TEMPLATE))
        client = open_valkey(folder.settings({}).redis_url, seconds=2.0, connections=1)
        await client.flushall()
        await client.aclose()

    asyncio.run(make())
    urls = {
        f"CLOUDMETRICS_{role.upper()}_URL": folder.database_url(role, name)
        for role in ("owner", "app", "writer", "doorkeeper")
    }
    base = folder.settings({}).to_env()
    return Settings.from_env({**base, **urls})


@pytest.fixture(scope="module")
def superuser_url(servers_of_store: Servers, settings: Settings) -> str:
    """The same database for who is held by nothing: to see what nobody else may, and to move clocks."""
    name = urlsplit(settings.owner_url).path.removeprefix("/")
    return servers_of_store.folder.database_url("superuser", name)


@pytest.fixture
async def database(settings: Settings) -> AsyncIterator[Database]:
    database = Database(settings, pool_size=4)
    yield database
    await database.close()


@pytest.fixture
async def log(settings: Settings) -> AsyncIterator[ValkeyLog]:
    log = ValkeyLog(settings.redis_url, max_bytes=256 * 1024 * 1024, retention_hours=72)
    yield log
    await log.close()


@pytest.fixture
async def tenant(database: Database) -> Tenant:
    return await accounts.create_tenant(database, slug=f"tenant-{next(_numbers)}", name="Test", tier=Tier.SELF_HOSTED)


async def make_key(database: Database, settings: Settings, tenant: Tenant, **asked: object) -> tuple[ApiKey, str]:
    """A key of a tenant and its secret; a secret key with all scopes unless asked otherwise."""
    wanted: dict[str, object] = {"kind": KeyKind.SECRET, "name": "t", "scopes": frozenset(Scope), "is_unsigned": True}
    made = await api_keys.create_key(
        database,
        tenant.id,
        KeyRequest(**{**wanted, **asked}),  # type: ignore[arg-type]
        Grantor.operator(tenant.id),
        master_key=settings.master_key_bytes(),
    )
    key = await accounts.find_key(database, key_id=made.key_id)
    assert key is not None
    return key, made.secret


PASSWORD = "correct horse battery staple"


async def make_person(
    database: Database, *tenants: Tenant, role: Role = Role.VIEWER, email: str = "", password: str = PASSWORD
) -> Person:
    """Somebody with that role in each of these tenants, and a password whose hash is a cheap one."""
    cheap = PasswordHasher(time_cost=1, memory_cost=1024, parallelism=1).hash(password)
    email = email or f"person-{next(_numbers)}@people.example"
    async with database.as_doorkeeper(is_write=True) as session:
        person_id = await people.insert_person(session, email=email, name="Ada Lovelace", password_hash=cheap)
    for tenant in tenants:
        async with database.as_tenant(tenant.id, is_write=True) as session:
            await people.insert_member(session, tenant.id, person_id, role)
    person = await people.find_person(database, person_id)
    assert person is not None
    return person


@dataclass(frozen=True, slots=True)
class Instance:
    """A whole running instance, as `up --json` described it."""

    data: Path
    url: str
    secret_key: str
    secret_key_id: str
    publishable_key: str
    email: str
    password: str

    def cli(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return run_cli(*arguments, "--data", str(self.data), check=check)

    def pid(self, name: str) -> int:
        """A process's pid; 0 while it is down."""
        run = json.loads((self.data / "run.json").read_text())
        return int(run["pid"] if name == "supervisor" else run["children"][name]["pid"] or 0)


def run_cli(
    *arguments: str, check: bool = True, settings: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """`python -m cloudmetrics …`, to its end, with these settings and no others."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("CLOUDMETRICS_")}
    environ |= {f"CLOUDMETRICS_{name}": value for name, value in (settings or {}).items()}
    done = subprocess.run(
        [sys.executable, "-m", "cloudmetrics", *arguments],
        cwd=ROOT, env=environ, capture_output=True, text=True, timeout=180, check=False,
    )  # fmt: skip
    if check:
        assert done.returncode == 0, f"{done.args} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}"
    return done


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start_instance(data: Path, *arguments: str, settings: Mapping[str, str] | None = None) -> Instance:
    """`up --detach` on a free port."""
    command = ("up", "--data", str(data), "--port", str(free_port()), "--detach", "--json", *arguments)
    done = run_cli(*command, check=False, settings=settings)
    assert done.returncode == 0, done.stderr
    block = json.loads(done.stdout)
    names = ("url", "secret_key", "secret_key_id", "publishable_key", "email", "password")
    return Instance(data, *(block[name] for name in names))


@pytest.fixture(scope="module")
def instance(
    request: pytest.FixtureRequest, store_mode: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Instance]:
    """An empty instance of the embedded size; its folder's name has a space in it."""
    data = tmp_path_factory.mktemp("an instance") / "data"
    settings = {} if store_mode == "plain" else {"TIMESCALEDB": request.getfixturevalue("timescaledb")}
    running = start_instance(data, "--empty", settings=settings)
    try:
        yield running
    finally:
        running.cli("down")
