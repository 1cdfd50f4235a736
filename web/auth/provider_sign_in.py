"""What sign-in by OpenID and by SAML share: the browser that begins and ends it, where it goes afterwards, and the
session that comes of it, which is good for the provider's tenant alone."""

from __future__ import annotations

import re
from http import HTTPStatus
from uuid import UUID

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from core.audit import Author
from core.errors import InvalidRequest, NotFound, TooMany
from core.identities import confirm_session
from core.networks import network_of
from core.queries import named
from core.sessions import open_session
from core.sign_in_attempts import Attempt, Purpose, await_attempt
from core.sign_in_connections import SignInConnection, connection_by_id
from core.sign_in_rules import ConnectionKind
from core.tenancy import PersonId, TenantId
from web.auth.cookies import put_refresh_token
from web.auth.pages import told
from web.errors import request_id_of
from web.peer import client_address
from web.services import Services

TENANT = named("sign_in", "tenant_to_show")

# Each step of a sign-in takes one; a flood of made-up ones ends here.
STEPS_PER_MINUTE = 600
COOKIE_SECONDS = 600
BROWSER = re.compile(r"[A-Za-z0-9_-]{43}")
MAX_QUERY_LENGTH = 8 * 1024
MAX_NEXT_LENGTH = 512
# Where a sign-in may lead: pages, never an address that does something.
PAGES = ("dashboards", "questions", "metrics", "settings", "members")
_NEXT = re.compile(rf"/(?:(?:{'|'.join(PAGES)})(?:/[A-Za-z0-9_-]+)*/?)?(?:\?[A-Za-z0-9_=&.~%-]*)?")


class ProviderSignIn:
    """One an application."""

    def __init__(self, services: Services) -> None:
        self.services = services
        self.base = services.settings.public_base
        self._is_secure = self.base.startswith("https://")
        # Only we can set a cookie of this prefix, no neighbour on the same domain (RFC 6265bis, 4.1.3.2).
        self._cookie = "__Host-cm_sign_in" if self._is_secure else "cm_sign_in"

    def redirect_uri(self, connection_id: UUID) -> str:
        """One for each connection, so that no other provider's answer is taken for its (RFC 9700, 4.4.2)."""
        return f"{self.base}/auth/oauth/{connection_id}/callback"

    async def take(self, request: Request, what: str = "sign_in", per_minute: int = STEPS_PER_MINUTE) -> None:
        """One step of the sender's address.

        Raises:
            TooMany: there were more in a minute.
        """
        network = network_of(client_address(request, self.services.settings))
        allowance = await self.services.limiter.take(f"{what}:{network}", per_minute)
        if not allowance.is_allowed:
            raise TooMany(
                f"More than {per_minute} steps of signing in a minute from this address; wait "
                f"{allowance.retry_after:.1f} s.",
                retry_after=allowance.retry_after,
            )

    async def connection(self, id: str, kind: ConnectionKind) -> SignInConnection:
        """The enabled connection with an id.

        Raises:
            NotFound: there is none, or of the other kind.
        """
        try:
            found = await connection_by_id(self.services.database, UUID(id), kind) if len(id) == 36 else None
        except ValueError:
            found = None
        if found is None:
            raise no_such_way()
        return found

    def browser_of(self, request: Request) -> str:
        """The cookie of the browser; empty where it has none that we made."""
        cookie = request.cookies.get(self._cookie, "")
        return cookie if BROWSER.fullmatch(cookie) else ""

    async def begin(self, tenant_id: TenantId, purpose: Purpose, id: str, attempt: Attempt) -> None:
        """Notes what is awaited."""
        async with self.services.database.as_tenant(tenant_id, is_write=True) as session:
            await await_attempt(session, purpose, id, attempt)

    async def question(self, request: Request, connection: SignInConnection, go_on: str) -> Response | None:
        """The page for whom another site sent here: a stranger's tenant must not sign in a visitor who does not know
        of it (login CSRF, RFC 6749, 10.12). None: who comes from our pages, a bookmark or a message is not asked.

        `go_on`: the same address again, a link and no form: pages forbid forms that lead to other sites.
        """
        if request.headers.get("sec-fetch-site") != "cross-site":
            return None
        async with self.services.database.as_tenant(connection.tenant_id) as session:
            tenant = await session.fetchrow(TENANT)
        if tenant is None:
            raise no_such_way()
        return told(
            f"Sign in to {tenant['name']}?",
            f"Another site sent you here. If you go on, {connection.name} says who you are, and this browser is signed "
            f"in to {tenant['name']} ({tenant['slug']}), in place of whoever is signed in now.",
            "Go on only if you wanted to sign in there; else close this page.",
            beside=(go_on, f"Sign in to {tenant['name']}"),
        )

    def sent_to(self, url: str, browser: str) -> Response:
        """A browser on its way, with the cookie by which it is known again. Lax: it comes back from another site."""
        response = RedirectResponse(url, HTTPStatus.SEE_OTHER, {"Cache-Control": "no-store"})
        response.set_cookie(
            self._cookie, browser, max_age=COOKIE_SECONDS, path="/", httponly=True, samesite="lax",
            secure=self._is_secure,
        )  # fmt: skip
        return response

    def author(self, connection: SignInConnection, request: Request) -> Author:
        """Who the audit trail names for what a sign-in changes."""
        return Author(connection.tenant_id, f"sign_in_connection:{connection.id}", request_id_of(request.scope))

    async def finished(
        self, request: Request, connection: SignInConnection, person_id: PersonId, page: str
    ) -> Response:
        """Opens the session, and sends the browser to the page that it came for."""
        services = self.services
        session = await open_session(
            services.database,
            services.settings,
            person_id=person_id,
            tenant_id=connection.tenant_id,
            method=connection.kind.value,
            address=client_address(request, services.settings),
            agent=request.headers.get("user-agent", ""),
            locked=True,
        )
        author = self.author(connection, request)
        await confirm_session(services.database, author, connection, person_id, session.session_id)
        response = RedirectResponse(page, HTTPStatus.SEE_OTHER, {"Cache-Control": "no-store"})
        response.delete_cookie(self._cookie, path="/", httponly=True, samesite="lax", secure=self._is_secure)
        put_refresh_token(response, services.settings, session.refresh_token, session.expires_at)
        return response


def no_such_way() -> NotFound:
    return NotFound("There is no such way to sign in.", code="no_such_connection")


def checked_next(page: str) -> str:
    """A page of ours.

    Raises:
        InvalidRequest: another address, or none that a sign-in leads to.
    """
    if len(page) > MAX_NEXT_LENGTH or not _NEXT.fullmatch(page):
        raise InvalidRequest(
            f"next must be a page such as / or /dashboards/…, of at most {MAX_NEXT_LENGTH} characters.",
            code="invalid_next",
            field="next",
        )
    return page


def parameters_of(request: Request, known: set[str]) -> dict[str, str]:
    """The query's parameters that are known here; each at most once (RFC 6749, 3.1).

    Raises:
        InvalidRequest: one of them is there twice, or the query is too long.
    """
    if len(request.scope["query_string"]) > MAX_QUERY_LENGTH:
        raise InvalidRequest(f"The query is longer than {MAX_QUERY_LENGTH} bytes.", code="query_too_long", status=414)
    found: dict[str, str] = {}
    for name, value in request.query_params.multi_items():
        if name in found:
            raise InvalidRequest(f"The parameter {name[:64]!r} is there twice.", code="bad_request", field=name[:64])
        if name in known:
            found[name] = value
    return found
