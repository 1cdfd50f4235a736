"""Where an address is, and what of it is kept: its network. Whole addresses leave enrichment nowhere."""

from __future__ import annotations

import ipaddress
from functools import lru_cache
from typing import NamedTuple

from pipeline.enrichment.bounds import MAX_NAME_LENGTH, cut
from pipeline.enrichment.geo import GeoDatabase

# The longest way to write an IPv6 address, its zone included.
MAX_ADDRESS_LENGTH = 64
CACHE_ENTRIES = 20_000
NOT_AN_ADDRESS = "ip: not an address"


class Location(NamedTuple):
    """`network` is what is kept of the address."""

    network: str = ""
    country: str = ""
    region: str = ""
    city: str = ""


NOWHERE = Location()


def locate(address: str, geo: GeoDatabase | None, notes: list[str]) -> Location:
    """Network of an address, and country, region and city from the operator's geo database, where there is one."""
    network = masked(address)
    if not network:
        notes.append(NOT_AN_ADDRESS)
    if geo is None:
        return Location(network)
    country, region, city = geo.find(address)
    if len(country) > MAX_NAME_LENGTH:
        country = cut("country", country, MAX_NAME_LENGTH, notes)
    if len(region) > MAX_NAME_LENGTH:
        region = cut("region", region, MAX_NAME_LENGTH, notes)
    if len(city) > MAX_NAME_LENGTH:
        city = cut("city", city, MAX_NAME_LENGTH, notes)
    return Location(network, country, region, city)


@lru_cache(maxsize=CACHE_ENTRIES)
def masked(address: str) -> str:
    """The network of an address: /24 of IPv4, /48 of IPv6; '' of what is none."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return ""
    bits = 24 if parsed.version == 4 else 48
    return str(ipaddress.ip_network((parsed, bits), strict=False).network_address)
