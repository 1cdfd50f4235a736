"""Who sent an event, as far as its address and its agent tell."""

from __future__ import annotations

from typing import NamedTuple

from pipeline.enrichment.address import NOWHERE
from pipeline.enrichment.agent import NO_AGENT
from pipeline.enrichment.bounds import MAX_NAME_LENGTH, attempt, bounded
from pipeline.enrichment.geo import GeoDatabase
from pipeline.enrichment.steps import Steps


class Client(NamedTuple):
    """`network` is what is kept of the address; `notes` go to each event of this client."""

    network: str
    country: str
    region: str
    city: str
    device: str
    browser: str
    os: str
    is_bot: bool
    notes: tuple[str, ...]


def client_of(address: str, agent: str, geo: GeoDatabase | None, steps: Steps) -> Client:
    """What is known of an address and an agent, each '' when there is none."""
    notes: list[str] = []
    location = attempt(steps.location, (address, geo, notes), NOWHERE, notes) if address else NOWHERE
    device, browser, system, is_bot = attempt(steps.agent, (agent,), NO_AGENT, notes)
    # Names are taken out of the agent, which may be anything; a key of the rollups has room for less.
    browser = bounded("browser", browser, MAX_NAME_LENGTH, notes)
    system = bounded("os", system, MAX_NAME_LENGTH, notes)
    return Client(*location, device, browser, system, is_bot, tuple(notes))
