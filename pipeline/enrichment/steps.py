"""What an event is asked for. One that fails is noted on the event, which goes on without its answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pipeline.enrichment.address import Location, locate
from pipeline.enrichment.agent import Agent, parse_agent
from pipeline.enrichment.measures import Measures, measures_of
from pipeline.enrichment.page import Page, page_of
from pipeline.enrichment.visitor import session_of, visitor_of

# Raised by one whenever a step would give another answer for the same event.
ENRICHMENT_VERSION = 2


@dataclass(frozen=True, slots=True)
class Steps:
    """The functions that answer; others than these are for tests."""

    page: Callable[[str], Page] = page_of
    measures: Callable[..., Measures] = measures_of
    agent: Callable[[str], Agent] = parse_agent
    location: Callable[..., Location] = locate
    visitor: Callable[..., int] = visitor_of
    session: Callable[..., int] = session_of


STEPS = Steps()
