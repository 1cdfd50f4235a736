"""What a web process holds open, made once in the lifespan and passed on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from core.database import Database
from core.live import LiveBroadcast
from core.ratelimit import RateLimiter
from core.seen import SeenIds
from core.settings import Settings
from core.valkey_log import ValkeyLog
from web.auth.keys import KeyRing


@dataclass(frozen=True, slots=True)
class Services:
    """Clients and caches of one web process."""

    settings: Settings
    database: Database
    log: ValkeyLog
    limiter: RateLimiter
    seen: SeenIds
    live: LiveBroadcast
    keys: KeyRing


@asynccontextmanager
async def open_services(settings: Settings) -> AsyncIterator[Services]:
    """Opens all clients; none needs its server to be there yet."""
    async with AsyncExitStack() as stack:
        database = Database(settings)
        stack.push_async_callback(database.close)
        log = ValkeyLog(
            settings.redis_url, max_bytes=settings.log_max_bytes, retention_hours=settings.log_retention_hours
        )
        stack.push_async_callback(log.close)
        limiter = RateLimiter(settings.redis_url)
        stack.push_async_callback(limiter.close)
        seen = SeenIds(settings.redis_url)
        stack.push_async_callback(seen.close)
        live = await stack.enter_async_context(LiveBroadcast(settings.redis_url))
        keys = KeyRing(database, settings.master_key_bytes())
        yield Services(settings, database, log, limiter, seen, live, keys)
