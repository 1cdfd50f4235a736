"""ID tokens of tenants' providers: whose they are, by checks of our own. Pure; no I/O.
(OpenID Connect Core 1.0, 3.1.3.7; RFC 8725)"""

from __future__ import annotations

import base64
import binascii
import hmac
import math
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, KeySet, RSAKey

from core.errors import PermissionDenied, Unauthenticated
from core.sign_in_rules import Preset, Vouched

ALGORITHMS = ["RS256", "ES256"]
MAX_TOKEN_LENGTH = 32 * 1024
MAX_HEADER_LENGTH = 4 * 1024
SKEW_SECONDS = 60
# A token is read moments after it was made.
MAX_AGE_SECONDS = 600
MAX_SUBJECT_LENGTH = 255
_DIRECTORY = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
# A key within the token, or the address of one, says nothing about who signed it.
_REFUSED_HEADERS = {"jwk", "jku", "x5u", "x5c", "crit", "b64", "zip", "enc"}


@dataclass(frozen=True, slots=True)
class Expected:
    """What the token must be about."""

    issuer: str
    client_id: str
    nonce: str
    preset: Preset
    allowed_domains: tuple[str, ...]


def kid_of(token: str) -> str | None:
    """The key that a token says signed it; None where it says none.

    Raises:
        Unauthenticated: it is no signed token that could be taken.
    """
    parts = token.split(".")
    if len(token) > MAX_TOKEN_LENGTH or len(parts) != 3 or len(parts[0]) > MAX_HEADER_LENGTH:
        raise _refused("is no signed token of at most 32 KiB")
    try:
        padded = parts[0] + "=" * (-len(parts[0]) % 4)
        header = msgspec.json.decode(base64.b64decode(padded, altchars=b"-_", validate=True), type=dict[str, Any])
    except (binascii.Error, ValueError, RecursionError):
        raise _refused("has no readable header") from None
    if header.get("alg") not in ALGORITHMS:
        raise _refused(f"is not signed by {' or '.join(ALGORITHMS)}")
    if _REFUSED_HEADERS & header.keys():
        raise _refused("has a header that is not taken")
    kid = header.get("kid")
    if kid is not None and (not isinstance(kid, str) or not 1 <= len(kid) <= 256):
        raise _refused("has a kid that is none")
    return kid


def read_id_token(token: str, keys: list[dict[str, Any]], expected: Expected, now: float | None = None) -> Vouched:
    """Whom the provider vouches for.

    Raises:
        Unauthenticated: the token is not good, or not for us, not now, or not for this sign-in.
        PermissionDenied: `domain_not_allowed`: the provider's own customer is another, or the e-mail not verified.
    """
    claims = _verified(token, _usable(keys, kid_of(token)))
    _check_claims(claims, expected, time.time() if now is None else now)
    match expected.preset:
        case Preset.GOOGLE_WORKSPACE:
            _check_google(claims, expected)
            subject = _text(claims, "sub")
        case Preset.ENTRA_OIDC:
            subject = f"{_entra_tenant(claims, expected)}/{_text(claims, 'oid')}"
        case _:
            subject = _text(claims, "sub")
    if claims.get("email_verified") is False:
        raise PermissionDenied("The provider has not verified your e-mail address.", code="domain_not_allowed")
    email = claims.get("email")
    return Vouched(
        issuer=expected.issuer,
        subject=subject,
        email=email if isinstance(email, str) else None,
        is_email_verified=_is_verified(claims, expected.preset),
        name=claims["name"] if isinstance(claims.get("name"), str) else "",
        attributes=_attributes(claims),
    )


def _usable(keys: list[dict[str, Any]], kid: str | None) -> KeySet:
    """The one key that the token may be signed by."""
    found = [key for key in keys if (kid is None or key.get("kid") == kid)]
    if len(found) != 1:
        raise _refused("is signed by a key that the provider does not publish")
    public = {name: value for name, value in found[0].items() if name in ("kty", "n", "e", "crv", "x", "y", "kid")}
    try:
        return KeySet([(RSAKey if public["kty"] == "RSA" else ECKey).import_key(public)])
    except (JoseError, ValueError, KeyError, TypeError):
        raise _refused("is signed by a key that cannot be used") from None


