"""`/auth/login`, `/auth/refresh`, `/auth/logout` and the published keys."""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from core.errors import Unauthenticated
from core.people import Membership
from core.sessions import Origin, close_session
from core.sign_in import SignedIn
from core.signing_keys import PUBLISHED_SECONDS
from web.auth.cookies import dropped, put_refresh_token, refresh_token_of
from web.auth.requests import NO_STORE, asked, is_browser, origin_of, refuse_other_sites
from web.auth.strangers import admit_holder
from web.services import Services


class _Login(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    email: str
    password: str
    tenant: str | None = None


class _Token(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    refresh_token: str = ""


class SignInDoor:
    """The endpoints; one an application."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def login(self, request: Request) -> Response:
        """A session for an e-mail and a password."""
        services = self._services
        refuse_other_sites(request, services.settings)
        origin = origin_of(request, services.settings)
        allowance = await services.attempts.from_address(origin.address)
        request.state.headers |= allowance.headers()
        given = await asked(request, _Login)
        signed_in = await services.sign_in.by_password(given.email, given.password, given.tenant, origin)
        return self.answer(signed_in, in_cookie=is_browser(request))

    async def refresh(self, request: Request) -> Response:
        """New tokens for a refresh token of the body, else of the cookie; its successor goes where it came from."""
        services = self._services
        origin = await self._admitted(request)
        given = await asked(request, _Token) if _has_body(request) else _Token()
        cookie = "" if given.refresh_token else refresh_token_of(request, services.settings)
        try:
            signed_in = await services.sign_in.refreshed(given.refresh_token or cookie, origin)
        except Unauthenticated:
            if cookie:
                request.state.headers["Set-Cookie"] = dropped(services.settings)
            raise
        return self.answer(signed_in, in_cookie=bool(cookie))

    async def logout(self, request: Request) -> Response:
        """Ends the session of a refresh token; 204 whether there was one or not."""
        services = self._services
        origin = await self._admitted(request)
        given = await asked(request, _Token) if _has_body(request) else _Token()
        token = given.refresh_token or refresh_token_of(request, services.settings)
        await close_session(services.database, token, origin)
        return Response(status_code=204, headers={**NO_STORE, "Set-Cookie": dropped(services.settings)})

    async def published_keys(self, request: Request) -> Response:
        """The JSON Web Key Set (RFC 7517, 5) that access tokens are verified with."""
        keys = await self._services.sessions.published()
        # The first sign-in makes the first key: nobody is to remember that there was none.
        kept = f"public, max-age={PUBLISHED_SECONDS}" if keys else "no-store"
        return JSONResponse({"keys": keys}, headers={"Cache-Control": kept})

    async def _admitted(self, request: Request) -> Origin:
        """Where a request with a refresh token comes from, once it is counted. Raises PermissionDenied, TooMany."""
        refuse_other_sites(request, self._services.settings)
        origin = origin_of(request, self._services.settings)
        request.state.headers |= (await admit_holder(self._services.limiter, origin.address)).headers()
        return origin

    def answer(self, signed_in: SignedIn, *, in_cookie: bool) -> Response:
        """The tokens of a session: the refresh token in a cookie, or else in the body."""
        session = signed_in.session
        body: dict[str, Any] = {
            "access_token": session.access_token,
            "token_type": "Bearer",
            "expires_in": session.expires_in,
            "tenant": _shown(signed_in.membership),
            "tenants": [_shown(membership) for membership in signed_in.memberships],
        }
        if not in_cookie:
            return JSONResponse({**body, "refresh_token": session.refresh_token}, headers=NO_STORE)
        response = JSONResponse(body, headers=NO_STORE)
        put_refresh_token(response, self._services.settings, session.refresh_token, session.expires_at)
        return response


def _has_body(request: Request) -> bool:
    return request.headers.get("content-length", "0") != "0" or "transfer-encoding" in request.headers


def _shown(membership: Membership) -> dict[str, str]:
    return {"slug": membership.tenant.slug, "name": membership.tenant.name, "role": membership.role.value}
