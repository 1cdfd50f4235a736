"""Device, browser, operating system and bots from the user agent. Bots are marked, never dropped."""

from __future__ import annotations

import re
from functools import lru_cache

import ua_parser

CACHE_ENTRIES = 50_000
# Names under which programs, not people, fetch pages; case is ignored. Cubot makes telephones.
BOT_PATTERN = re.compile(
    r"(?<!cu)bot(?:\b|[/;_-])|crawl|spider|slurp|archiver|fetcher|monitor|scrape|headless|phantomjs|curl/|wget|libwww|"
    r"python-|python/|aiohttp|httpx|java/|go-http-client|okhttp|ruby|perl|php/|facebookexternalhit|feed|rss|"
    r"validator|preview|uptime|pingdom|lighthouse|nagios|zabbix|apachebench|tiny tiny|scan",
    re.IGNORECASE,
)
TABLET = re.compile(r"ipad|tablet|kindle|silk|playbook|nexus (?:7|9|10)", re.IGNORECASE)
MOBILE = re.compile(r"mobi|iphone|ipod|phone|blackberry|opera mini|\bandroid\b.*\bmobile\b", re.IGNORECASE)
TV = re.compile(r"smart-?tv|appletv|googletv|hbbtv|roku|bravia|web0s", re.IGNORECASE)

# (device, browser, os, is_bot); '' is not known.
Agent = tuple[str, str, str, bool]
NO_AGENT: Agent = ("", "", "", False)


def build_parser() -> None:
    """Builds the parser, which it else does at the first agent: half a second in which nothing else gets its turn."""
    ua_parser.parse("Mozilla/5.0")


@lru_cache(maxsize=CACHE_ENTRIES)
def parse_agent(text: str) -> Agent:
    """What a user agent says it is; a plain tuple, since the cache is the hot path."""
    if not text:
        return NO_AGENT
    parsed = ua_parser.parse(text)
    browser = parsed.user_agent.family if parsed.user_agent else ""
    system = parsed.os.family if parsed.os else ""
    family = parsed.device.family if parsed.device else ""
    is_bot = family == "Spider" or BOT_PATTERN.search(text) is not None
    return _device(text, family, system, is_bot=is_bot), browser, system, is_bot


def _device(text: str, family: str, system: str, *, is_bot: bool) -> str:
    if is_bot:
        return "bot"
    if TV.search(text):
        return "tv"
    if TABLET.search(text) or (system == "Android" and not MOBILE.search(text)):
        return "tablet"
    if MOBILE.search(text):
        return "mobile"
    return "desktop" if system or family else ""
