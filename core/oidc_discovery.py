"""What an OpenID provider says of itself (OpenID Connect Discovery 1.0) and its keys (RFC 7517): fetched as
`core/outbound.py` allows, checked, kept for a while."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import msgspec

from core.errors import BadInput, CloudMetricsError, Unavailable
from core.outbound import checked_url, fetch

FRESH_SECONDS = 600.0
# An unknown kid asks the provider once; whoever makes them up cannot make us ask more often.
REFETCH_SECONDS = 30.0
FAILED_SECONDS = 30.0
MAX_ENTRIES = 500
MAX_KEYS = 50
WELL_KNOWN = "/.well-known/openid-configuration"

T = TypeVar("T")


class Provider(msgspec.Struct, frozen=True):
    """The part of a discovery document that we use."""

    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str
    token_endpoint_auth_methods_supported: tuple[str, ...] = ("client_secret_basic",)
    code_challenge_methods_supported: list[str] | None = None
    authorization_response_iss_parameter_supported: bool = False


class _KeySet(msgspec.Struct):
    keys: list[dict[str, Any]]


@dataclass(slots=True)
class _Kept:
    """Something fetched, when, and when it was last fetched out of turn."""

    value: Any
    at: float
    hurried_at: float = -REFETCH_SECONDS


def checked_issuer(issuer: str, reach: str) -> str:
    """An issuer's address as far as its text tells.

    Raises:
        BadInput: it cannot be one.
    """
    if "?" in issuer:
        raise BadInput("An issuer has no query.", code="url_not_allowed", field="issuer")
    return checked_url(issuer, reach=reach, field="issuer")


async def discover(issuer: str, reach: str) -> Provider:
    """Fetches and checks a discovery document.

    Raises:
        BadInput: it is not one, names another issuer, or addresses that are not allowed.
        Unavailable: the provider does not answer.
    """
    body = await fetch(checked_issuer(issuer, reach).rstrip("/") + WELL_KNOWN, reach=reach)
    try:
        provider = msgspec.json.decode(body, type=Provider)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise _unfit("is no OpenID discovery document") from None
    if provider.issuer != issuer:
        raise _unfit(f"names the issuer {provider.issuer[:200]!r}; give exactly that one")
    methods = provider.code_challenge_methods_supported
    if methods is not None and "S256" not in methods:
        raise _unfit("does not support PKCE with S256")
    for url in (provider.authorization_endpoint, provider.token_endpoint, provider.jwks_uri):
        checked_url(url, reach=reach, field="issuer")
    return provider


class ProviderDirectory:
    """Providers and their keys, kept for ten minutes; and on while a provider is away."""

    def __init__(self, reach: str) -> None:
        self._reach = reach
        self._discoveries: _Flights[Provider] = _Flights()
        self._key_fetches: _Flights[list[dict[str, Any]]] = _Flights()
        self._providers: OrderedDict[str, _Kept] = OrderedDict()
        self._keys: OrderedDict[str, _Kept] = OrderedDict()

    async def provider(self, issuer: str) -> Provider:
        """What the provider says of itself; same errors as `discover`."""
        kept = self._providers.get(issuer)
        if kept is None or time.monotonic() - kept.at > FRESH_SECONDS:
            try:
                found = await self._discoveries.of(issuer, lambda: discover(issuer, self._reach))
                kept = _Kept(found, time.monotonic())
            except Unavailable:
                if kept is None:
                    raise
            _keep(self._providers, issuer, kept)
        provider: Provider = kept.value
        return provider

    async def keys(self, provider: Provider, *, kid: str | None) -> list[dict[str, Any]]:
        """The provider's public keys; asked for anew, once in half a minute, when none has that `kid`.

        Raises:
            Unavailable: they were never had and cannot be now.
        """
        kept, now = self._keys.get(provider.jwks_uri), time.monotonic()
        if kept is None or now - kept.at > FRESH_SECONDS:
            kept = await self._renewed(provider, kept, _Kept(None, now))
        elif kid is not None and not _has(kept, kid) and now - kept.hurried_at > REFETCH_SECONDS:
            kept = await self._renewed(provider, kept, _Kept(None, now, hurried_at=now))
        found: list[dict[str, Any]] = kept.value
        return found

    async def _renewed(self, provider: Provider, kept: _Kept | None, fresh: _Kept) -> _Kept:
        """The keys fetched again; those that are there while the provider is away."""
        try:
            fresh.value = await self._key_fetches.of(provider.jwks_uri, lambda: self._fetch_keys(provider))
        except Unavailable:
            if kept is None:
                raise
            fresh.value = kept.value
        _keep(self._keys, provider.jwks_uri, fresh)
        return fresh

    async def _fetch_keys(self, provider: Provider) -> list[dict[str, Any]]:
        body = await fetch(provider.jwks_uri, reach=self._reach)
        try:
            keys = msgspec.json.decode(body, type=_KeySet).keys
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise Unavailable("The provider's key set cannot be read.", code="provider_unavailable") from None
        # Only public keys for signatures: a shared secret among them could sign in our place.
        return [key for key in keys[:MAX_KEYS] if key.get("kty") in ("RSA", "EC") and key.get("use", "sig") == "sig"]


class _Flights(Generic[T]):
    """Fetches of which one at a time is under way for an address, however many wait for it; one that failed is not
    tried again for half a minute."""

    def __init__(self) -> None:
        self._running: dict[str, asyncio.Task[T]] = {}
        self._failed: OrderedDict[str, _Kept] = OrderedDict()

    async def of(self, address: str, fetch: Callable[[], Awaitable[T]]) -> T:
        """What `fetch` gives; the errors that it raises, or raised the last time."""
        failed = self._failed.get(address)
        if failed is not None and time.monotonic() - failed.at < FAILED_SECONDS:
            error: CloudMetricsError = failed.value
            raise error.with_traceback(None)
        running = self._running.get(address)
        if running is None:
            self._running[address] = running = asyncio.create_task(self._flight(address, fetch))
            running.add_done_callback(lambda _: self._running.pop(address, None))
        # Who waits no longer takes it from nobody else.
        return await asyncio.shield(running)

    async def _flight(self, address: str, fetch: Callable[[], Awaitable[T]]) -> T:
        try:
            found = await fetch()
        except CloudMetricsError as error:
            _keep(self._failed, address, _Kept(error, time.monotonic()))
            raise
        self._failed.pop(address, None)
        return found


def _has(kept: _Kept, kid: str) -> bool:
    return any(key.get("kid") == kid for key in kept.value)


def _keep(entries: OrderedDict[str, _Kept], key: str, kept: _Kept) -> None:
    entries[key] = kept
    entries.move_to_end(key)
    while len(entries) > MAX_ENTRIES:
        entries.popitem(last=False)


def _unfit(what: str) -> BadInput:
    return BadInput(f"What the issuer answers at {WELL_KNOWN} {what}.", code="bad_provider", field="issuer")
