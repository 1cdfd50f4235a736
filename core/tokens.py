"""Access tokens: JSON Web Tokens of the profile of RFC 9068, signed with RS256. Pure; no I/O.

A token says who asks (`sub`), in which one tenant (`tid`) and by which session (`sid`), and nothing of what that person
may do: the role is looked up.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal
from uuid import UUID, uuid4

import msgspec
from joserfc import jwt
from joserfc.errors import ExpiredTokenError, JoseError
from joserfc.jwk import RSAKey
from joserfc.util import urlsafe_b64decode

from core.errors import Unauthenticated
from core.tenancy import PersonId, SessionId, TenantId

ACCESS_SECONDS = 600
LEEWAY_SECONDS = 60
MAX_TOKEN_BYTES = 8 * 1024
TYPE = "at+jwt"
CLIENT = "cloudmetrics"
ALGORITHM = "RS256"
KEY_BITS = 2048
_FORM = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")


class _Header(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All that the header of a token of ours has: no key, no address of one, nothing critical (RFC 7515, 4.1)."""

    alg: Literal["RS256"]
    typ: Literal["at+jwt"]
    kid: str


class _Claims(msgspec.Struct, frozen=True):
    sub: UUID
    sid: UUID
    tid: UUID
    iat: int
    exp: int
    jti: str


@dataclass(frozen=True, slots=True)
class AccessToken:
    """What a good token says. Times are seconds since the epoch."""

    person_id: PersonId
    session_id: SessionId
    tenant_id: TenantId
    issued_at: int
    expires_at: int


def audience_of(issuer: str) -> str:
    return f"{issuer}/graphql"


def new_key() -> RSAKey:
    """A new private key; its `kid` is its thumbprint (RFC 7638). Takes a moment of a core."""
    key = RSAKey.generate_key(KEY_BITS)
    return RSAKey.import_key({**key.as_dict(private=True), "kid": key.thumbprint(), "use": "sig", "alg": ALGORITHM})


def issue(
    key: RSAKey, *, issuer: str, person_id: PersonId, session_id: SessionId, tenant_id: TenantId, now: int
) -> str:
    """A token that is good for `ACCESS_SECONDS` from `now`."""
    claims: dict[str, Any] = {
        "iss": issuer,
        "aud": audience_of(issuer),
        "client_id": CLIENT,
        "sub": str(person_id),
        "sid": str(session_id),
        "tid": str(tenant_id),
        "iat": now,
        "exp": now + ACCESS_SECONDS,
        "jti": uuid4().hex,
    }
    return jwt.encode({"alg": ALGORITHM, "typ": TYPE, "kid": key.kid}, claims, key, algorithms=[ALGORITHM])


def looks_like_token(text: str) -> bool:
    """Whether it has the three parts of a signed token; what else a bearer may send has other forms."""
    return len(text) > MAX_TOKEN_BYTES or _FORM.fullmatch(text) is not None


def kid_of(text: str) -> str:
    """Which key a token says it was signed with: a name to look for among ours, and nothing else.

    Raises:
        Unauthenticated: too long, of another form, type or algorithm, or with anything else in its header.
    """
    if len(text) > MAX_TOKEN_BYTES or not _FORM.fullmatch(text):
        raise invalid()
    try:
        return msgspec.json.decode(urlsafe_b64decode(text.partition(".")[0].encode()), type=_Header).kid
    except (ValueError, msgspec.MsgspecError):
        raise invalid() from None


def verified(text: str, key: RSAKey, *, issuer: str, now: int) -> AccessToken:
    """What a token says, once its signature and every claim were checked. `kid_of` comes first.

    Raises:
        Unauthenticated: `token_expired`, or `invalid_token` for all else.
    """
    registry = jwt.JWTClaimsRegistry(
        now=now,
        leeway=LEEWAY_SECONDS,
        iss={"essential": True, "value": issuer},
        aud={"essential": True, "value": audience_of(issuer)},
        exp={"essential": True},
        iat={"essential": True},
    )
    try:
        claims = jwt.decode(text, key, algorithms=[ALGORITHM]).claims
        registry.validate(claims)
        checked = msgspec.convert(claims, _Claims, strict=True)
    except ExpiredTokenError:
        raise Unauthenticated("The access token has expired; refresh it.", code="token_expired") from None
    except (JoseError, ValueError, TypeError, RecursionError):
        raise invalid() from None
    if checked.exp - checked.iat > ACCESS_SECONDS:
        raise invalid()
    return AccessToken(PersonId(checked.sub), SessionId(checked.sid), TenantId(checked.tid), checked.iat, checked.exp)


def invalid() -> Unauthenticated:
    """One answer for every token that is not ours, or not as we made it."""
    return Unauthenticated("The access token is not a good one; sign in again.", code="invalid_token")
