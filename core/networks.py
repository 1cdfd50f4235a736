"""What one sender has all addresses of: the unit by which strangers are counted. Pure."""

from __future__ import annotations

import ipaddress

# Whoever has an IPv6 address has 2^64 of them (RFC 6177).
IPV6_BITS = 64


def parsed_address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """An address; an IPv4 one also where it is written as IPv6 (`::ffff:192.0.2.1`, RFC 4291, 2.5.5.2), as a socket of
    both kinds does.

    Raises:
        ValueError: it is none.
    """
    parsed = ipaddress.ip_address(text)
    return getattr(parsed, "ipv4_mapped", None) or parsed


def network_of(address: str) -> str:
    """An IPv4 address itself, or an IPv6 network of 64 bits."""
    try:
        parsed = parsed_address(address)
    except ValueError:
        return "unknown"
    if parsed.version == 4:
        return str(parsed)
    return str(ipaddress.ip_network((parsed, IPV6_BITS), strict=False).network_address)
