"""What a tenant's administrator may have us fetch: the public internet, and no place of ours."""

from __future__ import annotations

import asyncio
import gzip
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx2
import pytest

from core.errors import BadInput, Unavailable
from core.outbound import LOOPBACK, MAX_ANSWER_BYTES, PUBLIC, checked_url, fetch, is_reachable, resolved


@pytest.mark.parametrize(
    "url",
    ["http://example.com", "https://127.0.0.1/", "https://0.0.0.0/", "https://[::1]/", "https://[::ffff:7f00:1]/",
     "https://169.254.169.254/latest/meta-data", "https://10.0.0.1/", "https://[fd00::1]/", "https://2130706433/",
     "https://0177.0.0.1/", "https://0x7f.0.0.1/", "https://127.1/", "https://user:pass@example.com/",
     "https://example.com:22/", "https://example.com:99999/", "file:///etc/passwd", "gopher://example.com/",
     "//example.com",
     "https://", "https:///x", "https://exa mple.com", "https://example.com\r\nX: y/", "https://example.com\\@evil.example/",
     "https://localhost/", "https://intranet/", "https://пример.рф/", "https://-a.example/", "https://a..example/",
     "https://example.com/" + "a" * 2048],
)  # fmt: skip
def test_x3_an_address_that_is_not_plainly_public_is_refused_by_its_text(url: str) -> None:
    with pytest.raises(BadInput) as refusal:
        checked_url(url, reach=PUBLIC, field="issuer")
    assert (refusal.value.code, refusal.value.field) == ("url_not_allowed", "issuer")


@pytest.mark.parametrize(
    "url", ["https://login.example.com", "https://a.b-c.example:8443/x?y=z", "https://EXAMPLE.com/"]
)
def test_a_plain_address_is_taken(url: str) -> None:
    assert checked_url(url, reach=PUBLIC, field="issuer") == url


def test_loopback_is_let_in_by_the_setting_alone() -> None:
    url = "http://127.0.0.1:9000/"
    assert checked_url(url, reach=LOOPBACK, field="issuer") == url
    for other in ("http://10.0.0.1:9000/", "http://example.com/", "http://127.0.0.1@example.com/"):
        with pytest.raises(BadInput):
            checked_url(other, reach=LOOPBACK, field="issuer")


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "0.0.0.0", "10.1.2.3", "172.16.0.1", "192.168.1.1", "100.64.0.1", "169.254.169.254", "224.0.0.1",
     "255.255.255.255", "::1", "::", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "fe80::1", "fe80::1%eth0", "fd00::1",
     "ff02::1", "64:ff9b::7f00:1", "64:ff9b:1::1", "2002:7f00:1::1", "2001:0:7f00:1::1", "2001:db8::1", "nonsense",
     ""],
)  # fmt: skip
def test_x3_addresses_of_no_public_place_are_not_connected_to(address: str) -> None:
    assert not is_reachable(address, PUBLIC)


@pytest.mark.parametrize("address", ["93.184.216.34", "2606:2800:220:1::1", "::ffff:93.184.216.34"])
def test_public_addresses_are(address: str) -> None:
    assert is_reachable(address, PUBLIC)


async def test_x4_a_name_that_leads_inside_is_refused_when_it_is_looked_up() -> None:
    with pytest.raises(BadInput) as refusal:
        await resolved("localhost", 443, PUBLIC)
    assert refusal.value.code == "url_not_allowed"
    assert await resolved("localhost", 443, LOOPBACK) in ("127.0.0.1", "::1")


async def test_a_name_server_that_is_silent_holds_up_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """The system's resolver stands still for one name; the rest is the real one."""
    real, ends, asked = socket.getaddrinfo, threading.Event(), []

    def getaddrinfo(host: str, *rest: Any, **more: Any) -> Any:
        if host != "silent.example.com":
            return real(host, *rest, **more)
        asked.append(host)
        ends.wait(30)
        raise socket.gaierror

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    waiting = [asyncio.create_task(resolved("silent.example.com", 443, PUBLIC)) for _ in range(60)]
    try:
        await asyncio.sleep(0)
        async with asyncio.timeout(10):
            assert await asyncio.to_thread(lambda: "done") == "done"
            assert await resolved("localhost", 443, LOOPBACK) in ("127.0.0.1", "::1")
        waiting[0].cancel()
    finally:
        ends.set()
    outcomes = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [asyncio.CancelledError] + [Unavailable] * 59
    assert asked == ["silent.example.com"]


class _Answers(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body, headers, status = b"{}", {}, 200
        match self.path:
            case "/huge":
                body = b" " * (MAX_ANSWER_BYTES + 1)
            case "/packed":
                body, headers = gzip.compress(b" " * 10_000_000), {"Content-Encoding": "gzip"}
            case "/redirect":
                status, headers = 302, {"Location": "/"}
            case "/broken":
                status = 500
            case "/told":
                body = f"{self.headers['Host']} {self.headers['Accept-Encoding']}".encode()
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        return None


@pytest.fixture(scope="module")
def answers() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Answers)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://localhost:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("path", ["/huge", "/packed", "/redirect", "/broken"])
async def test_x4_answers_that_are_too_large_packed_elsewhere_or_broken_are_none(answers: str, path: str) -> None:
    with pytest.raises(Unavailable):
        await fetch(answers + path, reach=LOOPBACK)


async def test_the_name_is_told_though_the_connection_goes_to_the_address(answers: str) -> None:
    told = (await fetch(answers + "/told", reach=LOOPBACK)).decode()
    assert told == f"{answers.removeprefix('http://')} identity"
    with pytest.raises(BadInput):
        await fetch(answers + "/told", reach=PUBLIC)


async def test_a_certificate_is_asked_for_in_the_name_and_not_in_the_address(answers: str) -> None:
    """A server that speaks no TLS at all is enough: what matters is that nobody talks to it in the clear."""
    async with asyncio.timeout(10):
        with pytest.raises(Unavailable):
            await fetch(answers.replace("http://", "https://") + "/", reach=LOOPBACK)
    assert httpx2.get(answers + "/", timeout=5).status_code == 200
