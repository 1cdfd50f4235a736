"""Fetching from addresses that a tenant's administrator gave: only by https, only from public addresses, without
redirects, bounded in time and size. The name is looked up once; the connection goes to the address that was checked.

`loopback` lets http and this machine's own addresses in besides, for tests and development.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
from collections.abc import AsyncIterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NoReturn
from urllib.parse import urlsplit

import httpx2

from core.errors import BadInput, CloudMetricsError, Unavailable

FETCH_SECONDS = 3.0
MAX_ANSWER_BYTES = 256 * 1024
MAX_URL_LENGTH = 2048
PUBLIC = "public"
LOOPBACK = "loopback"
_HOST = re.compile(r"(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?", re.I)
# Addresses within which an IPv4 address of anybody's choice is hidden: NAT64 (RFC 6052, 8215), 6to4 (RFC 3056), Teredo.
_TRANSLATED = [ipaddress.ip_network(text) for text in ("64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "2001::/32")]


_LOOKUPS = ThreadPoolExecutor(max_workers=32, thread_name_prefix="lookup")
_RUNNING: dict[tuple[str, int], Future[list[Any]]] = {}


class OutboundAnswerTooLarge(Unavailable):
    """The other side answers with more than is taken."""

    default_code = "provider_unavailable"


def checked_url(url: str, *, reach: str, field: str) -> str:
    """An address as far as its text tells.

    Raises:
        BadInput: not https (or http on loopback where that may be), a port other than 443 and 1024 up, userinfo, a
            fragment, or a host that is no name: addresses in digits have a dozen spellings, and none is needed.
    """

    def refuse(why: str) -> NoReturn:
        raise BadInput(f"{field} {url[:200]!r} {why}.", code="url_not_allowed", field=field)

    if len(url) > MAX_URL_LENGTH or not url.isascii() or not url.isprintable() or " " in url or "\\" in url:
        refuse(f"must be a plain address of at most {MAX_URL_LENGTH} characters")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        refuse("is no address")
    if "@" in parts.netloc or "#" in url:
        refuse("must have neither a user nor a fragment")
    if reach == LOOPBACK and parts.scheme in ("http", "https") and host in ("127.0.0.1", "localhost"):
        return url
    if parts.scheme != "https":
        refuse("must begin with https://")
    if port is not None and port != 443 and port < 1024:
        refuse("must have port 443, or one from 1024 on")
    if not _HOST.fullmatch(host) or host.rsplit(".", 1)[-1][:1].isdigit() or "." not in host:
        refuse("must name a host, such as https://login.example.com")
    return url


def is_reachable(address: str, reach: str) -> bool:
    """Whether an address may be connected to: one of the public internet, or this machine where that may be."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped:
            parsed = parsed.ipv4_mapped
        elif any(parsed in network for network in _TRANSLATED):
            return False
    if reach == LOOPBACK and parsed.is_loopback:
        return True
    return parsed.is_global and not (parsed.is_multicast or parsed.is_reserved or parsed.is_unspecified)


def _looked_up(host: str, port: int) -> Future[list[Any]]:
    """A look-up that is under way, or a new one. They cannot be given up: a name server that is silent holds its thread
    for many seconds after we stopped to wait, so each host has one thread, and none of those that all else uses."""
    place = (host, port)
    running = _RUNNING.get(place)
    if running is None or running.done():
        _RUNNING[place] = running = _LOOKUPS.submit(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
        running.add_done_callback(lambda _: _RUNNING.pop(place, None))
    return running


async def resolved(host: str, port: int, reach: str) -> str:
    """The address to connect to; all of the name's are checked.

    Raises:
        BadInput: one of them is not of the public internet.
        Unavailable: the name is not known.
    """
    try:
        found = await asyncio.shield(asyncio.wrap_future(_looked_up(host, port)))
    except OSError:
        raise Unavailable(f"The name {host[:200]} cannot be looked up.", code="provider_unavailable") from None
    addresses = [str(entry[4][0]) for entry in found]
    if not addresses or not all(is_reachable(address, reach) for address in addresses):
        raise BadInput(f"{host[:200]} is no host of the public internet.", code="url_not_allowed", field="issuer")
    return addresses[0]


class GuardedTransport(httpx2.AsyncBaseTransport):
    """What each outbound request goes through: it connects to the address that was checked, and bounds the answer."""

    def __init__(self, reach: str) -> None:
        self._reach = reach
        # No proxy of the environment: it would look names up itself.
        self._inner = httpx2.AsyncHTTPTransport(trust_env=False, retries=0)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        checked_url(str(request.url), reach=self._reach, field="url")
        host, port = request.url.host, request.url.port or (443 if request.url.scheme == "https" else 80)
        address = await resolved(host, port, self._reach)
        headers = httpx2.Headers(request.headers)
        headers["Host"] = request.url.netloc.decode("ascii")
        headers["Accept-Encoding"] = "identity"
        sent = httpx2.Request(
            request.method,
            request.url.copy_with(host=address),
            headers=headers,
            stream=request.stream,
            # The certificate is still asked for in the name that was given.
            extensions={**request.extensions, "sni_hostname": host},
        )
        answer = await self._inner.handle_async_request(sent)
        if answer.headers.get("content-encoding", "identity") != "identity":
            await answer.aclose()
            raise OutboundAnswerTooLarge
        return httpx2.Response(answer.status_code, headers=answer.headers, stream=_Bounded(answer))

    async def aclose(self) -> None:
        await self._inner.aclose()


class _Bounded(httpx2.AsyncByteStream):
    def __init__(self, answer: httpx2.Response) -> None:
        self._answer = answer

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size = 0
        async for chunk in self._answer.aiter_raw():
            size += len(chunk)
            if size > MAX_ANSWER_BYTES:
                raise OutboundAnswerTooLarge
            yield chunk

    async def aclose(self) -> None:
        await self._answer.aclose()


async def fetch(url: str, *, reach: str) -> bytes:
    """The body of a GET that was answered with 200.

    Raises:
        BadInput: the address may not be reached.
        Unavailable: no answer in time, another status (a redirect too), or too large a one.
    """
    try:
        async with asyncio.timeout(FETCH_SECONDS):
            async with httpx2.AsyncClient(
                transport=GuardedTransport(reach), follow_redirects=False, trust_env=False
            ) as client:
                answer = await client.get(url, headers={"Accept": "application/json"})
    except CloudMetricsError:
        raise
    except (TimeoutError, OSError, httpx2.HTTPError):
        raise Unavailable(
            f"{url[:200]} did not answer within {FETCH_SECONDS:g} s.", code="provider_unavailable", retry_after=5.0
        ) from None
    if answer.status_code != 200:
        raise Unavailable(
            f"{url[:200]} answered {answer.status_code}, not 200.", code="provider_unavailable", retry_after=5.0
        )
    return answer.content
