"""Several web processes behind one port: all serve, a dead one is replaced, an end is waited for, none is left."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import httpx2
import pytest

from cloudmetrics.data_folder import DataFolder
from core import accounts
from core.database import Database
from core.queries import named
from core.tenancy import Tier
from tests.conftest import Instance, make_key, run_cli, start_instance

pytestmark = pytest.mark.slow
WORKERS = 3
COUNT = '{ series(query: {metric: "events", range: {last: "24h"}}) { series { total } } }'


@pytest.fixture(scope="module")
def instance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    data = tmp_path_factory.mktemp("workers") / "data"
    running = start_instance(data, "--empty", "--workers", str(WORKERS))
    try:
        yield running
    finally:
        running.cli("down")


def until(is_so: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < end, what
        time.sleep(0.05)


def workers(instance: Instance) -> list[int]:
    parent = instance.pid("web")
    try:
        return [int(pid) for pid in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()]
    except OSError:
        return []


def serving_pid(instance: Instance) -> int:
    """The worker that takes a new connection; 0 when it was cut off."""
    try:
        return int(httpx2.get(f"{instance.url}/health/live", timeout=10).json()["pid"])
    except httpx2.HTTPError:
        return 0


def served_by_all(instance: Instance, pids: set[int]) -> bool:
    """Asks many at once, so that no worker is left idle by luck."""
    seen: set[int] = set()
    threads = [threading.Thread(target=lambda: seen.add(serving_pid(instance))) for _ in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return pids <= seen


def send(instance: Instance, event_id: str) -> int:
    """The status of one event's request; one that got no answer is sent again, with the same id."""
    end = time.monotonic() + 30
    while True:
        try:
            answer = httpx2.post(
                f"{instance.url}/v1/events",
                headers={"Authorization": f"Bearer {instance.publishable_key}"},
                json={"events": [{"id": event_id, "type": "w"}]},
                timeout=10,
            )
            return answer.status_code
        except httpx2.HTTPError:
            assert time.monotonic() < end, "no answer"


def counted(instance: Instance) -> int:
    answer = httpx2.post(
        f"{instance.url}/graphql",
        headers={"Authorization": f"Bearer {instance.secret_key}"},
        json={"query": COUNT.replace("series(query: {", "series(query: {includeBots: true, ")},
        timeout=10,
    ).json()
    return int(answer["data"]["series"]["series"][0]["total"] or 0)


def test_every_worker_serves_and_the_probe_is_right(instance: Instance) -> None:
    pids = set(workers(instance))
    assert len(pids) == WORKERS and instance.pid("web") not in pids
    until(lambda: served_by_all(instance, pids), "each worker serves")
    assert httpx2.get(f"{instance.url}/health/ready", timeout=10).json()["status"] == "ready"
    status = json.loads(instance.cli("status", "--json").stdout)
    assert set(status["processes"]["web"]["workers"]) == pids


def test_connections_that_stay_open_are_spread_over_the_workers(instance: Instance) -> None:
    async def connect() -> Counter[int]:
        clients = [httpx2.AsyncClient(timeout=20) for _ in range(45)]
        answers = await asyncio.gather(*(client.get(f"{instance.url}/health/live") for client in clients))
        await asyncio.gather(*(client.aclose() for client in clients))
        return Counter(int(answer.json()["pid"]) for answer in answers)

    found = asyncio.run(connect())
    assert len(found) == WORKERS and min(found.values()) >= 8, found


def test_a_frozen_worker_keeps_no_new_connection_waiting(instance: Instance) -> None:
    frozen = workers(instance)[0]
    os.kill(frozen, signal.SIGSTOP)
    try:
        assert frozen not in {serving_pid(instance) for _ in range(10)}
    finally:
        os.kill(frozen, signal.SIGCONT)


