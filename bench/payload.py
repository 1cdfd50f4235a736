"""What is sent: requests of 100 events of about 550 bytes, as a shop's pages and its server would send them.

The mix is fixed by a seed: 70 % page views, 25 % requests with status and duration, 5 % sign-ups; 200 pages of uneven
popularity, 40 agents, 24 referrers, 4,000 visitors. Every event has an id of its own (UUID version 7, as SDKs make
them) and happened within the last few seconds.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mmdb_writer import MMDBWriter
from netaddr import IPSet

from core.events import new_event_id
from core.keys import sign

BATCH = 100
PAGES, AGENTS, REFERRERS, VISITORS = 200, 40, 24, 4000
COUNTRIES = ("DE", "FR", "GB", "US", "NL", "ES", "IT", "PL", "SE", "JP", "BR", "IN")
PATH = "/v1/events"


class Traffic:
    """Makes events, the same ones for the same seed but for their ids and times."""

    def __init__(self, seed: int = 1) -> None:
        self._numbers = random.Random(seed)
        self._agents = [_agent(n) for n in range(AGENTS)]

    def event(self, now_ms: int) -> dict[str, Any]:
        """One event as an SDK would send it."""
        pick = self._numbers
        page = min(int(pick.paretovariate(0.8)), PAGES)
        visitor = pick.randrange(VISITORS)
        kind = pick.choices(("page_view", "http_request", "signup"), (70, 25, 5))[0]
        moment = datetime.fromtimestamp((now_ms - pick.randrange(5_000)) / 1000, UTC)
        properties: dict[str, Any] = {"title": f"Product {page} of our summer sale", "plan": "standard", "cart": 3}
        if kind == "http_request":
            status = pick.choices((200, 304, 404, 500), (80, 10, 8, 2))[0]
            properties |= {"status": status, "method": pick.choice(("GET", "POST")), "bytes": pick.randrange(90_000)}
            properties["duration_ms"] = round(pick.expovariate(0.01), 2)
        return {
            "id": str(new_event_id(now_ms)),
            "type": kind,
            "timestamp": moment.isoformat(timespec="milliseconds"),
            "session_id": f"session-{visitor}",
            "user_id": f"user-{visitor}",
            "properties": properties,
            "context": {
                "ip": f"81.{visitor % 250}.{visitor % 199}.{visitor % 97}",
                "user_agent": self._agents[visitor % AGENTS],
                "locale": "en-GB",
                "page_url": f"https://shop.example/products/{page}?utm_source=letter&utm_medium=mail",
                "referrer": f"https://site{visitor % REFERRERS}.example/reviews/of/shops",
            },
        }

    def batch(self, size: int = BATCH) -> bytes:
        """One request's body."""
        now_ms = int(time.time() * 1000)
        return json.dumps({"events": [self.event(now_ms) for _ in range(size)]}, separators=(",", ":")).encode()

    def batches(self, count: int, size: int = BATCH) -> list[bytes]:
        """Bodies that differ by ids alone after the first 50: to write them anew takes longer than to send them."""
        first = [self.batch(size) for _ in range(min(count, 50))]
        return first + [_with_new_ids(first[n % len(first)]) for n in range(count - len(first))]


def _with_new_ids(body: bytes) -> bytes:
    now_ms = int(time.time() * 1000)
    parts = body.split(b'{"id":"')
    return b'{"id":"'.join([parts[0], *(str(new_event_id(now_ms)).encode() + part[36:] for part in parts[1:])])


@dataclass(frozen=True, slots=True)
class Sender:
    """A signing key of some server."""

    key_id: str
    secret: str

    def request(self, body: bytes) -> bytes:
        """The whole HTTP request, signed for the next five minutes."""
        stamp = int(time.time())
        digest = sign(self.secret, timestamp=stamp, method="POST", path=PATH, body=body)
        head = (
            f"POST {PATH} HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\nX-CM-Key: {self.key_id}\r\n"
            f"X-CM-Signature: t={stamp},v1={digest}\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body

    def requests(self, bodies: Sequence[bytes]) -> list[bytes]:
        return [self.request(body) for body in bodies]


def write_geo_database(path: Path) -> None:
    """A small database that knows every address of `Traffic`."""
    writer = MMDBWriter(ip_version=4, database_type="Bench")
    for n in range(250):
        place = {"country": {"iso_code": COUNTRIES[n % len(COUNTRIES)]}, "city": {"names": {"en": f"City {n}"}}}
        writer.insert_network(IPSet([f"81.{n}.0.0/16"]), place)
    writer.to_db_file(str(path))


def _agent(n: int) -> str:
    system = ("Windows NT 10.0; Win64; x64", "Macintosh; Intel Mac OS X 10_15_7", "X11; Linux x86_64")[n % 3]
    if n % 4 == 0:
        return (
            f"Mozilla/5.0 (iPhone; CPU iPhone OS 17_{n % 7} like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) "
            f"Version/17.{n % 7} Mobile/15E148 Safari/604.1"
        )
    return f"Mozilla/5.0 ({system}) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/{120 + n}.0.0.0 Safari/537.36"
