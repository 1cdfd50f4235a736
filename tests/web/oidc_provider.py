"""An OpenID provider on this machine, as honest as it is told to be: `python tests/web/oidc_provider.py PORT`.

It checks what a provider must (redirect address, client, PKCE by S256, each code once), and signs in whoever it was
last told to, with the claims that it was told to put in or leave out.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import secrets
import sys
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

import uvicorn
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from joserfc import jwt
from joserfc.jwk import ECKey, KeySet, RSAKey
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

CLIENT_ID, CLIENT_SECRET = "our-client", "our secret: of 24 %+&"


class Provider:
    """Its whole state."""

    def __init__(self, base: str) -> None:
        self.base = base
        self.keys = [RSAKey.generate_key(2048, {"kid": "first", "use": "sig"})]
        self.keys_at_first = self.keys.copy()
        self.codes: dict[str, dict[str, str]] = {}
        self.told: dict[str, Any] = {}
        self.seen: list[dict[str, str]] = []

    async def discovery(self, request: Request) -> Response:
        document = {
            "issuer": self.base,
            "authorization_endpoint": f"{self.base}/authorize",
            "token_endpoint": f"{self.base}/token",
            "jwks_uri": f"{self.base}/jwks",
            "token_endpoint_auth_methods_supported": ["client_secret_basic"],
            "code_challenge_methods_supported": ["S256"],
            "authorization_response_iss_parameter_supported": True,
        }
        return JSONResponse({**document, **self.told.get("discovery", {})})

    async def jwks(self, request: Request) -> Response:
        match self.told.get("jwks"):
            case "slow":
                await asyncio.sleep(10)
            case "broken":
                return Response("oh", 500)
            case "huge":
                return Response(b"[" + b" " * 5_000_000)
            case "redirect":
                return RedirectResponse("http://127.0.0.1:1/jwks")
        keys = KeySet([*self.keys]).as_dict(private=False)["keys"]
        return JSONResponse({"keys": [*keys, *self.told.get("more_keys", [])]})

    async def authorize(self, request: Request) -> Response:
        asked = dict(request.query_params)
        self.seen.append(asked)
        is_good = (
            asked.get("client_id") == CLIENT_ID
            and asked.get("response_type") == "code"
            and asked.get("code_challenge_method") == "S256"
            and len(asked.get("code_challenge", "")) == 43
            and asked.get("redirect_uri") == self.told.get("redirect_uri", asked.get("redirect_uri"))
        )
        if not is_good:
            return JSONResponse({"error": "invalid_request"}, 400)
        code = secrets.token_urlsafe(16)
        self.codes[code] = asked
        answer = {"code": code, "state": asked["state"], "iss": self.base, **self.told.get("answer", {})}
        return RedirectResponse(f"{asked['redirect_uri']}?{urlencode(answer)}", 303)

    async def token(self, request: Request) -> Response:
        form = {name: str(value) for name, value in (await request.form()).items()}
        scheme, _, text = request.headers.get("authorization", "").partition(" ")
        credentials = base64.b64decode(text).decode() if scheme == "Basic" else ""
        asked = self.codes.pop(form.get("code", ""), None)
        digest = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
        is_good = (
            asked is not None
            and credentials == f"{CLIENT_ID}:{CLIENT_SECRET}"
            and form.get("redirect_uri") == asked["redirect_uri"]
            and base64.urlsafe_b64encode(digest).decode().rstrip("=") == asked["code_challenge"]
        )
        if asked is None or not is_good:
            return JSONResponse({"error": "invalid_grant"}, 400)
        if self.told.get("rotates"):
            self.keys = [RSAKey.generate_key(2048, {"kid": secrets.token_hex(4), "use": "sig"})]
        return JSONResponse({"access_token": "unused", "token_type": "Bearer", "id_token": self._id_token(asked)})

    def _id_token(self, asked: dict[str, str]) -> str:
        now = int(time.time())
        claims: dict[str, Any] = {
            "iss": self.base, "aud": CLIENT_ID, "sub": "248289761001", "iat": now, "exp": now + 300,
            "nonce": asked["nonce"], "email": "ada@example.com", "email_verified": True, "name": "Ada",
        }  # fmt: skip
        claims |= {name: now + value["now"] if isinstance(value, dict) and "now" in value else value
                   for name, value in self.told.get("claims", {}).items()}  # fmt: skip
        claims = {name: value for name, value in claims.items() if value is not None}
        header = {"alg": "RS256", "kid": self.keys[0].kid, **self.told.get("header", {})}
        header = {name: value for name, value in header.items() if value is not None}
        match self.told.get("signed"):
            case "by another key":
                return jwt.encode(header, claims, RSAKey.generate_key(2048))
            case "not at all":
                return by_hand({**header, "alg": "none"}, claims, lambda _: b"")
            case "with the public key":
                secret = self.keys[0].as_pem(private=False)
                return by_hand({**header, "alg": "HS256"}, claims, lambda text: hmac.digest(secret, text, "sha256"))
            case "by a curve":
                key = ECKey.generate_key("P-256", {"kid": "curve", "use": "sig"})
                self.keys.append(key)  # type: ignore[arg-type]
                return jwt.encode({**header, "alg": "ES256", "kid": "curve"}, claims, key)
        own = self.keys[0].get_op_key("sign")
        digest = hashes.SHA384() if header["alg"] == "RS384" else hashes.SHA256()
        return by_hand(header, claims, lambda text: own.sign(text, padding.PKCS1v15(), digest))

    async def control(self, request: Request) -> Response:
        self.told = await request.json()
        if not self.told:
            # The key that others still have: no test waits until another test's key is asked for.
            self.keys = self.keys_at_first.copy()
        return JSONResponse({"seen": self.seen})


def by_hand(header: dict[str, Any], claims: dict[str, Any], sign: Callable[[bytes], bytes]) -> str:
    """A token with whatever header: no library signs what it would itself refuse."""
    head, body = (base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in (header, claims))
    text = head + b"." + body
    return (text + b"." + base64.urlsafe_b64encode(sign(text)).rstrip(b"=")).decode()


def main() -> None:
    port = int(sys.argv[1])
    provider = Provider(f"http://127.0.0.1:{port}")
    app = Starlette(
        routes=[
            Route("/.well-known/openid-configuration", provider.discovery),
            Route("/jwks", provider.jwks),
            Route("/authorize", provider.authorize),
            Route("/token", provider.token, methods=["POST"]),
            Route("/control", provider.control, methods=["POST"]),
        ]
    )
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning")


if __name__ == "__main__":
    main()
