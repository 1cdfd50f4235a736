"""What HTTP and socket share: who asks, how often, and the context of an operation."""

from __future__ import annotations

from collections.abc import Mapping

from core.errors import TooMany, Unauthenticated
from core.ingest import Ingest
from core.metric_catalog import MetricCatalog
from core.ratelimit import Allowance
from core.retention import Retention
from core.shares import cost_budget, is_share_token, rows_budget
from core.tenancy import UNLIMITED_REQUESTS_PER_MINUTE, KeyKind
from core.tokens import looks_like_token
from query.composed import ComposedAnswers
from query.engine import QueryEngine
from query.raw import RawEvents
from resolvers.context import Backends, Context, Loaders
from schema.build import COSTS, schema
from schema.prepare import DocumentCache
from schema.trusted import TrustedDocuments, TrustMode
from web.auth.callers import Caller
from web.freshness import Freshness
from web.heavy import HeavyOperations
from web.selections import Selections
from web.services import Services


class GraphQLDoor:
    """One an application."""

    def __init__(self, services: Services, ingest: Ingest) -> None:
        self.services = services
        self.schema = schema
        self.documents = DocumentCache(schema._schema, COSTS)
        self.trusted = TrustedDocuments.load(
            TrustMode(services.settings.trusted_documents), services.settings.trusted_documents_path
        )
        self.heavy = HeavyOperations()
        self.selections = Selections()
        metrics = MetricCatalog(services.database)
        fresh_until = Freshness(services.log).fresh_until
        retention = Retention.of(services.settings)
        self._backends = Backends(
            settings=services.settings,
            database=services.database,
            log=services.log,
            metrics=metrics,
            engine=ComposedAnswers(QueryEngine(services.database, metrics, retention, fresh_until)),
            raw=RawEvents(services.database, retention, fresh_until),
            ingest=ingest,
            live=services.live,
            hub=services.hub,
            tails=services.tails,
            refused=services.refused,
            sign_in=services.sign_in,
            heartbeat_seconds=services.settings.heartbeat_seconds,
            cursor_key=services.settings.master_key_bytes(),
            budgets=services.budgets,
        )

    async def identify(self, authorization: str, address: str) -> Caller:
        """Who sends this `Authorization` from an address.

        Raises:
            Unauthenticated: no access token, secret key or share link, or not a good one.
            PermissionDenied: a person who is no member of the token's tenant any more, or has left it; anybody but an
                owner while the tenant is to be deleted.
            TooMany: the address has had too many looked up that were not known to be good.
            DatabaseUnavailable: it cannot be looked up now, and was not confirmed for a while.
        """
        caller = await self._known(authorization, address)
        caller.principal.refuse_when_ending()
        return caller

    async def _known(self, authorization: str, address: str) -> Caller:
        scheme, _, token = authorization.partition(" ")
        token = token.strip()
        if scheme.lower() != "bearer" or not token:
            raise Unauthenticated("Send Authorization: Bearer and an access token of /auth/login, or a secret key.")
        if looks_like_token(token):
            return await self.services.sessions.by_token(token)
        if is_share_token(token):
            return await self.services.links.caller(token, address)
        known = await self.services.keys.by_bearer(token, address)
        if known.key.kind is not KeyKind.SECRET:
            raise Unauthenticated("A publishable key can only send events; use a secret key here.")
        return known.caller()

    async def take(self, caller: Caller) -> Allowance:
        """One token of the caller's bucket."""
        rate = self.services.settings.requests_per_minute or caller.principal.tenant.limits.requests_per_minute
        return await self.services.limiter.take(caller.bucket, rate or UNLIMITED_REQUESTS_PER_MINUTE)

    async def spend(self, caller: Caller, cost: int) -> None:
        """Takes what an operation costs from a share link's budget, and counts the link's use; nothing of others. Rows
        are taken when they are read; here an operation is refused while none are left.

        Raises:
            TooMany: a budget is spent.
            InvalidRequest: the operation costs more than all of one.
        """
        if caller.share is None:
            return
        await self.services.budgets.require(rows_budget(caller.share))
        await self.services.budgets.spend(cost_budget(caller.share), max(1, cost))
        self.services.links.count(caller.share)

    def context(self, caller: Caller, allowance: Allowance | None, request_id: str) -> Context:
        """A new operation's context; its loaders are its own."""
        return Context(
            backends=self._backends,
            principal=caller.principal,
            key=caller.key,
            month_usage=caller.month_usage,
            allowance=allowance,
            request_id=request_id,
            loaders=Loaders(self.services.database, caller.principal.tenant.id),
            share=caller.share,
        )


def refuse_when_empty(allowance: Allowance) -> None:
    """Raises TooMany when the bucket had no token."""
    if not allowance.is_allowed:
        raise TooMany(
            f"More than {allowance.limit} requests a minute; wait {allowance.retry_after:.1f} s.",
            retry_after=allowance.retry_after,
        )


def authorization_of(payload: Mapping[str, object]) -> str:
    """The `authorization` of a socket's first message, in whatever case."""
    for name, value in payload.items():
        if name.lower() == "authorization" and isinstance(value, str):
            return value
    return ""
