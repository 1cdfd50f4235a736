"""What a SAML identity provider's metadata says, as far as we believe it: its name, where people are sent, and the
certificates that its answers are checked with. Pure; no I/O. (SAML 2.0 Metadata, 2.4)"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from core.errors import BadInput
from core.strict_xml import parse_strictly

MAX_METADATA_BYTES = 256 * 1024
MAX_CERTIFICATES = 10
LEAST_RSA_BITS = 2048
MD = "{urn:oasis:names:tc:SAML:2.0:metadata}"
DS = "{http://www.w3.org/2000/09/xmldsig#}"
REDIRECT = "urn:oasis:names:tc:SAML:2.0:bindings:HTTP-Redirect"
FIELD = "metadataXml"


@dataclass(frozen=True, slots=True)
class IdpMetadata:
    """`certificates` are DER in base64, each good for signatures today."""

    entity_id: str
    sso_url: str
    certificates: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate for people to compare."""

    fingerprint: str
    expires_at: datetime


def read_metadata(document: str, now: datetime) -> IdpMetadata:
    """Reads an `EntityDescriptor` with one `IDPSSODescriptor`.

    Raises:
        InvalidRequest: it is not strict XML; see `parse_strictly`.
        BadInput: something that is needed is missing or not fit; the message says what.
    """
    root = parse_strictly(
        document.encode("utf-8", "surrogatepass"),
        most_bytes=MAX_METADATA_BYTES,
        code="saml_invalid_metadata",
        may_have_comments=True,
    )
    if root.tag != f"{MD}EntityDescriptor":
        raise _unfit("must be one EntityDescriptor: the metadata of one identity provider, not of a federation")
    entity_id = root.get("entityID", "")
    if not entity_id or len(entity_id) > 1024 or not entity_id.isprintable() or entity_id != entity_id.strip():
        raise _unfit("needs an entityID of at most 1,024 characters")
    providers = root.findall(f"{MD}IDPSSODescriptor")
    if len(providers) != 1:
        raise _unfit("needs exactly one IDPSSODescriptor; is it the metadata of a service provider?")
    places = [
        place.get("Location", "")
        for place in providers[0].findall(f"{MD}SingleSignOnService")
        if place.get("Binding") == REDIRECT
    ]
    if not places:
        raise _unfit("needs a SingleSignOnService with the binding HTTP-Redirect")
    found = [
        "".join((text.text or "").split())
        for key in providers[0].findall(f"{MD}KeyDescriptor")
        if key.get("use", "signing") == "signing"
        for text in key.iter(f"{DS}X509Certificate")
    ]
    good = tuple(dict.fromkeys(text for text in found[:MAX_CERTIFICATES] if _is_good(text, now)))
    if not good:
        raise _unfit(
            f"has no certificate for signing that is valid today, with RSA of {LEAST_RSA_BITS} bits or an elliptic "
            "curve of 256, or more"
        )
    return IdpMetadata(entity_id, places[0], good)


def valid_certificates(certificates: Sequence[str], now: datetime) -> list[str]:
    """Those that have neither ended nor yet to begin."""
    return [text for text in certificates if _is_good(text, now)]


def described(certificate: str) -> Certificate:
    """The certificate's SHA-256 and end."""
    parsed = x509.load_der_x509_certificate(base64.b64decode(certificate))
    return Certificate(parsed.fingerprint(hashes.SHA256()).hex(":").upper(), parsed.not_valid_after_utc)


def _is_good(text: str, now: datetime) -> bool:
    try:
        parsed = x509.load_der_x509_certificate(base64.b64decode(text, validate=True))
        key = parsed.public_key()
    except (binascii.Error, ValueError, TypeError):
        return False
    is_strong = (isinstance(key, rsa.RSAPublicKey) and key.key_size >= LEAST_RSA_BITS) or (
        isinstance(key, ec.EllipticCurvePublicKey) and key.key_size >= 256
    )
    return is_strong and parsed.not_valid_before_utc <= now.astimezone(UTC) < parsed.not_valid_after_utc


def _unfit(what: str) -> BadInput:
    return BadInput(f"The identity provider's metadata {what}.", code="saml_invalid_metadata", field=FIELD)
