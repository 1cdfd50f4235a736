"""Country, region and city from an operator's MMDB file: MaxMind's nested layout, or the flat one of ip-location-db."""

from __future__ import annotations

import os
import time
from functools import lru_cache
from typing import Any, NamedTuple

import maxminddb

from core.errors import Misconfigured

CHECK_SECONDS = 10.0
CACHE_ENTRIES = 50_000


class Place(NamedTuple):
    """ISO 3166 country code, region and city names; '' for not known."""

    country: str = ""
    region: str = ""
    city: str = ""


NOWHERE = Place()


def place_of(record: Any) -> Place:
    """A place from a record of either layout."""
    if not isinstance(record, dict):
        return NOWHERE
    if "country_code" in record:
        return Place(
            str(record.get("country_code") or ""), str(record.get("state1") or ""), str(record.get("city") or "")
        )
    country = record.get("country") or record.get("registered_country") or {}
    regions = record.get("subdivisions") or [{}]
    city = record.get("city") or {}
    return Place(_text(country, "iso_code"), _english(regions[0]), _english(city))


class GeoDatabase:
    """One MMDB file, memory-mapped, read again when it changes."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._checked_at = time.monotonic()
        self._open()

    def find(self, address: str) -> Place:
        """Where an address is; nowhere when it is no address, or of the family the file does not hold."""
        return self._find(address)

    def refresh(self) -> bool:
        """Opens the file again when its time of change differs, and says whether it did; looks at most every 10 s."""
        if time.monotonic() - self._checked_at < CHECK_SECONDS:
            return False
        self._checked_at = time.monotonic()
        if self._stamp() == self._opened_stamp:
            return False
        self._open()
        return True

    def _stamp(self) -> tuple[int, int]:
        try:
            found = os.stat(self._path)
        except OSError:
            # Being replaced right now: what is open serves until the new one is there.
            return self._opened_stamp
        return found.st_mtime_ns, found.st_size

    def _open(self) -> None:
        try:
            self._opened_stamp = (0, 0)
            self._opened_stamp = self._stamp()
            reader = maxminddb.open_database(self._path, maxminddb.MODE_AUTO)
        except (OSError, ValueError, maxminddb.InvalidDatabaseError) as error:
            raise Misconfigured(f"CLOUDMETRICS_GEO_DATABASE={self._path} cannot be read: {error}") from error

        @lru_cache(maxsize=CACHE_ENTRIES)
        def find(address: str) -> Place:
            try:
                return place_of(reader.get(address))
            except ValueError:
                return NOWHERE

        self._find = find


def _text(value: Any, key: str) -> str:
    found = value.get(key) if isinstance(value, dict) else None
    return found if isinstance(found, str) else ""


def _english(value: Any) -> str:
    return _text(value.get("names"), "en") if isinstance(value, dict) else ""
