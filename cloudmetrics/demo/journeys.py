"""Generated visits: the same seed and minute give the same events, whenever and however often they are asked for."""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any
from uuid import UUID

from cloudmetrics.demo import site
from cloudmetrics.demo.site import Endpoint
from cloudmetrics.demo.weather import Conditions, conditions_at, is_release_minute, load_at

MINUTE_MS = 60_000
# No visit lasts longer: who wants all events since a moment begins to generate this long before it.
LONGEST_MINUTES = 40
# The mean of what `shop` and `crawl` make, measured over a week.
EVENTS_A_VISIT = 10.5
POPULATION = 4000
MEMBER_SHARE = 0.35
BOT_SHARE = 0.06


@dataclass(frozen=True, slots=True, order=True)
class DemoEvent:
    """One event, as ingest takes it but for its encoding."""

    timestamp_ms: int
    id: str
    fields: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Traffic:
    """A stream of visits. `rate` is in events a second, averaged over a week."""

    rate: float
    seed: str

    def since(self, start_ms: int) -> Iterator[DemoEvent]:
        """All events from a moment on, in order, without end; those of a minute come before it is over."""
        waiting: list[DemoEvent] = []
        minute = start_ms // MINUTE_MS - LONGEST_MINUTES
        while True:
            for event in self.of_minute(minute):
                heapq.heappush(waiting, event)
            minute += 1
            while waiting and waiting[0].timestamp_ms < minute * MINUTE_MS:
                event = heapq.heappop(waiting)
                if event.timestamp_ms >= start_ms:
                    yield event

    def of_minute(self, minute: int) -> list[DemoEvent]:
        """The events of all visits that begin in a minute."""
        name = f"{self.seed}@{self.rate:g}/{minute}"
        chance = random.Random(name)
        visits = _poisson(chance, self.rate * 60 * load_at(minute * 60) / EVENTS_A_VISIT)
        events: list[DemoEvent] = []
        for number in range(visits):
            visit = Visit(chance, f"{name}/{number}", minute * MINUTE_MS + chance.randrange(MINUTE_MS))
            (visit.crawl if visit.is_bot else visit.shop)()
            events += visit.events
        if is_release_minute(minute):
            events.append(_release(name, minute))
        return events


