"""Sign-in by a tenant's OpenID provider: `/auth/oauth/{connection}/start`, and `/callback` when the browser is back."""

from __future__ import annotations

import hmac
import re
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response

from core.errors import InvalidRequest, PermissionDenied, Unauthenticated
from core.identities import recognise
from core.oidc_discovery import Provider, ProviderDirectory
from core.sign_in_attempts import Attempt, Purpose, derived, hashed, new_secret, take_attempt
from core.sign_in_connections import SignInConnection
from core.sign_in_rules import ConnectionKind
from web.auth.id_tokens import Expected, kid_of, read_id_token
from web.auth.oidc_client import OidcClient
from web.auth.provider_sign_in import ProviderSignIn, checked_next, parameters_of

STATE = re.compile(r"[A-Za-z0-9_-]{43}")
MAX_CODE_LENGTH = 4096
_ERROR = re.compile(r"[a-z_]{1,64}")


class OidcDoor:
    """One an application."""

    def __init__(self, sign_in: ProviderSignIn) -> None:
        self._sign_in = sign_in
        self._settings = sign_in.services.settings
        self._directory = ProviderDirectory(self._settings.identity_providers)

    async def start(self, request: Request) -> Response:
        """Sends the browser to the provider."""
        await self._sign_in.take(request)
        parameters = parameters_of(request, {"next"})
        next_page = checked_next(parameters.get("next", "/"))
        connection = await self._sign_in.connection(request.path_params["connection"], ConnectionKind.OIDC)
        go_on = f"/auth/oauth/{connection.id}/start?next={quote(next_page, safe='')}"
        if page := await self._sign_in.question(request, connection, go_on):
            return page
        provider = await self._directory.provider(connection.oidc().issuer)
        state, browser = new_secret(), self._sign_in.browser_of(request) or new_secret()
        nonce, verifier = self._derived(state)
        client = self._client(connection, provider)
        url = await client.authorization_url(state=state, nonce=nonce, verifier=verifier)
        attempt = Attempt(connection.id, hashed(browser), next_page, None)
        await self._sign_in.begin(connection.tenant_id, Purpose.OIDC, state, attempt)
        return self._sign_in.sent_to(url, browser)

    async def callback(self, request: Request) -> Response:
        """What the provider sent the browser back with."""
        await self._sign_in.take(request)
        parameters = parameters_of(request, {"state", "code", "iss", "error", "error_description", "error_uri",
                                             "session_state", "scope", "authuser", "hd", "prompt"})  # fmt: skip
        connection = await self._sign_in.connection(request.path_params["connection"], ConnectionKind.OIDC)
        state = parameters.get("state", "")
        attempt = await self._attempt(request, connection, state)
        provider = await self._directory.provider(connection.oidc().issuer)
        code = _code(parameters, provider)
        nonce, verifier = self._derived(state)
        token = await self._client(connection, provider).id_token(code=code, verifier=verifier)
        keys = await self._directory.keys(provider, kid=kid_of(token))
        expected = Expected(
            provider.issuer, connection.oidc().client_id, nonce, connection.preset, connection.allowed_domains
        )
        vouched = read_id_token(token, keys, expected)
        author = self._sign_in.author(connection, request)
        async with self._sign_in.services.database.as_tenant(connection.tenant_id, is_write=True) as session:
            person_id = await recognise(session, author, connection, vouched)
        return await self._sign_in.finished(request, connection, person_id, attempt.next)

    async def _attempt(self, request: Request, connection: SignInConnection, state: str) -> Attempt:
        """What was awaited from this browser under this state: once, and of this connection alone."""
        browser = self._sign_in.browser_of(request)
        if STATE.fullmatch(state) and browser:
            async with self._sign_in.services.database.as_tenant(connection.tenant_id, is_write=True) as session:
                attempt = await take_attempt(session, Purpose.OIDC, state)
            if attempt and attempt.is_of(browser) and attempt.connection_id == connection.id:
                return attempt
        raise InvalidRequest(
            "This sign-in was not begun in this browser within the last ten minutes, or was ended already; "
            "begin again from the sign-in page.",
            code="invalid_state",
            field="state",
        )

    def _derived(self, state: str) -> tuple[str, str]:
        key = self._settings.master_key_bytes()
        return derived("nonce", state, key), derived("verifier", state, key)

    def _client(self, connection: SignInConnection, provider: Provider) -> OidcClient:
        return OidcClient(
            connection,
            provider,
            secret=connection.secret(self._settings.master_key_bytes()),
            redirect_uri=self._sign_in.redirect_uri(connection.id),
            reach=self._settings.identity_providers,
        )


def _code(parameters: dict[str, str], provider: Provider) -> str:
    """The code; refused where the answer is of another provider (RFC 9207, 2.4)."""
    issuer = parameters.get("iss")
    is_due = provider.authorization_response_iss_parameter_supported
    if (issuer is None and is_due) or (issuer is not None and not hmac.compare_digest(
            issuer.encode(), provider.issuer.encode())):  # fmt: skip
        raise Unauthenticated("The answer came from another provider than was asked.", code="issuer_mismatch")
    if "error" in parameters:
        error = parameters["error"] if _ERROR.fullmatch(parameters["error"]) else "an error"
        raise PermissionDenied(f"The identity provider answered {error}.", code="sign_in_refused")
    code = parameters.get("code", "")
    if not 1 <= len(code) <= MAX_CODE_LENGTH or not code.isprintable():
        raise InvalidRequest("The provider sent no code.", code="bad_request", field="code")
    return code
