"""Sign-in by a tenant's SAML provider: `/auth/saml/{tenant}/metadata`, `/login`, `/acs` for the provider's answer, and
`/finish`: the answer comes from another site, without our cookie; the step after it has the cookie again.
"""

from __future__ import annotations

import base64
import binascii
from datetime import UTC, datetime
from http import HTTPStatus
from urllib.parse import parse_qsl, quote

from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response

from core.errors import InvalidRequest, PermissionDenied
from core.identities import recognise
from core.idp_metadata import valid_certificates
from core.sign_in_attempts import (
    Attempt,
    Purpose,
    await_attempt,
    find_attempt,
    hashed,
    new_secret,
    take_assertion,
    take_attempt,
)
from core.sign_in_connections import Offered, SignInConnection, lock_connection, offered_connections
from core.sign_in_rules import ConnectionKind
from core.tenancy import SLUG, TenantId
from web.auth.provider_sign_in import BROWSER, ProviderSignIn, checked_next, no_such_way, parameters_of
from web.auth.saml_client import IdentityProvider, ServiceProvider
from web.auth.saml_metadata import MEDIA_TYPE, metadata_of
from web.auth.saml_pool import SamlPool
from web.auth.saml_response import MAX_RESPONSE_BYTES, Said, request_id_of
from web.auth.saml_subject import vouched_by
from web.auth.saml_worker import Job
from web.ingest.body import read_body

MAX_FORM_BYTES = 384 * 1024
MAX_FIELDS = 10
# Each costs two processes.
ANSWERS_PER_MINUTE = 120


class SamlDoor:
    """One an application."""

    def __init__(self, sign_in: ProviderSignIn, pool: SamlPool) -> None:
        self._sign_in = sign_in
        self._database = sign_in.services.database
        self._pool = pool

    async def ways(self, request: Request) -> Response:
        """How people of a tenant may sign in besides passwords; nothing for a tenant that there is not."""
        await self._sign_in.take(request)
        offered = await self._offered(request)
        ways = [{"id": str(way.id), "kind": way.kind.value, "name": way.name, "url": self._url(way)} for way in offered]
        return JSONResponse({"connections": ways}, headers={"Cache-Control": "no-store"})

    async def metadata(self, request: Request) -> Response:
        """Us, to the providers of a tenant; the same text whether there is such a tenant or not."""
        await self._sign_in.take(request)
        provider = self._provider(_slug(request))
        return Response(metadata_of(provider.entity_id, provider.acs_url), media_type=MEDIA_TYPE)

    async def login(self, request: Request) -> Response:
        """Sends the browser to the provider: of several, to the one that `connection` names."""
        await self._sign_in.take(request)
        parameters = parameters_of(request, {"next", "connection"})
        next_page = checked_next(parameters.get("next", "/"))
        ways = [way for way in await self._offered(request) if way.kind is ConnectionKind.SAML]
        chosen = [way for way in ways if parameters.get("connection") in (None, str(way.id))]
        if not chosen:
            raise no_such_way()
        if len(chosen) > 1:
            raise InvalidRequest(
                "This tenant has several SAML providers; say which with ?connection=…", code="bad_request",
                field="connection",
            )  # fmt: skip
        connection = await self._sign_in.connection(str(chosen[0].id), ConnectionKind.SAML)
        go_on = f"/auth/saml/{_slug(request)}/login?connection={connection.id}&next={quote(next_page, safe='')}"
        if page := await self._sign_in.question(request, connection, go_on):
            return page
        browser = self._sign_in.browser_of(request) or new_secret()
        job = Job(
            does="request", provider=self._provider(_slug(request)), idp=_idp(connection), relay_state=new_secret()
        )
        outcome = await self._pool.do(job)
        attempt = Attempt(connection.id, hashed(browser), next_page, None)
        await self._sign_in.begin(connection.tenant_id, Purpose.SAML, outcome.request_id, attempt)
        return self._sign_in.sent_to(outcome.url, browser)

    async def acs(self, request: Request) -> Response:
        """The provider's answer, by the browser's form (Bindings, 3.5). RelayState is not read: anybody writes it."""
        await self._sign_in.take(request)
        document = await _document(request)
        offered = [way for way in await self._offered(request) if way.kind is ConnectionKind.SAML]
        if not offered:
            raise no_such_way()
        request_id = request_id_of(document)
        tenant_id = offered[0].tenant_id
        # Taken away only with the session that comes of it: what is refused, or finds us busy, may be sent again.
        async with self._database.as_tenant(tenant_id) as session:
            attempt = await find_attempt(session, Purpose.SAML, request_id)
        if attempt is None:
            raise _not_awaited()
        connection = await self._sign_in.connection(str(attempt.connection_id), ConnectionKind.SAML)
        await self._sign_in.take(request, "saml", ANSWERS_PER_MINUTE)
        provider = self._provider(_slug(request))
        outcome = await self._pool.do(
            Job(does="verify", provider=provider, idp=_idp(connection), request_id=request_id, document=document)
        )
        assert outcome.said is not None
        ticket = await self._ticket(request, connection, request_id, outcome.said)
        return RedirectResponse(
            f"/auth/saml/{_slug(request)}/finish?ticket={ticket}", HTTPStatus.SEE_OTHER,
            {"Cache-Control": "no-store", "Referrer-Policy": "no-referrer"},
        )  # fmt: skip

    async def finish(self, request: Request) -> Response:
        """The browser again, with its cookie: only the one that began gets the session."""
        await self._sign_in.take(request)
        ticket = parameters_of(request, {"ticket"}).get("ticket", "")
        browser, offered = self._sign_in.browser_of(request), await self._offered(request)
        if offered and BROWSER.fullmatch(ticket) and browser:
            found = await self._taken(offered[0].tenant_id, ticket)
            if found is not None:
                connection, attempt = found
                if attempt.person_id and attempt.is_of(browser):
                    return await self._sign_in.finished(request, connection, attempt.person_id, attempt.next)
        raise _not_awaited()

    async def _taken(self, tenant_id: TenantId, ticket: str) -> tuple[SignInConnection, Attempt] | None:
        """What a ticket was given for, and the connection as it was then: a change of it takes its tickets away."""
        async with self._database.as_tenant(tenant_id, is_write=True) as session:
            known = await find_attempt(session, Purpose.TICKET, ticket)
            if known is None:
                return None
            # Before the ticket, in the order of those who change a connection.
            connection = await lock_connection(session, known.connection_id)
            attempt = await take_attempt(session, Purpose.TICKET, ticket)
        return None if attempt is None else (connection, attempt)

    async def _ticket(self, request: Request, connection: SignInConnection, request_id: str, said: Said) -> str:
        """Takes request and assertion, once, knows whose they are, and makes the browser's way to the session."""
        vouched = vouched_by(said, connection)
        ticket = new_secret()
        async with self._database.as_tenant(connection.tenant_id, is_write=True) as session:
            attempt = await take_attempt(session, Purpose.SAML, request_id)
            if attempt is None or attempt.connection_id != connection.id:
                raise _not_awaited()
            await take_assertion(session, connection.id, said.assertion_id, said.expires_at)
            person_id = await recognise(session, self._sign_in.author(connection, request), connection, vouched)
            awaited = Attempt(connection.id, attempt.browser, attempt.next, person_id)
            await await_attempt(session, Purpose.TICKET, ticket, awaited)
        return ticket

    async def _offered(self, request: Request) -> list[Offered]:
        return await offered_connections(self._database, _slug(request))

    def _provider(self, slug: str) -> ServiceProvider:
        base = f"{self._sign_in.base}/auth/saml/{slug}"
        return ServiceProvider(f"{base}/metadata", f"{base}/acs", self._pool.xmlsec1)

    def _url(self, way: Offered) -> str:
        if way.kind is ConnectionKind.OIDC:
            return f"{self._sign_in.base}/auth/oauth/{way.id}/start"
        return f"{self._sign_in.base}/auth/saml/{way.slug}/login?connection={way.id}"


