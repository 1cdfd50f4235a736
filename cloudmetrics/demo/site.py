"""The shop that generated traffic comes from: its pages, its API, its visitors' agents and where they come from."""

from __future__ import annotations

from dataclasses import dataclass

ORIGIN = "https://shop.example"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One route of the shop's API: its usual duration, how much that varies (log-normal sigma), and its size."""

    method: str
    path: str
    median_ms: float
    sigma: float
    bytes: int


CATALOG = Endpoint("GET", "/api/catalog", 38.0, 0.45, 18_400)
PRODUCT = Endpoint("GET", "/api/products", 24.0, 0.4, 6_200)
SEARCH = Endpoint("GET", "/api/search", 85.0, 0.6, 11_000)
CART = Endpoint("POST", "/api/cart", 31.0, 0.4, 900)
CHECKOUT = Endpoint("POST", "/api/checkout", 210.0, 0.5, 1_400)
SESSION = Endpoint("POST", "/api/session", 55.0, 0.35, 700)

CATEGORIES = ("boots", "jackets", "tents", "stoves", "maps")
PRODUCTS = tuple(f"{category}/{n}" for category in CATEGORIES for n in range(1, 9))

_CHROME = "AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0"
_WEBKIT = "AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.5"
# Agent and its share of visitors, in percent.
AGENTS = (
    (f"Mozilla/5.0 (Windows NT 10.0; Win64; x64) {_CHROME} Safari/537.36", 31),
    (f"Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) {_WEBKIT} Mobile/15E148 Safari/604.1", 24),
    (f"Mozilla/5.0 (Linux; Android 15; Pixel 9) {_CHROME} Mobile Safari/537.36", 19),
    (f"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) {_WEBKIT} Safari/605.1.15", 12),
    ("Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:144.0) Gecko/20100101 Firefox/144.0", 8),
    (f"Mozilla/5.0 (iPad; CPU OS 18_5 like Mac OS X) {_WEBKIT} Mobile/15E148 Safari/604.1", 4),
    (f"Mozilla/5.0 (X11; Linux x86_64) {_CHROME} Safari/537.36 Edg/142.0.0.0", 2),
)
BOT_AGENTS = (
    ("Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)", 60),
    ("Mozilla/5.0 (compatible; bingbot/2.0; +http://www.bing.com/bingbot.htm)", 25),
    ("UptimeProbe/2.4 (monitor)", 15),
)
# Where a journey comes from ('' is typed in or unknown), in percent; the second is what the page's query says of it.
REFERRERS = (
    ("", "", 42),
    ("https://www.google.com/", "", 28),
    ("https://duckduckgo.com/", "", 6),
    ("https://news.ycombinator.com/", "", 4),
    ("https://www.instagram.com/", "utm_source=instagram&utm_medium=social&utm_campaign=autumn", 11),
    ("https://mail.example/", "utm_source=newsletter&utm_medium=email&utm_campaign=weekly", 9),
)
LOCALES = ("en-GB", "en-US", "de-DE", "fr-FR", "nl-NL")
