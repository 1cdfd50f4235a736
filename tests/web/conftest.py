"""A web process on the module's own database, and people who sign in to it over HTTP."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest

from core.settings import Settings
from tests.conftest import PASSWORD, ROOT, free_port


@dataclass(frozen=True, slots=True)
class RunningWeb:
    """A process of `python -m web`, whom it believes about addresses, and where its log is."""

    settings: Settings
    log: Path

    @property
    def url(self) -> str:
        return self.settings.public_base


@pytest.fixture(scope="module")
def web(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningWeb]:
    """Requests say by X-Forwarded-For where they come from, so that tests do not share a bucket."""
    running = dataclasses.replace(settings, port=free_port(), trusted_proxies="127.0.0.1")
    log = tmp_path_factory.mktemp("web") / "web.log"
    environ = {name: value for name, value in os.environ.items() if not name.startswith("CLOUDMETRICS_")}
    with open(log, "wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "web"], cwd=ROOT, env={**environ, **running.to_env()}, stdout=output, stderr=output
        )
    try:
        asyncio.run(_until_live(running.public_base))
        yield RunningWeb(running, log)
    finally:
        process.terminate()
        process.wait(15)
    text = log.read_text()
    assert "Traceback" not in text and '"trace"' not in text, text


async def _until_live(url: str) -> None:
    end = time.monotonic() + 60
    async with httpx2.AsyncClient(timeout=2) as client:
        while time.monotonic() < end:
            try:
                if (await client.get(f"{url}/health/live")).status_code == 200:
                    return
            except httpx2.HTTPError:
                await asyncio.sleep(0.05)
    raise AssertionError("the web process did not come up")


_addresses = iter(f"203.0.{high}.{low}" for high in range(113, 255) for low in range(1, 255))


class Client:
    """Somebody at an address of its own."""

    def __init__(self, url: str, http: httpx2.AsyncClient) -> None:
        self.url = url
        self.http = http
        self.address = next(_addresses)

    async def post(self, path: str, body: Any = None, **headers: str) -> httpx2.Response:
        given = {"X-Forwarded-For": self.address, **{name.replace("_", "-"): text for name, text in headers.items()}}
        if body is None:
            return await self.http.post(self.url + path, headers=given)
        return await self.http.post(self.url + path, json=body, headers=given)

    async def login(self, email: str, password: str = PASSWORD, **more: Any) -> dict[str, Any]:
        answer = await self.post("/auth/login", {"email": email, "password": password, **more})
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    async def ask(self, token: str, query: str, **variables: Any) -> httpx2.Response:
        body = {"query": query, "variables": variables}
        return await self.post("/graphql", body, Authorization=f"Bearer {token}")

    async def data(self, token: str, query: str, **variables: Any) -> Any:
        answer = (await self.ask(token, query, **variables)).json()
        assert "errors" not in answer, answer
        return answer["data"]


@pytest.fixture
async def client(web: RunningWeb) -> AsyncIterator[Client]:
    async with httpx2.AsyncClient(timeout=60) as http:
        yield Client(web.url, http)
