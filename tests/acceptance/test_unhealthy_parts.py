"""A part that is away is said so, in time; what was accepted is counted when it is back."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import websockets
from gql import Client, gql
from gql.transport.websockets import WebsocketsTransport

from cloudmetrics import accounts
from cloudmetrics.data_folder import DataFolder
from cloudmetrics.embedded import postgres, valkey
from core.permissions import Scope
from core.tenancy import KeyKind, Tier
from sql.__main__ import migrate
from tests.conftest import ROOT, free_port

pytestmark = pytest.mark.slow
COUNT = 'query { series(query: {metric: "events", range: {last: "1h"}}) { series { total } } }'
STREAM = 'subscription { series(query: {metric: "events", range: {last: "10m"}, interval: MINUTE}) { kind columns } }'


class Parts:
    """The embedded size without its supervisor, so that a part stays away until it is started again."""

    def __init__(self, folder: DataFolder) -> None:
        self.folder = folder
        self.settings = folder.settings({}, port=free_port())
        self.url = f"http://127.0.0.1:{self.settings.port}"
        self.key = ""
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._starts: dict[str, Callable[[], subprocess.Popen[bytes]]] = {
            "valkey": lambda: valkey.start_valkey(folder, self.settings),
            "postgres": lambda: postgres.start_postgres(folder),
            "web": lambda: self._python("web"),
            "pipeline": lambda: self._python("pipeline", "all"),
        }

    def _python(self, *arguments: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", *arguments]
        with open(self.folder.logs / f"{arguments[0]}.log", "ab") as log:
            return subprocess.Popen(
                command, cwd=ROOT, env={**os.environ, **self.settings.to_env()}, stdout=log, stderr=log
            )

    def start(self, name: str) -> None:
        self._running[name] = self._starts[name]()

    def signal(self, name: str, signum: signal.Signals) -> None:
        self._running[name].send_signal(signum)

    def kill(self, name: str) -> None:
        self._running[name].kill()
        self._running[name].wait()

    def stop_all(self) -> None:
        for name in ("web", "pipeline", "valkey", "postgres"):
            if name in self._running:
                self._running[name].send_signal(signal.SIGCONT)
                self._running[name].send_signal(signal.SIGINT if name == "postgres" else signal.SIGTERM)
        for process in self._running.values():
            process.wait(20)

    async def prepare(self) -> None:
        await until(lambda: valkey.is_answering(self.settings.redis_url))
        await until(lambda: postgres.is_answering(self.folder))
        await postgres.bootstrap(self.folder)
        await migrate(self.settings.owner_url)
        await accounts.create_tenant(self.settings, slug="t", name="", tier=Tier.SELF_HOSTED)
        made = await accounts.create_key(
            self.settings, tenant="t", kind=KeyKind.SECRET, name="", scopes=frozenset(Scope), is_unsigned=True
        )
        self.key = made.secret

    def send(self, count: int = 1) -> httpx2.Response:
        events = [{"type": "ping", "context": {"user_agent": ""}}] * count
        return httpx2.post(f"{self.url}/v1/events", json={"events": events}, headers=self.headers, timeout=10)

    def ask(self, query: str = COUNT) -> dict[str, Any]:
        answer = httpx2.post(f"{self.url}/graphql", json={"query": query}, headers=self.headers, timeout=15)
        assert answer.status_code == 200
        found: dict[str, Any] = answer.json()
        return found

    def total(self) -> int | None:
        data = self.ask()["data"]
        return None if data is None else int(data["series"]["series"][0]["total"])

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.key}"}


async def until(is_so: Callable[[], Any], seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not await is_so():
        assert time.monotonic() < end, "not in time"
        await asyncio.sleep(0.05)


def wait_for(is_so: Callable[[], bool], seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end, "not in time"
        time.sleep(0.1)


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Parts]:
    folder = DataFolder.at(tmp_path_factory.mktemp("parts"))
    folder.create()
    parts = Parts(folder)
    try:
        for name in ("valkey", "postgres"):
            parts.start(name)
        asyncio.run(parts.prepare())
        for name in ("web", "pipeline"):
            parts.start(name)
        wait_for(lambda: is_ready(parts))
        yield parts
    finally:
        parts.stop_all()


def is_ready(parts: Parts) -> bool:
    try:
        return httpx2.get(f"{parts.url}/health/ready", timeout=5).status_code == 200
    except httpx2.HTTPError:
        return False


def is_accepted(parts: Parts) -> bool:
    return parts.send().status_code == 202


def is_refused_in_time(answer: httpx2.Response, code: str) -> None:
    assert answer.status_code == 503, answer.text
    assert int(answer.headers["retry-after"]) >= 1
    assert answer.headers["x-request-id"] == answer.json()["error"]["request_id"]
    assert answer.json()["error"]["code"] == code
    assert answer.elapsed.total_seconds() < 5


@pytest.mark.parametrize("how", ["killed", "frozen"])
def test_without_valkey_ingest_says_503_in_time_and_recovers_by_itself(parts: Parts, how: str) -> None:
    assert parts.send().status_code == 202
    before = settled(parts)
    if how == "killed":
        parts.kill("valkey")
    else:
        parts.signal("valkey", signal.SIGSTOP)
    is_refused_in_time(parts.send(), "log_unavailable")
    is_refused_in_time(parts.send(), "log_unavailable")
    assert httpx2.get(f"{parts.url}/health/live").status_code == 200
    health = httpx2.get(f"{parts.url}/health/ready", timeout=10)
    assert health.status_code == 503 and health.json()["log"] == "log_unavailable"
    # What is counted can still be read.
    assert parts.total() == before
    if how == "killed":
        parts.start("valkey")
    else:
        parts.signal("valkey", signal.SIGCONT)
    wait_for(lambda: is_accepted(parts))
    wait_for(lambda: (parts.total() or 0) > before)


async def test_without_valkey_a_socket_is_told_when_to_come_back_and_goes_on(parts: Parts) -> None:
    url = f"{parts.url.replace('http', 'ws', 1)}/v1/events/ws"
    frame = json.dumps({"events": [{"type": "ping", "context": {"user_agent": ""}}]})
    async with websockets.connect(url, additional_headers=parts.headers) as socket:
        await socket.recv(), await socket.recv()

        async def answer() -> dict[str, Any]:
            await socket.send(frame)
            async with asyncio.timeout(15):
                found: dict[str, Any] = json.loads(await socket.recv())
            return found

        assert (await answer())["type"] == "ack"
        parts.kill("valkey")
        refusal = await answer()
        assert (refusal["type"], refusal["status"], refusal["seq"]) == ("refused", 503, 2)
        assert refusal["error"]["code"] == "log_unavailable" and refusal["retry_after"] >= 1
        parts.start("valkey")
        async with asyncio.timeout(30):
            while (await answer())["type"] != "ack":
                await asyncio.sleep(0.2)


def settled(parts: Parts) -> int:
    """The total once everything sent is counted."""
    wait_for(lambda: sum(httpx2.get(f"{parts.url}/health/ready", timeout=10).json()["lag"].values()) == 0)
    return parts.total() or 0


def test_without_postgres_ingest_goes_on_reads_say_so_and_the_workers_catch_up(parts: Parts) -> None:
    assert parts.send().status_code == 202
    before = settled(parts)
    parts.kill("postgres")
    for _ in range(10):
        answer = parts.send(10)
        assert answer.status_code == 202 and answer.json()["accepted"] == 10
    # Not one whose answer is kept: that one is still given, and says until when it is fresh.
    error = parts.ask(COUNT.replace("1h", "2h"))["errors"][0]["extensions"]
    assert error["code"] == "DATABASE_UNAVAILABLE" and error["requestId"]
    health = httpx2.get(f"{parts.url}/health/ready", timeout=10)
    assert health.status_code == 503 and health.json()["database"] == "database_unavailable"
    # A key that was never seen cannot be told good from bad.
    stranger = httpx2.post(
        f"{parts.url}/v1/events", json={"events": [{"type": "a"}]},
        headers={"Authorization": f"Bearer cm_pk_{'x' * 43}"}, timeout=10,
    )  # fmt: skip
    is_refused_in_time(stranger, "database_unavailable")
    parts.start("postgres")
    wait_for(lambda: parts.total() == before + 100)
    assert settled(parts) == before + 100


async def test_a_live_stream_outlives_a_restart_of_valkey(parts: Parts) -> None:
    transport = WebsocketsTransport(
        url=f"{parts.url.replace('http', 'ws', 1)}/graphql",
        init_payload={"authorization": f"Bearer {parts.key}"},
        subprotocols=[WebsocketsTransport.GRAPHQLWS_SUBPROTOCOL],
    )
    async with Client(transport=transport) as session:
        frames = session.subscribe(gql(STREAM))
        assert (await anext(frames))["series"]["kind"] == "SNAPSHOT"
        await asyncio.to_thread(parts.kill, "valkey")
        await asyncio.sleep(1.0)
        parts.start("valkey")
        async with asyncio.timeout(20):
            kinds = [(await anext(frames))["series"]["kind"] for _ in range(2)]
            assert kinds == ["GAP", "SNAPSHOT"]
            await asyncio.to_thread(wait_for, lambda: is_accepted(parts))
            while (await anext(frames))["series"]["kind"] != "DELTA":
                continue
        await frames.aclose()


def test_a_worker_that_was_frozen_past_its_lease_doubles_nothing(parts: Parts) -> None:
    before = settled(parts)
    for _ in range(20):
        assert parts.send(50).status_code == 202
    parts.signal("pipeline", signal.SIGSTOP)
    frozen = parts._running["pipeline"]
    parts.start("pipeline")
    wait_for(lambda: parts.total() == before + 1000, 60)
    frozen.send_signal(signal.SIGCONT)
    time.sleep(2)
    assert settled(parts) == before + 1000
    frozen.terminate()
    frozen.wait(20)


def test_logs_hold_no_traceback(parts: Parts) -> None:
    for name in ("web", "pipeline"):
        text = (Path(parts.folder.logs) / f"{name}.log").read_text()
        assert "Traceback" not in text, text[-4000:]
