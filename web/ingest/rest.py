"""`POST /v1/events`: the REST shim over the one way in."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

import msgspec
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response

from core.errors import CloudMetricsError, InvalidRequest, TooMany
from core.events import MAX_BODY_BYTES, MAX_DECODED_BYTES
from core.idempotency import HEADER, Attempt, checked_key
from core.ingest import Delivery, Ingest
from core.outcomes import Outcome, cell_of
from core.permissions import Permission
from core.ratelimit import Allowance
from core.retention import Retention
from core.settings import Settings
from core.tenancy import UNLIMITED_REQUESTS_PER_MINUTE
from web.auth.strangers import refuse_stranger
from web.errors import request_id_of
from web.ingest.body import decompress, read_body
from web.ingest.credentials import Sender, identify
from web.peer import client_address
from web.services import Services

CORS_HEADERS = {
    "Access-Control-Allow-Methods": "POST, OPTIONS",
    "Access-Control-Allow-Headers": "authorization, content-type, content-encoding, x-request-id, idempotency-key",
    "Access-Control-Expose-Headers": "RateLimit-Limit, RateLimit-Remaining, RateLimit-Reset, Retry-After, "
    "X-Request-Id, Idempotent-Replayed",
    "Access-Control-Max-Age": "7200",
    "Vary": "Origin",
}

_encoder = msgspec.json.Encoder()


class _Named(msgspec.Struct):
    """Of a kept answer: which request it answered first."""

    request_id: str


class IngestDoor:
    """The endpoint; one an application."""

    def __init__(self, services: Services) -> None:
        self._services = services
        settings = services.settings
        retention = Retention.of(settings)
        self._ingest = Ingest(
            services.database,
            services.log,
            services.seen,
            settings.tenant_topics,
            retention,
            services.quota,
            services.counts,
        )

    @property
    def ingest(self) -> Ingest:
        return self._ingest

    async def post(self, request: Request) -> Response:
        """202 with a result for every event."""
        received_ms = int(time.time() * 1000)
        request.state.headers = cors_headers(request)
        body, sender = await self._identify(request)
        allowance = await take(self._services, sender)
        request.state.headers |= allowance.headers()
        with counting_refusals(self._services, sender, received_ms):
            admit(sender, allowance)
            check_content_type(request)
            clear = decompress(body, request.headers.get("content-encoding", ""), MAX_DECODED_BYTES)
        origin = Origin.of(request, sender, self._services.settings)
        delivery = origin.delivery(sender, clear, request_id_of(request.scope), received_ms)
        if HEADER in request.headers:
            return await self._once(request, delivery)
        receipt = await self._ingest.accept(delivery)
        return Response(_encoder.encode(receipt), 202, media_type="application/json")

    async def _once(self, request: Request, delivery: Delivery) -> Response:
        """The same for a request with an Idempotency-Key: one that came before gets the first one's answer, with the
        first one's request id."""

        async def work(attempt: Attempt) -> bytes:
            repeatable = replace(delivery, seed=attempt.seed, signed_ms=attempt.first_ms)
            return _encoder.encode(await self._ingest.accept(repeatable))

        key = checked_key(request.headers.getlist(HEADER))
        content = (b"dry\0" if delivery.is_dry_run else b"") + delivery.body
        # Whoever replays a signed request under a key of his own makes no other ids than it made.
        first = Attempt(delivery.seed, delivery.signed_ms or delivery.received_ms)
        answer = await self._services.idempotency.once(delivery.key.tenant.id, key, content, first, work)
        if answer.is_replayed:
            request_id = msgspec.json.decode(answer.body, type=_Named).request_id
            request.state.headers |= {"Idempotent-Replayed": "true", "X-Request-Id": request_id}
        return Response(answer.body, 202, media_type="application/json")

    async def _identify(self, request: Request) -> tuple[bytes, Sender]:
        services = self._services
        address = client_address(request, services.settings)
        try:
            body = await read_body(request, MAX_BODY_BYTES)
            return body, await identify(request, body, services.keys, address)
        except CloudMetricsError as refusal:
            allowance, answer = await refuse_stranger(services.limiter, address, refusal)
            request.state.headers |= allowance.headers()
            raise answer from None

    async def options(self, request: Request) -> Response:
        """The browser's preflight; the key's own origin list is checked with the events."""
        request.state.headers = cors_headers(request)
        return Response(status_code=204)


