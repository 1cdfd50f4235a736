"""A web process, identity providers and browsers on this machine, for tests of signing in by them."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2

from core.database import Database, as_owner
from core.settings import Settings
from core.tenancy import Tenant
from tests.conftest import ROOT, Servers, free_port, make_key

STARTS_SECONDS = 120.0


@contextmanager
def running(command: list[str], url: str, log: Path, environ: dict[str, str] | None = None) -> Iterator[None]:
    """A server process until it answers at `url`, and to its end; fails when it logged a traceback."""
    with log.open("wb") as sink:
        process = subprocess.Popen(
            command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT), **(environ or {})}, stdout=sink, stderr=sink
        )
    try:
        deadline = time.monotonic() + STARTS_SECONDS
        while True:
            try:
                httpx2.get(url, timeout=2.0)
                break
            except httpx2.HTTPError:
                assert process.poll() is None and time.monotonic() < deadline, log.read_text()
                time.sleep(0.05)
        yield
    finally:
        process.terminate()
        process.wait(20)
    assert "Traceback" not in log.read_text(), log.read_text()[-4000:]


@dataclass(frozen=True, slots=True)
class Site:
    """A web process whose settings let providers on this machine in."""

    settings: Settings
    url: str

    async def graphql(self, secret: str, document: str, variables: dict[str, Any] | None = None) -> Any:
        async with httpx2.AsyncClient(timeout=20) as client:
            answer = await client.post(
                f"{self.url}/graphql", json={"query": document, "variables": variables or {}},
                headers={"Authorization": f"Bearer {secret}"},
            )  # fmt: skip
        body = answer.json()
        assert "errors" not in body, body
        return body["data"]


@contextmanager
def running_site(settings: Settings, folder: Path, **changes: Any) -> Iterator[Site]:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    told = replace(
        settings, port=port, public_url=url, identity_providers="loopback", trusted_proxies="127.0.0.1", **changes
    )
    with running([sys.executable, "-m", "web"], f"{url}/health/live", folder / "web.log", told.to_env()):
        yield Site(told, url)


class Browser:
    """Keeps cookies, follows nothing by itself, and has an address of its own."""

    def __init__(self) -> None:
        address = f"2001:db8:{secrets.randbelow(65536):x}:{secrets.randbelow(65536):x}::1"
        self.client = httpx2.AsyncClient(timeout=20, follow_redirects=False, headers={"X-Forwarded-For": address})

    async def get(self, url: str) -> httpx2.Response:
        return await self.client.get(url)

    async def post(self, url: str, data: dict[str, str]) -> httpx2.Response:
        return await self.client.post(url, data=data)

    def has(self, cookie: str) -> bool:
        return cookie in self.client.cookies

    async def close(self) -> None:
        await self.client.aclose()


async def administrator(database: Database, settings: Settings, tenant: Tenant) -> str:
    """The secret of a key that may administer the tenant's sign-in."""
    _, secret = await make_key(database, settings, tenant)
    return secret


async def rows(servers: Servers, settings: Settings, text: str, *arguments: object) -> list[tuple[Any, ...]]:
    """Whatever is in the database, of all tenants: as the superuser, since row-level security holds the owner too."""
    name = urlsplit(settings.owner_url).path.strip("/")
    async with as_owner(servers.folder.database_url("superuser", name)) as connection:
        return [tuple(row) for row in await connection.fetch(text, *arguments)]


def code_of(answer: httpx2.Response) -> tuple[int, str]:
    """Status and code of a refusal."""
    try:
        return answer.status_code, answer.json()["error"]["code"]
    except (ValueError, KeyError, TypeError):
        return answer.status_code, answer.headers.get("location", "")
