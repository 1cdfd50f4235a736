"""What enrichment looks things up in: local snapshots, refreshed between batches, never asked for over a network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID

from pipeline.enrichment.geo import GeoDatabase


@dataclass(frozen=True, slots=True)
class EnrichmentSources:
    """`visitor_key` gives the key under which a tenant's visitors are hashed."""

    geo: GeoDatabase | None
    visitor_key: Callable[[UUID], bytes]

    @classmethod
    def open(cls, geo_path: str, visitor_key: Callable[[UUID], bytes]) -> EnrichmentSources:
        """Opens the operator's geo database, if there is one.

        Raises:
            Misconfigured: the file cannot be read.
        """
        return cls(GeoDatabase(geo_path) if geo_path else None, visitor_key)

    def refresh(self) -> None:
        """Takes up a geo database that was replaced."""
        if self.geo is not None:
            self.geo.refresh()