def _verified(token: str, keys: KeySet) -> Mapping[str, Any]:
    try:
        claims = jwt.decode(token, keys, algorithms=ALGORITHMS).claims
    except (JoseError, ValueError, TypeError, RecursionError):
        raise _refused("has no good signature") from None
    if not isinstance(claims, dict):
        raise _refused("has no claims")
    return claims


def _check_claims(claims: Mapping[str, Any], expected: Expected, now: float) -> None:
    if claims.get("iss") != expected.issuer:
        raise _refused("is of another issuer")
    audience = claims.get("aud")
    audiences = [audience] if isinstance(audience, str) else audience
    if not isinstance(audiences, list) or expected.client_id not in audiences:
        raise _refused("is for another client")
    party = claims.get("azp")
    if (len(audiences) > 1 and party is None) or (party is not None and party != expected.client_id):
        raise _refused("was asked for by another client")
    ends, made = _time(claims, "exp"), _time(claims, "iat")
    if ends <= now - SKEW_SECONDS:
        raise Unauthenticated("The provider's ID token has expired; sign in again.", code="token_expired")
    if made > now + SKEW_SECONDS or made < now - MAX_AGE_SECONDS - SKEW_SECONDS:
        raise _refused("was not made just now")
    if "nbf" in claims and _time(claims, "nbf") > now + SKEW_SECONDS:
        raise _refused("is not good yet")
    nonce = claims.get("nonce")
    if not isinstance(nonce, str) or not nonce.isascii():
        raise _refused("is not of this sign-in")
    if not hmac.compare_digest(nonce.encode(), expected.nonce.encode()):
        raise _refused("is not of this sign-in")


def _check_google(claims: Mapping[str, Any], expected: Expected) -> None:
    """`hd` is the Workspace that the account is of; without it anybody at Google could come."""
    if claims.get("hd") not in expected.allowed_domains or claims.get("email_verified") is not True:
        raise PermissionDenied(
            "This tenant takes only accounts of its own Google Workspace; sign in with your work account.",
            code="domain_not_allowed",
        )


def _entra_tenant(claims: Mapping[str, Any], expected: Expected) -> str:
    """The directory, which the issuer names too: nobody of another one comes in by an issuer that serves them all."""
    directory = _text(claims, "tid")
    if not _DIRECTORY.fullmatch(directory) or f"/{directory}/" not in expected.issuer:
        raise _refused("is of another directory")
    return directory


def _is_verified(claims: Mapping[str, Any], preset: Preset) -> bool:
    """Entra says by `xms_edov` whether the e-mail's domain is the directory's own: any user may choose an e-mail."""
    if preset is Preset.ENTRA_OIDC:
        return claims.get("xms_edov") in (True, "1", "true")
    return claims.get("email_verified") is True


def _attributes(claims: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """Claims that are texts, or lists of them, for the tenant's rules."""
    found: dict[str, tuple[str, ...]] = {}
    for name, value in claims.items():
        values = value if isinstance(value, list) else [value]
        texts = tuple(text for text in values if isinstance(text, str))
        if texts:
            found[name] = texts
    return found


def _text(claims: Mapping[str, Any], name: str) -> str:
    value = claims.get(name)
    if not isinstance(value, str) or not 1 <= len(value) <= MAX_SUBJECT_LENGTH or not value.isprintable():
        raise _refused(f"has no usable {name}")
    return value


def _time(claims: Mapping[str, Any], name: str) -> float:
    value = claims.get(name)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise _refused(f"has no {name}")
    try:
        seconds = float(value)
    except OverflowError:
        seconds = math.inf
    # JSON of Python's kind has NaN, which is neither before nor after any time.
    if not math.isfinite(seconds):
        raise _refused(f"has no usable {name}")
    return seconds


def _refused(what: str) -> Unauthenticated:
    return Unauthenticated(f"The provider's ID token {what}.", code="invalid_id_token")