def test_a_killed_worker_is_replaced_while_requests_go_on_and_all_count_once(instance: Instance) -> None:
    parent, before = instance.pid("web"), set(workers(instance))
    victim = min(before)
    sent, stop = [], threading.Event()

    def load() -> None:
        while not stop.is_set():
            assert send(instance, str(uuid4())) == 202
            sent.append(1)

    threads = [threading.Thread(target=load) for _ in range(4)]
    for thread in threads:
        thread.start()
    until(lambda: len(sent) > 50, "requests go")
    os.kill(victim, signal.SIGKILL)
    until(lambda: len(set(workers(instance)) - {victim}) == WORKERS, "another follows")
    fresh = set(workers(instance))
    until(lambda: served_by_all(instance, fresh), "it serves")
    stop.set()
    for thread in threads:
        thread.join()
    assert instance.pid("web") == parent and before - {victim} < fresh
    until(lambda: counted(instance) == len(sent), "each counts once")


def test_sigterm_waits_for_the_request_that_is_on_its_way(instance: Instance) -> None:
    parent, old = instance.pid("web"), set(workers(instance))
    body = json.dumps({"events": [{"type": "w"}]}).encode()
    host, port = instance.url.removeprefix("http://").split(":")
    head = (
        f"POST /v1/events HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {instance.publishable_key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall(head.encode() + body[:5])
        time.sleep(0.5)
        os.kill(parent, signal.SIGTERM)
        time.sleep(1.0)
        connection.sendall(body[5:])
        assert connection.recv(4096).startswith(b"HTTP/1.1 202")
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in [parent, *old]), "all end")
    until(
        lambda: instance.pid("web") not in (0, parent) and serving_pid(instance) > 0, "the supervisor starts it again"
    )


def test_workers_end_with_a_parent_that_was_killed(instance: Instance) -> None:
    until(lambda: len(workers(instance)) == WORKERS, "all are there")
    parent, old = instance.pid("web"), workers(instance)
    os.kill(parent, signal.SIGKILL)
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in old), "none serves for ever")
    until(lambda: instance.pid("web") not in (0, parent) and serving_pid(instance) > 0, "others serve")


def test_a_quota_holds_across_workers(instance: Instance) -> None:
    """98,000 of 100,000 are counted; 40 batches of 70 come at once."""
    folder = DataFolder.at(instance.data)

    async def make_tenant() -> str:
        database = Database(folder.settings({}))
        tenant = await accounts.create_tenant(database, slug="metered", name="", tier=Tier.FREE)
        made = await make_key(database, folder.settings({}), tenant)
        async with database.as_writer() as session:
            day = datetime.now(UTC).date()
            await session.execute(named("aggregate", "add_usage"), [tenant.id], [day], ["k"], [98_000], [0])
        await database.close()
        return made[1]

    secret = asyncio.run(make_tenant())
    body = {"events": [{"type": "m"}] * 70}

    def post(_: int) -> httpx2.Response:
        headers = {"Authorization": f"Bearer {secret}"}
        return httpx2.post(f"{instance.url}/v1/events", headers=headers, json=body, timeout=30)

    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(post, range(40)))
    refused = [answer for answer in answers if answer.status_code == 429]
    accepted = 98_000 + sum(answer.json()["accepted"] for answer in answers if answer.status_code == 202)
    assert len(refused) + (accepted - 98_000) // 70 == 40
    assert {answer.json()["error"]["code"] for answer in refused} == {"quota_exceeded"}
    # Each of the others may hold a block of 100 when one is refused.
    assert 100_000 - WORKERS * 100 < accepted < 100_000 + 70


@pytest.mark.parametrize("number", ["0", "65", "two"])
def test_a_number_of_workers_that_cannot_be_is_refused_by_name(tmp_path: Path, number: str) -> None:
    done = run_cli("up", "--data", str(tmp_path / "d"), "--empty", check=False, settings={"WEB_WORKERS": number})
    assert done.returncode == 1 and "CLOUDMETRICS_WEB_WORKERS" in done.stderr
