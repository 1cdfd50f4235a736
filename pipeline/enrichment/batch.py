"""One accepted request in, one enriched batch out.

What comes again (pages, referrers, agents, addresses, visitors) is worked out once and kept; so an event costs a few
look-ups, and none of it leaves this process.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from core.events import AcceptedEvent, EnrichedBatch, EnrichedEvent, LoggedEvent, RawBatch, decode_logged
from pipeline.enrichment.address import MAX_ADDRESS_LENGTH, NOT_AN_ADDRESS, NOWHERE, Location, locate
from pipeline.enrichment.agent import NO_AGENT, Agent, parse_agent
from pipeline.enrichment.bounds import MAX_ID_LENGTH, MAX_NAME_LENGTH, MAX_URL_LENGTH, cut
from pipeline.enrichment.measures import NO_MEASURES, Measures, measures_of
from pipeline.enrichment.page import MAX_PATH_LENGTH, NO_PAGE, Page, page_of
from pipeline.enrichment.sources import EnrichmentSources
from pipeline.enrichment.visitor import session_of, visitor_of

# Raised by one whenever a step would give another answer for the same event.
ENRICHMENT_VERSION = 2

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Steps:
    """What an event is asked for. One that fails is noted on the event, which goes on without its answer."""

    page: Callable[[str], Page] = page_of
    measures: Callable[..., Measures] = measures_of
    agent: Callable[[str], Agent] = parse_agent
    location: Callable[..., Location] = locate
    visitor: Callable[..., int] = visitor_of
    session: Callable[..., int] = session_of


STEPS = Steps()


def enrich_batch(
    raw: RawBatch, sources: EnrichmentSources, retention_class: str, steps: Steps = STEPS
) -> EnrichedBatch:
    """The accepted events of a request, in their order.

    Raises:
        ValueError, LookupError, RecursionError: the body is not the one the door verified.
    """
    key = sources.visitor_key(raw.tenant_id)
    pairs = zip(raw.accepted, decode_logged(raw.body, raw.accepted), strict=True)
    return EnrichedBatch(
        raw.tenant_id,
        retention_class,
        raw.key_id,
        raw.request_id,
        raw.received_ms,
        [_enrich(event, accepted, raw, sources, key, steps) for accepted, event in pairs],
    )


def _enrich(
    event: LoggedEvent, accepted: AcceptedEvent, raw: RawBatch, sources: EnrichmentSources, key: bytes, steps: Steps
) -> EnrichedEvent:
    notes: list[str] = []
    context = event.context
    address = context.ip or raw.client_ip
    if len(address) > MAX_ADDRESS_LENGTH:
        address = ""
        notes.append(NOT_AN_ADDRESS)
    agent_text = context.user_agent if context.user_agent is not None else raw.client_user_agent
    agent_text = bounded("user_agent", agent_text, MAX_URL_LENGTH, notes)
    user_id = bounded("user_id", event.user_id, MAX_ID_LENGTH, notes)
    anonymous_id = bounded("anonymous_id", event.anonymous_id, MAX_ID_LENGTH, notes)
    session_id = bounded("session_id", event.session_id, MAX_ID_LENGTH, notes)
    page_url = bounded("page_url", context.page_url, MAX_URL_LENGTH, notes)
    referrer = bounded("referrer", context.referrer, MAX_URL_LENGTH, notes)

    page = _attempt(steps.page, (page_url,), NO_PAGE, notes) if page_url else NO_PAGE
    source = _attempt(steps.page, (referrer,), NO_PAGE, notes) if referrer else NO_PAGE
    measures = _attempt(steps.measures, (event.properties, notes), NO_MEASURES, notes)
    agent = _attempt(steps.agent, (agent_text,), NO_AGENT, notes)
    location = _attempt(steps.location, (address, sources, notes), NOWHERE, notes) if address else NOWHERE
    who = (raw.tenant_id, user_id, anonymous_id, address, agent_text, key)
    device, browser, system, is_bot = agent
    return EnrichedEvent(
        accepted.id.bytes,
        event.type,
        accepted.timestamp_ms,
        raw.received_ms,
        _attempt(steps.visitor, who, 0, notes),
        _attempt(steps.session, (session_id, key), None, notes) if session_id else None,
        session_id,
        user_id,
        anonymous_id,
        page_url,
        bounded("page_path", page.path or measures.path, MAX_PATH_LENGTH, notes),
        referrer,
        # A page of the same host is no referrer.
        "" if page_url and source.host == page.host else source.host[:MAX_ID_LENGTH],
        # The CDN's word is of the connection, not of an address that the event names.
        location.country or (raw.country if address == raw.client_ip else ""),
        location.region,
        location.city,
        device,
        # Names are taken out of the agent, which may be anything; a key of the rollups has room for less.
        bounded("browser", browser, MAX_NAME_LENGTH, notes),
        bounded("os", system, MAX_NAME_LENGTH, notes),
        measures.status,
        measures.method,
        measures.duration_ms,
        measures.bytes,
        location.network,
        agent_text,
        bounded("locale", context.locale, MAX_ID_LENGTH, notes),
        page.campaign,
        is_bot,
        bytes(event.properties),
        ENRICHMENT_VERSION,
        notes,
    )


def bounded(name: str, text: str | None, limit: int, notes: list[str]) -> str:
    """Text of at most `limit` characters; '' of none."""
    if text is None:
        return ""
    return text if len(text) <= limit else cut(name, text, limit, notes)


def _attempt(step: Callable[..., T], asked: tuple[Any, ...], otherwise: T, notes: list[str]) -> T:
    try:
        return step(*asked)
    except Exception as error:  # a step may fail on what nobody foresaw; the event must not be lost for it
        notes.append(f"{step.__name__}: {type(error).__name__}")
        return otherwise