def _slug(request: Request) -> str:
    slug = str(request.path_params["tenant"])
    if not SLUG.fullmatch(slug):
        raise no_such_way()
    return slug


def _idp(connection: SignInConnection) -> IdentityProvider:
    """The provider with those of its pinned certificates that are valid now."""
    config = connection.saml()
    certificates = valid_certificates(config.certificates, datetime.now(UTC))
    if not certificates:
        raise PermissionDenied(
            "The identity provider's certificate has expired; an administrator uploads its metadata anew.",
            code="saml_invalid_signature",
        )
    return IdentityProvider(config.entity_id, config.sso_url, tuple(certificates), config.requires_signed_response)


async def _document(request: Request) -> bytes:
    """The response within a form. Its fields are counted before they are read.

    Raises:
        InvalidRequest: 413, 415, or 400 `saml_invalid_document`.
    """
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media != "application/x-www-form-urlencoded":
        raise InvalidRequest(
            "Content-Type must be application/x-www-form-urlencoded.", code="unsupported_media_type", status=415
        )
    try:
        body = await read_body(request, MAX_FORM_BYTES)
    except InvalidRequest as refusal:
        if refusal.answer_status != 413:
            raise
        raise InvalidRequest(
            f"The form has more than {MAX_FORM_BYTES} bytes.", code="form_too_large", status=413
        ) from None
    if body.count(b"&") >= MAX_FIELDS:
        raise InvalidRequest(f"The form has more than {MAX_FIELDS} fields.", code="form_too_large", status=413)
    try:
        fields = parse_qsl(body.decode("ascii"), keep_blank_values=True)
        (text,) = (value for name, value in fields if name == "SAMLResponse")
        document = base64.b64decode("".join(text.split()), validate=True)
    except (UnicodeDecodeError, ValueError, binascii.Error):
        raise InvalidRequest(
            "The form needs one SAMLResponse, in base64.", code="saml_invalid_document", field="SAMLResponse"
        ) from None
    if len(document) > MAX_RESPONSE_BYTES:
        raise InvalidRequest(
            f"The SAML response is larger than {MAX_RESPONSE_BYTES} bytes.", code="saml_invalid_document", status=413
        )
    return document


def _not_awaited() -> InvalidRequest:
    return InvalidRequest(
        "This SAML response answers no request that was made in this browser within the last ten minutes, or one that "
        "was answered before; begin again from the sign-in page.",
        code="saml_in_response_to",
        status=403,
    )
