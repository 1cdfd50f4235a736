"""What HTTP and socket share: who asks, how often, and the context of an operation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from strawberry.dataloader import DataLoader

from core.errors import TooMany, Unauthenticated
from core.ingest import Ingest
from core.own_letters import find_own
from core.ratelimit import Allowance
from core.retention import Retention
from core.tenancy import UNLIMITED_REQUESTS_PER_MINUTE, KeyKind
from query.engine import QueryEngine
from resolvers.context import Backends, Context
from resolvers.events import load_events
from schema.build import schema
from schema.prepare import DocumentCache
from web.auth.keys import KnownKey
from web.freshness import Freshness
from web.services import Services


class GraphQLDoor:
    """One an application."""

    def __init__(self, services: Services, ingest: Ingest) -> None:
        self.services = services
        self.schema = schema
        self.documents = DocumentCache(schema._schema)
        self._backends = Backends(
            database=services.database,
            log=services.log,
            engine=QueryEngine(services.database, Retention.of(services.settings), Freshness(services.log).fresh_until),
            ingest=ingest,
            live=services.live,
            heartbeat_seconds=services.settings.heartbeat_seconds,
            cursor_key=services.settings.master_key_bytes(),
        )

    async def identify(self, authorization: str) -> KnownKey:
        """Who bears this key.

        Raises:
            Unauthenticated: no secret key, or not a good one.
        """
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise Unauthenticated("Send Authorization: Bearer cm_sk_…, a secret key with the scope metrics:read.")
        known = await self.services.keys.by_bearer(token.strip())
        if known.key.kind is not KeyKind.SECRET:
            raise Unauthenticated("A publishable key can only send events; use a secret key here.")
        return known

    async def take(self, known: KnownKey) -> Allowance:
        """One token of the key's bucket."""
        settings = self.services.settings
        rate = settings.requests_per_minute or known.key.tenant.limits.requests_per_minute
        return await self.services.limiter.take(known.key.id, rate or UNLIMITED_REQUESTS_PER_MINUTE)

    def context(self, known: KnownKey, allowance: Allowance | None, request_id: str) -> Context:
        """A new operation's context; its loaders are its own."""
        database, tenant_id = self.services.database, known.key.tenant.id

        async def load(keys: list[Any]) -> Any:
            return await load_events(database, tenant_id, keys)

        async def load_letters(places: list[Any]) -> Any:
            return await find_own(database, tenant_id, places)

        return Context(
            backends=self._backends,
            principal=known.principal(),
            key=known.key,
            month_usage=known.month_usage,
            allowance=allowance,
            request_id=request_id,
            events=DataLoader(load_fn=load),
            dead_letters=DataLoader(load_fn=load_letters),
        )


def refuse_when_empty(allowance: Allowance) -> None:
    """Raises TooMany when the bucket had no token."""
    if not allowance.is_allowed:
        raise TooMany(
            f"More than {allowance.limit} requests a minute with this key; wait {allowance.retry_after:.1f} s.",
            retry_after=allowance.retry_after,
        )


def authorization_of(payload: Mapping[str, object]) -> str:
    """The `authorization` of a socket's first message, in whatever case."""
    for name, value in payload.items():
        if name.lower() == "authorization" and isinstance(value, str):
            return value
    return ""
