"""API keys: their text, how they are stored, and how a server signs a request. Pure; no I/O.

A bearer secret is random (256 bits), so one SHA-256 is a safe store for it; a signing secret must be known to
verify, so it is sealed with AES-256-GCM under the master key, bound to its key id.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
from dataclasses import dataclass
from datetime import datetime

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from core.errors import Misconfigured, Unauthenticated
from core.permissions import Scope
from core.tenancy import KeyId, KeyKind, Tenant

SECRET_PREFIX = "cm_sk_"
PUBLISHABLE_PREFIX = "cm_pk_"
SIGNATURE_WINDOW_SECONDS = 300
MAX_HEADER_LENGTH = 512
_BEARER = re.compile(r"cm_(?:sk|pk)_[A-Za-z0-9_-]{43}")
_KEY_ID = re.compile(r"key_[a-z0-9]{20}")
_NONCE_BYTES = 12


@dataclass(frozen=True, slots=True)
class ApiKey:
    """One key as the doors need it. `sealed` are the live signing secrets, sealed."""

    id: KeyId
    tenant: Tenant
    kind: KeyKind
    scopes: frozenset[Scope]
    origins: tuple[str, ...]
    is_unsigned: bool
    expires_at: datetime | None
    sealed: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class Signature:
    """A parsed `X-CM-Signature`: `t=<unix seconds>,v1=<hex>`, one or two `v1`."""

    timestamp: int
    digests: tuple[str, ...]


def new_key_id() -> KeyId:
    return KeyId("key_" + "".join(secrets.choice("abcdefghijkmnpqrstuvwxyz23456789") for _ in range(20)))


def new_secret(kind: KeyKind) -> str:
    prefix = SECRET_PREFIX if kind is KeyKind.SECRET else PUBLISHABLE_PREFIX
    return prefix + secrets.token_urlsafe(32)


def hash_secret(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()


def is_bearer(text: str) -> bool:
    """Whether text could be a bearer key at all; saves a look-up for what cannot."""
    return _BEARER.fullmatch(text) is not None


def is_key_id(text: str) -> bool:
    return _KEY_ID.fullmatch(text) is not None


def seal(secret: str, *, key_id: str, master_key: bytes) -> bytes:
    """AES-256-GCM, nonce first; the key id is authenticated with it."""
    nonce = os.urandom(_NONCE_BYTES)
    return nonce + AESGCM(master_key).encrypt(nonce, secret.encode(), key_id.encode())


def unseal(sealed: bytes, *, key_id: str, master_key: bytes) -> str:
    """The secret again.

    Raises:
        Misconfigured: another master key sealed it.
    """
    try:
        return AESGCM(master_key).decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], key_id.encode()).decode()
    except InvalidTag:
        raise Misconfigured("a signing secret was sealed with another CLOUDMETRICS_MASTER_KEY") from None


def visitor_key(master_key: bytes, tenant_id: object) -> bytes:
    """The key under which a tenant's visitors are hashed; differs for each tenant."""
    return hmac.digest(master_key, b"visitors:" + str(tenant_id).encode(), "sha256")


def sign(secret: str, *, timestamp: int, method: str, path: str, body: bytes) -> str:
    """HMAC-SHA256 in hex of `{t}.{METHOD}.{path}.{sha256 hex of the body as sent}`."""
    text = f"{timestamp}.{method}.{path}.{hashlib.sha256(body).hexdigest()}"
    return hmac.digest(secret.encode(), text.encode(), "sha256").hex()


def parse_signature(header: str) -> Signature:
    """A signature header.

    Raises:
        Unauthenticated: not of the form, with the form in the message.
    """
    parts = [part.strip().partition("=") for part in header.split(",")] if len(header) <= MAX_HEADER_LENGTH else []
    stamps = [value for name, _, value in parts if name == "t"]
    digests = tuple(value for name, _, value in parts if name == "v1")
    is_well_formed = (
        len(stamps) == 1
        and re.fullmatch(r"[0-9]{1,12}", stamps[0]) is not None
        and 1 <= len(digests) <= 2
        and all(re.fullmatch(r"[0-9a-f]{64}", digest) for digest in digests)
    )
    if not is_well_formed:
        raise Unauthenticated(
            "X-CM-Signature must be t=<unix seconds>,v1=<64 lower-case hex digits>, with one or two v1.",
            code="malformed_signature",
        )
    return Signature(int(stamps[0]), digests)


def check_signature(
    signature: Signature, secrets_: tuple[str, ...], *, now: float, method: str, path: str, body: bytes
) -> None:
    """Compares in constant time against every live secret.

    Raises:
        Unauthenticated: outside the window, or made with another secret or over another request.
    """
    if abs(now - signature.timestamp) > SIGNATURE_WINDOW_SECONDS:
        raise Unauthenticated(
            f"The signature's t must be within {SIGNATURE_WINDOW_SECONDS} s of the server's clock, "
            f"which reads {int(now)}; sign again with the right time.",
            code="timestamp_out_of_window",
        )
    is_good = False
    for secret in secrets_:
        expected = sign(secret, timestamp=signature.timestamp, method=method, path=path, body=body)
        for digest in signature.digests:
            is_good |= hmac.compare_digest(expected, digest)
    if not is_good:
        raise Unauthenticated(
            "The signature does not match: sign {t}.{METHOD}.{path}.{sha256 hex of the body as sent} "
            "with this key's secret.",
            code="invalid_signature",
        )
