"""What is kept of OpenID providers: each is asked once by many at once, and not at every turn while it is away."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from core import oidc_discovery
from core.errors import Unavailable
from core.oidc_discovery import WELL_KNOWN, ProviderDirectory
from core.outbound import LOOPBACK


@dataclass
class Idp:
    """A provider on this machine. `status`: what it answers with."""

    url: str = ""
    status: int = 200
    asked: list[str] = field(default_factory=list)

    def answer(self, path: str) -> bytes:
        self.asked.append(path)
        # Long enough that all who ask at once are there.
        time.sleep(0.1)
        if path == "/keys":
            return json.dumps({"keys": [{"kty": "RSA", "kid": "one"}]}).encode()
        pages = {"authorization_endpoint": "auth", "token_endpoint": "token", "jwks_uri": "keys"}
        return json.dumps({"issuer": self.url, **{k: f"{self.url}/{page}" for k, page in pages.items()}}).encode()


@pytest.fixture
def idp() -> Iterator[Idp]:
    one = Idp()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = one.answer(self.path)
            self.send_response(one.status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            return None

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    one.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield one
    server.shutdown()
    server.server_close()


async def test_many_at_once_ask_a_provider_once(idp: Idp) -> None:
    directory = ProviderDirectory(LOOPBACK)
    found = await asyncio.gather(*(directory.provider(idp.url) for _ in range(20)))
    assert {provider.issuer for provider in found} == {idp.url}
    keys = await asyncio.gather(*(directory.keys(found[0], kid="one") for _ in range(20)))
    assert all(key[0]["kid"] == "one" for key in keys)
    assert idp.asked == [WELL_KNOWN, "/keys"]


async def test_a_provider_that_is_away_is_not_asked_again_for_a_while(
    idp: Idp, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = ProviderDirectory(LOOPBACK)
    idp.status = 500
    for _ in range(3):
        with pytest.raises(Unavailable):
            await directory.provider(idp.url)
    assert idp.asked == [WELL_KNOWN]
    idp.status = 200
    monkeypatch.setattr(oidc_discovery, "FAILED_SECONDS", 0.0)
    provider = await directory.provider(idp.url)
    # One that was there before is used on meanwhile, and is not asked at every turn either.
    monkeypatch.setattr(oidc_discovery, "FAILED_SECONDS", 30.0)
    monkeypatch.setattr(oidc_discovery, "FRESH_SECONDS", 0.0)
    idp.status = 500
    for _ in range(3):
        assert await directory.provider(idp.url) == provider
    assert idp.asked == [WELL_KNOWN] * 3


async def test_who_stops_waiting_takes_the_answer_from_nobody_else(idp: Idp) -> None:
    directory = ProviderDirectory(LOOPBACK)
    impatient = asyncio.create_task(directory.provider(idp.url))
    patient = asyncio.create_task(directory.provider(idp.url))
    await asyncio.sleep(0)
    impatient.cancel()
    assert (await patient).issuer == idp.url and idp.asked == [WELL_KNOWN]
