"""What a web process holds open, made once in the lifespan and passed on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from core.answer_store import AnswerStore
from core.attempts import Attempts
from core.budget import Budgets
from core.database import Database
from core.eventlog import EventLog
from core.idempotency import Idempotency
from core.ingest_counts import CountFlusher
from core.live import LiveBroadcast
from core.log import open_log
from core.outcomes import IngestCounts
from core.passwords import Passwords
from core.quota import MonthQuota
from core.ratelimit import RateLimiter
from core.refused_writes import RefusedWrites
from core.rings import Rings
from core.seen import SeenIds
from core.settings import Settings
from core.sign_in import SignIn
from core.tails import Tails
from core.tickets import Tickets
from resolvers.live_hub import LiveHub
from web.auth.keys import KeyRing
from web.auth.saml_pool import SamlPool
from web.auth.sessions import SessionRing
from web.auth.shares import LinkRing

# Of each of the two pools that are used here, in all workers together.
CONNECTIONS = 16


@dataclass(frozen=True, slots=True)
class Services:
    """Clients and caches of one web process."""

    settings: Settings
    database: Database
    log: EventLog
    limiter: RateLimiter
    seen: SeenIds
    live: LiveBroadcast
    hub: LiveHub
    tickets: Tickets
    tails: Tails
    keys: KeyRing
    links: LinkRing
    budgets: Budgets
    quota: MonthQuota
    idempotency: Idempotency
    sessions: SessionRing
    passwords: Passwords
    attempts: Attempts
    sign_in: SignIn
    counts: IngestCounts
    refused: RefusedWrites
    saml: SamlPool
    kept: AnswerStore


def pool_size_of(web_workers: int) -> int:
    """Connections of a pool, so that all workers together leave some of the server's to others."""
    return max(2, min(8, CONNECTIONS // web_workers))


@asynccontextmanager
async def open_services(settings: Settings) -> AsyncIterator[Services]:
    """Opens all clients; none needs its server to be there yet."""
    async with AsyncExitStack() as stack:
        database = Database(settings, pool_size=pool_size_of(settings.web_workers))
        stack.push_async_callback(database.close)
        quota = MonthQuota(database, settings.web_workers)
        stack.push_async_callback(quota.close)
        log = open_log(settings)
        stack.push_async_callback(log.close)
        limiter = RateLimiter(settings.redis_url, settings.web_workers)
        stack.push_async_callback(limiter.close)
        idempotency = Idempotency(settings.redis_url, settings.log_max_bytes)
        stack.push_async_callback(idempotency.close)
        seen = SeenIds(settings.redis_url)
        stack.push_async_callback(seen.close)
        live = await stack.enter_async_context(LiveBroadcast(settings.redis_url))
        # Before the hub, whose streams ask until they are closed: what is opened last is closed first.
        kept = AnswerStore(settings.redis_url)
        stack.push_async_callback(kept.close)
        rings = Rings(settings.redis_url)
        stack.push_async_callback(rings.close)
        hub = LiveHub(live, rings, secret=settings.master_key_bytes(), heartbeat_seconds=settings.heartbeat_seconds)
        stack.push_async_callback(hub.close)
        tails = Tails(settings.redis_url)
        stack.push_async_callback(tails.close)
        tickets = Tickets(settings.redis_url, settings.master_key_bytes())
        stack.push_async_callback(tickets.close)
        saml = SamlPool(settings.xmlsec1)
        stack.push_async_callback(saml.close)
        keys = KeyRing(database, settings.master_key_bytes(), limiter)
        passwords = Passwords()
        stack.push_async_callback(passwords.close)
        attempts = Attempts(limiter)
        sign_in = SignIn(database, settings, passwords, attempts)
        sessions = SessionRing(database, settings.public_base)
        counts = IngestCounts()
        await stack.enter_async_context(CountFlusher(database, counts, live).running())
        links = LinkRing(database, limiter)
        stack.push_async_callback(links.close)
        budgets = Budgets(settings.redis_url, settings.web_workers)
        stack.push_async_callback(budgets.close)
        refused = RefusedWrites(database, limiter)
        stack.push_async_callback(refused.close)
        yield Services(
            settings, database, log, limiter, seen, live, hub, tickets, tails, keys, links, budgets, quota, idempotency,
            sessions, passwords, attempts, sign_in, counts, refused, saml, kept,
        )  # fmt: skip
