"""The steps of enrichment, in their order. Each is a function of one event; `STEPS` is the pipeline."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from functools import lru_cache
from urllib.parse import parse_qsl, urlsplit

from core.events import hash64, visitor_hash
from core.tenancy import TenantId
from pipeline.enrichment.agent import parse_agent
from pipeline.enrichment.draft import MAX_ID_LENGTH, MAX_URL_LENGTH, Draft, Step
from pipeline.enrichment.sources import EnrichmentSources

# Raised by one whenever a step would give another answer for the same event.
ENRICHMENT_VERSION = 2

MAX_PATH_LENGTH = 512
MAX_METHOD_LENGTH = 16
MAX_NAME_LENGTH = 100
# The longest way to write an IPv6 address, its zone included.
MAX_ADDRESS_LENGTH = 64
# A pebibyte, and a year in milliseconds: what is beyond is a mistake, and would drown every sum it is in.
MAX_BYTES = 2**50
MAX_DURATION_MS = 366 * 86_400_000
CAMPAIGN_KEYS = frozenset(
    {
        "utm_source", "utm_medium", "utm_campaign", "utm_term", "utm_content", "utm_id",
        "gclid", "fbclid", "msclkid", "ttclid", "li_fat_id", "twclid",
    }
)  # fmt: skip
URL_CACHE_ENTRIES = 20_000


@lru_cache(maxsize=URL_CACHE_ENTRIES)
def split_url(url: str) -> tuple[str, str, str]:
    """Host (lower case, without www.), path and query of an address; '' where it has none or is malformed."""
    try:
        parts = urlsplit(url)
        host = (parts.hostname or "").removeprefix("www.")
    except ValueError:
        return "", "", ""
    return host, parts.path, parts.query


def put_ids(draft: Draft, sources: EnrichmentSources) -> None:
    """The ids a client gave."""
    event = draft.event
    draft.user_id = draft.bounded("user_id", event.user_id, MAX_ID_LENGTH)
    draft.anonymous_id = draft.bounded("anonymous_id", event.anonymous_id, MAX_ID_LENGTH)
    draft.session_id = draft.bounded("session_id", event.session_id, MAX_ID_LENGTH)
    draft.locale = draft.bounded("locale", event.context.locale, MAX_ID_LENGTH)


def put_connection(draft: Draft, sources: EnrichmentSources) -> None:
    """Address and agent: the event's own, else the request's."""
    context = draft.event.context
    draft.ip = context.ip or draft.raw.client_ip
    if len(draft.ip) > MAX_ADDRESS_LENGTH:
        draft.ip = ""
        draft.errors.append("ip: not an address")
    agent = context.user_agent if context.user_agent is not None else draft.raw.client_user_agent
    draft.user_agent = draft.bounded("user_agent", agent, MAX_URL_LENGTH)


def put_page(draft: Draft, sources: EnrichmentSources) -> None:
    """The page's address, and its path without the query."""
    draft.page_url = draft.bounded("page_url", draft.event.context.page_url, MAX_URL_LENGTH)
    path = split_url(draft.page_url)[1] if draft.page_url else ""
    if not path:
        named = draft.event.properties.get("path")
        path = named.partition("?")[0] if isinstance(named, str) else ""
    draft.page_path = draft.bounded("page_path", path, MAX_PATH_LENGTH)


def put_referrer(draft: Draft, sources: EnrichmentSources) -> None:
    """Where the visitor came from; a page of the same host is no referrer."""
    draft.referrer = draft.bounded("referrer", draft.event.context.referrer, MAX_URL_LENGTH)
    if draft.referrer:
        host = split_url(draft.referrer)[0]
        draft.referrer_host = "" if draft.page_url and host == split_url(draft.page_url)[0] else host[:MAX_ID_LENGTH]


def put_campaign(draft: Draft, sources: EnrichmentSources) -> None:
    """Campaign and click ids from the page's query."""
    query = split_url(draft.page_url)[2] if draft.page_url else ""
    if query:
        # An escaped NUL passed the door; no store keeps it.
        found = parse_qsl(query.replace("%00", "%EF%BF%BD"))
        draft.campaign = {k: v[:MAX_ID_LENGTH] for k, v in found if k in CAMPAIGN_KEYS}


def put_request(draft: Draft, sources: EnrichmentSources) -> None:
    """Status, method, duration and bytes of a request, where they are well typed."""
    properties = draft.event.properties
    draft.status = _integer(draft, properties, "status", most=999)
    draft.bytes = _integer(draft, properties, "bytes", most=MAX_BYTES)
    method = properties.get("method")
    if isinstance(method, str):
        draft.method = draft.bounded("method", method.upper(), MAX_METHOD_LENGTH)
    duration = properties.get("duration_ms")
    if isinstance(duration, (int, float)) and not isinstance(duration, bool) and 0 <= duration <= MAX_DURATION_MS:
        draft.duration_ms = float(duration)
    elif duration is not None:
        draft.errors.append(f"duration_ms: not a number from 0 to {MAX_DURATION_MS}")


def put_agent(draft: Draft, sources: EnrichmentSources) -> None:
    """Device, browser, operating system; bots are marked."""
    draft.device, browser, system, draft.is_bot = parse_agent(draft.user_agent)
    # Names are taken out of the agent, which may be anything; a key of the rollups has room for less.
    draft.browser = draft.bounded("browser", browser, MAX_NAME_LENGTH)
    draft.os = draft.bounded("os", system, MAX_NAME_LENGTH)


def put_place(draft: Draft, sources: EnrichmentSources) -> None:
    """Country, region, city from the geo database; else the CDN's word for the client's own address."""
    if sources.geo is not None and draft.ip:
        place = sources.geo.find(draft.ip)
        draft.country = draft.bounded("country", place.country, MAX_NAME_LENGTH)
        draft.region = draft.bounded("region", place.region, MAX_NAME_LENGTH)
        draft.city = draft.bounded("city", place.city, MAX_NAME_LENGTH)
    if not draft.country and draft.ip == draft.raw.client_ip:
        draft.country = draft.raw.country


def put_visitor(draft: Draft, sources: EnrichmentSources) -> None:
    """What uniques count; from the whole address, which is not kept."""
    key = sources.visitor_key(draft.raw.tenant_id)
    draft.visitor = visitor_hash(
        TenantId(draft.raw.tenant_id),
        user_id=draft.user_id,
        anonymous_id=draft.anonymous_id,
        ip=draft.ip,
        user_agent=draft.user_agent,
        key=key,
    )
    draft.session = hash64("session", draft.session_id, key) if draft.session_id else None


def mask_address(draft: Draft, sources: EnrichmentSources) -> None:
    """Keeps the network only: /24 of IPv4, /48 of IPv6."""
    if draft.ip:
        draft.network = masked(draft.ip)
        if not draft.network:
            draft.errors.append("ip: not an address")


@lru_cache(maxsize=URL_CACHE_ENTRIES)
def masked(address: str) -> str:
    """The network of an address; '' of what is none."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return ""
    bits = 24 if parsed.version == 4 else 48
    return str(ipaddress.ip_network((parsed, bits), strict=False).network_address)


def _integer(draft: Draft, properties: Mapping[str, object], name: str, *, most: int) -> int | None:
    value = properties.get(name)
    if value is None:
        return None
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= most:
        return value
    draft.errors.append(f"{name}: not a whole number from 0 to {most}")
    return None


STEPS: tuple[Step, ...] = (
    put_ids, put_connection, put_page, put_referrer, put_campaign, put_request, put_agent, put_place, put_visitor,
    mask_address,
)  # fmt: skip
