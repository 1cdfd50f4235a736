"""What enrichment looks things up in: local snapshots, refreshed between batches, never asked for over a network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from uuid import UUID

from pipeline.enrichment.client import Client, client_of
from pipeline.enrichment.geo import GeoDatabase
from pipeline.enrichment.steps import STEPS, Steps

MAX_CLIENTS = 20_000


@dataclass(frozen=True, slots=True)
class EnrichmentSources:
    """`visitor_key` gives the key under which a tenant's visitors are hashed. `clients` are those looked up already, by
    address and agent: both come again together."""

    geo: GeoDatabase | None
    visitor_key: Callable[[UUID], bytes]
    clients: dict[tuple[str, str], Client] = field(default_factory=dict)

    @classmethod
    def open(cls, geo_path: str, visitor_key: Callable[[UUID], bytes]) -> EnrichmentSources:
        """Opens the operator's geo database, if there is one.

        Raises:
            Misconfigured: the file cannot be read.
        """
        return cls(GeoDatabase(geo_path) if geo_path else None, visitor_key)

    def client(self, address: str, agent: str, steps: Steps) -> Client:
        """Who sends from an address with an agent."""
        if steps is not STEPS:
            return client_of(address, agent, self.geo, steps)
        known = self.clients.get((address, agent))
        if known is None:
            if len(self.clients) >= MAX_CLIENTS:
                self.clients.clear()
            known = self.clients[address, agent] = client_of(address, agent, self.geo, steps)
        return known

    def refresh(self) -> None:
        """Takes up a geo database that was replaced."""
        if self.geo is not None and self.geo.refresh():
            self.clients.clear()
