"""The page an event happened on, where its visitor came from, and the campaign that brought them."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple
from urllib.parse import parse_qsl, urlsplit

from pipeline.enrichment.bounds import MAX_ID_LENGTH

MAX_PATH_LENGTH = 512
CAMPAIGN_KEYS = frozenset(
    {
        "utm_source", "utm_medium", "utm_campaign", "utm_term", "utm_content", "utm_id",
        "gclid", "fbclid", "msclkid", "ttclid", "li_fat_id", "twclid",
    }
)  # fmt: skip
CACHE_ENTRIES = 20_000


class Page(NamedTuple):
    """An address taken apart; '' where it has no such part, or is malformed. `host` is in lower case, without www."""

    host: str = ""
    path: str = ""
    campaign: dict[str, str] = {}


NO_PAGE = Page()


@lru_cache(maxsize=CACHE_ENTRIES)
def page_of(url: str) -> Page:
    """The parts of a page's or a referrer's address; pages come again, so they are kept."""
    try:
        parts = urlsplit(url)
        host = (parts.hostname or "").removeprefix("www.")
    except ValueError:
        return NO_PAGE
    # An escaped NUL passed the door; no store keeps it.
    found = parse_qsl(parts.query.replace("%00", "%EF%BF%BD")) if parts.query else ()
    return Page(host, parts.path, {key: value[:MAX_ID_LENGTH] for key, value in found if key in CAMPAIGN_KEYS})
