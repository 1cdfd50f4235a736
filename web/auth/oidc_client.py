"""The client side of OAuth 2.0 for one sign-in: where the browser is sent, and what its code is changed into.
(RFC 6749, 7636, 9207; OpenID Connect Core 1.0, 3.1)"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx2
from authlib.integrations.base_client import OAuthError
from authlib.integrations.httpx_client import AsyncOAuth2Client

from core.errors import CloudMetricsError, Unauthenticated, Unavailable
from core.oidc_discovery import Provider
from core.outbound import FETCH_SECONDS, GuardedTransport
from core.sign_in_connections import SignInConnection
from core.sign_in_rules import Preset

SCOPE = "openid email profile"
AUTH_METHODS = ("client_secret_basic", "client_secret_post")


class OidcClient:
    """Us, to the provider of one connection."""

    def __init__(self, connection: SignInConnection, provider: Provider, *, secret: str, redirect_uri: str,
                 reach: str) -> None:  # fmt: skip
        self._connection = connection
        self._provider = provider
        self._secret = secret
        self._redirect_uri = redirect_uri
        self._reach = reach

    async def authorization_url(self, *, state: str, nonce: str, verifier: str) -> str:
        """Where the browser is sent."""
        extra = {"nonce": nonce, "response_mode": "query"}
        if self._connection.preset is Preset.GOOGLE_WORKSPACE:
            # Only a wish: whose account it was is checked in the token.
            domains = self._connection.allowed_domains
            extra["hd"] = domains[0] if len(domains) == 1 else "*"
        async with self._client() as client:
            url, _ = client.create_authorization_url(
                self._provider.authorization_endpoint, state=state, code_verifier=verifier, **extra
            )
        return str(url)

    async def id_token(self, *, code: str, verifier: str) -> str:
        """The ID token that a code is changed into.

        Raises:
            Unauthenticated: the provider does not take the code: used before, another client's, another verifier.
            Unavailable: it does not answer in time, or not as it should.
        """
        try:
            async with asyncio.timeout(FETCH_SECONDS), self._client() as client:
                answer = await client.fetch_token(
                    self._provider.token_endpoint, grant_type="authorization_code", code=code, code_verifier=verifier,
                    redirect_uri=self._redirect_uri,
                )  # fmt: skip
        except OAuthError:
            raise Unauthenticated(
                "The provider did not take the code; sign in again. If it goes on, an administrator compares client id "
                "and secret with the provider's.",
                code="invalid_grant",
            ) from None
        except CloudMetricsError:
            raise
        except (TimeoutError, OSError, ValueError, httpx2.HTTPError):
            raise Unavailable(
                f"The identity provider did not answer properly within {FETCH_SECONDS:g} s.",
                code="provider_unavailable", retry_after=5.0,
            ) from None  # fmt: skip
        token = answer.get("id_token")
        if not isinstance(token, str):
            raise Unauthenticated("The provider sent no ID token; is it an OpenID provider?", code="invalid_id_token")
        return token

    @asynccontextmanager
    async def _client(self) -> AsyncIterator[AsyncOAuth2Client]:
        offered = self._provider.token_endpoint_auth_methods_supported
        method = next((method for method in AUTH_METHODS if method in offered), AUTH_METHODS[0])
        client = AsyncOAuth2Client(
            client_id=self._connection.oidc().client_id,
            client_secret=self._secret,
            token_endpoint_auth_method=method,
            scope=SCOPE,
            redirect_uri=self._redirect_uri,
            code_challenge_method="S256",
            transport=GuardedTransport(self._reach),
            follow_redirects=False,
            trust_env=False,
        )
        try:
            yield client
        finally:
            await client.aclose()
