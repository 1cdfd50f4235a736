"""One accepted request in, one enriched batch out."""

from __future__ import annotations

from collections.abc import Sequence

from core.events import AcceptedEvent, EnrichedBatch, EnrichedEvent, RawBatch, decode_body, decode_event
from pipeline.enrichment.draft import Draft, Step
from pipeline.enrichment.sources import EnrichmentSources
from pipeline.enrichment.steps import ENRICHMENT_VERSION, STEPS


def enrich_batch(
    raw: RawBatch, sources: EnrichmentSources, retention_class: str, steps: Sequence[Step] = STEPS
) -> EnrichedBatch:
    """The accepted events of a request, in their order.

    Raises:
        ValueError, LookupError: the body is not the one the door verified.
    """
    body = decode_body(raw.body)
    return EnrichedBatch(
        tenant_id=raw.tenant_id,
        retention_class=retention_class,
        key_id=raw.key_id,
        request_id=raw.request_id,
        received_ms=raw.received_ms,
        events=[_enrich(Draft(decode_event(body.events[a.index]), raw), a, sources, steps) for a in raw.accepted],
    )


def _enrich(draft: Draft, accepted: AcceptedEvent, sources: EnrichmentSources, steps: Sequence[Step]) -> EnrichedEvent:
    for step in steps:
        try:
            step(draft, sources)
        except Exception as error:  # a step may fail on what nobody foresaw; the event must not be lost for it
            draft.errors.append(f"{step.__name__}: {type(error).__name__}")
    return EnrichedEvent(
        id=accepted.id,
        type=draft.event.type,
        timestamp_ms=accepted.timestamp_ms,
        received_ms=draft.raw.received_ms,
        visitor=draft.visitor,
        session=draft.session,
        session_id=draft.session_id,
        user_id=draft.user_id,
        anonymous_id=draft.anonymous_id,
        page_url=draft.page_url,
        page_path=draft.page_path,
        referrer=draft.referrer,
        referrer_host=draft.referrer_host,
        country=draft.country,
        region=draft.region,
        city=draft.city,
        device=draft.device,
        browser=draft.browser,
        os=draft.os,
        status=draft.status,
        method=draft.method,
        duration_ms=draft.duration_ms,
        bytes=draft.bytes,
        ip=draft.network,
        user_agent=draft.user_agent,
        locale=draft.locale,
        campaign=draft.campaign,
        is_bot=draft.is_bot,
        properties=draft.event.properties,
        enrichment_version=ENRICHMENT_VERSION,
        enrichment_errors=draft.errors,
    )
