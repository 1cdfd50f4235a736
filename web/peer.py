"""Whose address a request comes from."""

from __future__ import annotations

import ipaddress

from starlette.requests import HTTPConnection

from core.networks import parsed_address
from core.settings import Settings


def client_address(connection: HTTPConnection, settings: Settings) -> str:
    """The peer's address, or what a trusted proxy says it is: the last untrusted hop."""
    peer = connection.client.host if connection.client else ""
    trusted = [part.strip() for part in settings.trusted_proxies.split(",") if part.strip()]
    hops = [hop.strip() for hop in connection.headers.get("x-forwarded-for", "").split(",") if hop.strip()]
    while hops and _is_in(peer, trusted):
        peer = hops.pop()
    return peer


def _is_in(address: str, networks: list[str]) -> bool:
    try:
        parsed = parsed_address(address)
        return any(parsed in ipaddress.ip_network(network, strict=False) for network in networks)
    except ValueError:
        return False
