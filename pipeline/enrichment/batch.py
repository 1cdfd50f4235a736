"""One accepted request in, one enriched batch out.

What comes again (pages, referrers, clients, visitors) is worked out once and kept; so an event costs a few look-ups,
and none of it leaves this process.
"""

from __future__ import annotations

from typing import NamedTuple

from core.events import AcceptedEvent, EnrichedBatch, EnrichedEvent, LoggedEvent, RawBatch, decode_logged
from pipeline.enrichment.address import MAX_ADDRESS_LENGTH, NOT_AN_ADDRESS
from pipeline.enrichment.bounds import MAX_ID_LENGTH, MAX_URL_LENGTH, attempt, bounded
from pipeline.enrichment.measures import NO_MEASURES
from pipeline.enrichment.page import MAX_PATH_LENGTH, NO_PAGE
from pipeline.enrichment.sources import EnrichmentSources
from pipeline.enrichment.steps import ENRICHMENT_VERSION, STEPS, Steps


class _Texts(NamedTuple):
    """What of an event is kept as it was sent, cut where it is too long; '' is not known."""

    session_id: str
    user_id: str
    anonymous_id: str
    page_url: str
    referrer: str
    address: str
    agent: str
    locale: str


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


def _texts_of(event: LoggedEvent, raw: RawBatch, notes: list[str]) -> _Texts:
    """An event's own address and agent, else the request's."""
    context = event.context
    address = context.ip or raw.client_ip
    if len(address) > MAX_ADDRESS_LENGTH:
        address = ""
        notes.append(NOT_AN_ADDRESS)
    agent = context.user_agent if context.user_agent is not None else raw.client_user_agent
    return _Texts(
        bounded("session_id", event.session_id, MAX_ID_LENGTH, notes),
        bounded("user_id", event.user_id, MAX_ID_LENGTH, notes),
        bounded("anonymous_id", event.anonymous_id, MAX_ID_LENGTH, notes),
        bounded("page_url", context.page_url, MAX_URL_LENGTH, notes),
        bounded("referrer", context.referrer, MAX_URL_LENGTH, notes),
        address,
        bounded("user_agent", agent, MAX_URL_LENGTH, notes),
        bounded("locale", context.locale, MAX_ID_LENGTH, notes),
    )


def _enrich(
    event: LoggedEvent, accepted: AcceptedEvent, raw: RawBatch, sources: EnrichmentSources, key: bytes, steps: Steps
) -> EnrichedEvent:
    notes: list[str] = []
    session_id, user_id, anonymous_id, page_url, referrer, address, agent, locale = _texts_of(event, raw, notes)
    page = attempt(steps.page, (page_url,), NO_PAGE, notes) if page_url else NO_PAGE
    source = attempt(steps.page, (referrer,), NO_PAGE, notes) if referrer else NO_PAGE
    measures = attempt(steps.measures, (event.properties, notes), NO_MEASURES, notes)
    client = sources.client(address, agent, steps)
    notes += client.notes
    return EnrichedEvent(
        accepted.id.bytes,
        event.type,
        accepted.timestamp_ms,
        raw.received_ms,
        attempt(steps.visitor, (raw.tenant_id, user_id, anonymous_id, address, agent, key), 0, notes),
        attempt(steps.session, (session_id, key), None, notes) if session_id else None,
        session_id,
        user_id,
        anonymous_id,
        page_url,
        bounded("page_path", page.path or measures.path, MAX_PATH_LENGTH, notes),
        referrer,
        # A page of the same host is no referrer.
        "" if page_url and source.host == page.host else source.host[:MAX_ID_LENGTH],
        # The CDN's word is of the connection, not of an address that the event names.
        client.country or (raw.country if address == raw.client_ip else ""),
        client.region,
        client.city,
        client.device,
        client.browser,
        client.os,
        measures.status,
        measures.method,
        measures.duration_ms,
        measures.bytes,
        client.network,
        agent,
        locale,
        page.campaign,
        client.is_bot,
        bytes(event.properties),
        ENRICHMENT_VERSION,
        notes,
    )