class Visit:
    """One visitor's way through the shop; `events` grows as it goes."""

    def __init__(self, chance: random.Random, name: str, start_ms: int) -> None:
        self._chance = chance
        self._name = name
        self._now_ms = start_ms
        self._end_ms = start_ms + (LONGEST_MINUTES - 1) * MINUTE_MS
        self.events: list[DemoEvent] = []
        self.is_bot = chance.random() < BOT_SHARE
        # Some come back often, most seldom.
        visitor = int(POPULATION * chance.random() ** 2)
        self._visitor = f"visitor-{visitor}"
        own = random.Random(f"{name.split('/')[0]}/{visitor}")
        agents = site.BOT_AGENTS if self.is_bot else site.AGENTS
        self._agent = _pick(chance if self.is_bot else own, agents)
        self._address = f"198.{18 + visitor % 2}.{visitor // 256 % 256}.{visitor % 256}"
        self._locale = own.choice(site.LOCALES)
        self._is_member = not self.is_bot and own.random() < MEMBER_SHARE
        self._session = _digest(name, "session").hex()
        self._referrer = ""

    def shop(self) -> None:
        """Looks around, searches, perhaps buys."""
        chance = self._chance
        source, query, _ = chance.choices(site.REFERRERS, [row[2] for row in site.REFERRERS])[0]
        self._referrer = source
        if self._is_member and chance.random() < 0.6:
            self._call(site.SESSION)
        self._view("/", query)
        self._call(site.CATALOG)
        if chance.random() < 0.28:
            return
        for _ in range(1 + int(chance.expovariate(0.55))):
            self._browse()
        if chance.random() < 0.34:
            self._buy()

    def crawl(self) -> None:
        """A robot's round: many pages, no session of a person."""
        for _ in range(2 + int(self._chance.expovariate(0.25))):
            self._wait(2.0)
            self._call(site.PRODUCT, path=f"/product/{self._chance.choice(site.PRODUCTS)}")

    def _browse(self) -> None:
        chance = self._chance
        product = chance.choice(site.PRODUCTS)
        self._wait(22.0)
        if chance.random() < 0.3:
            self._view("/search", f"q={product.partition('/')[0]}")
            self._call(site.SEARCH)
            self._add("search", {"results": chance.randrange(0, 40)})
        else:
            self._view(f"/category/{product.partition('/')[0]}")
            self._call(site.CATALOG)
        self._wait(14.0)
        self._view(f"/product/{product}")
        self._call(site.PRODUCT)
        if chance.random() < 0.02:
            self._add("error", {"message": "TypeError: price is undefined", "path": f"/product/{product}"})

    def _buy(self) -> None:
        chance = self._chance
        price = round(math.exp(chance.gauss(4.1, 0.6)), 2)
        self._wait(9.0)
        self._add("add_to_cart", {"value": price, "currency": "EUR"})
        self._call(site.CART)
        if chance.random() < 0.42:
            return
        self._wait(30.0)
        self._view("/checkout")
        if not self._is_member and chance.random() < 0.3:
            self._add("signup", {"plan": "customer"})
            self._call(site.SESSION)
        self._wait(45.0)
        if self._call(site.CHECKOUT) < 500:
            self._add("purchase", {"value": price, "currency": "EUR"})
            self._view("/thanks")

    def _wait(self, median_seconds: float) -> None:
        seconds = median_seconds * math.exp(self._chance.gauss(0.0, 0.7))
        self._now_ms = min(self._now_ms + int(seconds * 1000), self._end_ms)

    def _view(self, path: str, query: str = "") -> None:
        page = f"{site.ORIGIN}{path}{'?' if query else ''}{query}"
        self._add("page_view", {}, page_url=page, referrer=self._referrer)
        self._referrer = page

    def _call(self, endpoint: Endpoint, path: str = "") -> int:
        """One request to the shop's API, and the status it was answered with."""
        chance, now = self._chance, conditions_at(self._now_ms // 1000)
        is_checkout = endpoint is site.CHECKOUT
        share = now.checkout_error_share if is_checkout else now.error_share
        status = _status(chance, share, misses=endpoint is site.PRODUCT)
        slowness = now.slowness * (now.checkout_slowness if is_checkout else 1.0)
        duration = endpoint.median_ms * slowness * math.exp(chance.gauss(0.0, endpoint.sigma))
        self._now_ms += int(duration)
        self._add(
            "http_request",
            {
                "method": endpoint.method,
                "path": path or endpoint.path,
                "status": status,
                "duration_ms": round(duration, 1),
                "bytes": 180 if status >= 400 else int(endpoint.bytes * math.exp(chance.gauss(0.0, 0.2))),
                "release": now.release,
            },
        )
        return status

    def _add(self, kind: str, properties: dict[str, Any], **context: str) -> None:
        told = {name: value for name, value in context.items() if value}
        who = {"user_id": f"user-{self._visitor[8:]}"} if self._is_member else {"anonymous_id": self._visitor}
        fields = {
            "type": kind,
            "session_id": self._session,
            **({} if self.is_bot else who),
            "properties": {**properties, "demo": True},
            "context": {"ip": self._address, "user_agent": self._agent, "locale": self._locale, **told},
        }
        # Two events of a visit never share a millisecond: their order is what paths are read from.
        self._now_ms += 1
        self.events.append(DemoEvent(self._now_ms, _event_id(self._name, len(self.events)), fields))


def _release(name: str, minute: int) -> DemoEvent:
    now: Conditions = conditions_at(minute * 60)
    fields = {
        "type": "release",
        "anonymous_id": "deploys",
        "properties": {"version": now.release, "demo": True},
        "context": {"user_agent": ""},
    }
    return DemoEvent(minute * MINUTE_MS, _event_id(name, 0), fields)


def _status(chance: random.Random, error_share: float, *, misses: bool) -> int:
    draw = chance.random()
    if draw < error_share:
        return 503 if draw < error_share / 2 else 500
    if misses and draw > 0.985:
        return 404
    return 200


def _pick(chance: random.Random, weighted: tuple[tuple[str, int], ...]) -> str:
    return chance.choices([row[0] for row in weighted], [row[1] for row in weighted])[0]


def _poisson(chance: random.Random, mean: float) -> int:
    """A Poisson number by the times between arrivals; exact, and quick for the few visits of a minute."""
    count, total = 0, chance.expovariate(1.0)
    while total < mean:
        count += 1
        total += chance.expovariate(1.0)
    return count


def _digest(*parts: str) -> bytes:
    return blake2b("\0".join(parts).encode(), digest_size=12).digest()


def _event_id(name: str, number: int) -> str:
    """A UUID version 8 (RFC 9562, 5.8) of the visit and its how-manieth event."""
    value = int.from_bytes(blake2b(f"{name}/{number}".encode(), digest_size=16).digest(), "big")
    value = value & ~(0xF << 76) | 0x8 << 76
    return str(UUID(int=value & ~(0x3 << 62) | 0x2 << 62))