@dataclass(frozen=True, slots=True)
class Origin:
    """Where events come from, as one request or the handshake of one socket says."""

    client_ip: str
    client_user_agent: str
    country: str
    is_dry_run: bool

    @classmethod
    def of(cls, connection: HTTPConnection, sender: Sender, settings: Settings) -> Origin:
        # A server's own address and agent say nothing of the visitor it speaks for.
        is_browser = sender.is_browser
        return cls(
            client_ip=client_address(connection, settings) if is_browser else "",
            client_user_agent=connection.headers.get("user-agent", "") if is_browser else "",
            country=_country(connection.headers, settings) if is_browser else "",
            is_dry_run=connection.query_params.get("dry_run", "").lower() in ("true", "1"),
        )

    def delivery(self, sender: Sender, body: bytes, request_id: str, received_ms: int) -> Delivery:
        """One body from there."""
        return Delivery(
            key=sender.known.key,
            month_usage=sender.known.month_usage,
            body=body,
            request_id=request_id,
            received_ms=received_ms,
            is_dry_run=self.is_dry_run,
            client_ip=self.client_ip,
            client_user_agent=self.client_user_agent,
            country=self.country,
            seed=sender.seed,
            signed_ms=sender.signed_ms,
        )


async def take(services: Services, sender: Sender) -> Allowance:
    """One token of the sender's bucket, at the tier's rate."""
    tier_rate = sender.known.key.tenant.limits.requests_per_minute or UNLIMITED_REQUESTS_PER_MINUTE
    return await services.limiter.take(sender.known.key.id, services.settings.requests_per_minute or tier_rate)


class counting_refusals:
    """Counts a request of a known key that is refused before its events are looked at, as one."""

    def __init__(self, services: Services, sender: Sender, received_ms: int) -> None:
        self._counts = services.counts
        self._key = sender.known.key
        self._received_ms = received_ms

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, CloudMetricsError):
            tenant_id = self._key.tenant.id
            self._counts.note(cell_of(tenant_id, self._received_ms, Outcome.REJECTED, error.code, self._key.id))


def admit(sender: Sender, allowance: Allowance) -> None:
    """Refuses a sender that may not write, or whose bucket had no token.

    Raises:
        PermissionDenied, TooMany: each names the remedy.
    """
    sender.known.principal().require(Permission.EVENTS_WRITE)
    if not allowance.is_allowed:
        raise TooMany(
            f"More than {allowance.limit} requests a minute with this key; wait {allowance.retry_after:.1f} s. "
            "Send up to 100 events a request.",
            retry_after=allowance.retry_after,
        )


def check_content_type(request: Request) -> None:
    """Refuses anything but JSON in UTF-8."""
    media, _, parameters = request.headers.get("content-type", "").lower().partition(";")
    charset = parameters.strip().removeprefix("charset=").strip('"') or "utf-8"
    if media.strip() != "application/json" or charset not in ("utf-8", "utf8"):
        raise InvalidRequest(
            "Content-Type must be application/json (UTF-8).",
            code="unsupported_media_type",
            field="content-type",
            status=415,
        )


def cors_headers(request: Request) -> dict[str, str]:
    """What lets a page read the answer; whether its events are taken is the key's affair."""
    origin = request.headers.get("origin")
    return {"Access-Control-Allow-Origin": origin, **CORS_HEADERS} if origin else {}


def _country(headers: Mapping[str, str], settings: Settings) -> str:
    text = headers.get(settings.country_header, "") if settings.country_header else ""
    return text.upper() if len(text) == 2 and text.isalpha() else ""
