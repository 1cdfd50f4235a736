"""pysaml2, as far as we let it: makes requests, and has xmlsec1 verify what a provider signed with the
certificates that were pinned. Runs in worker processes alone; see `saml_worker.py`."""

from __future__ import annotations

import base64
import secrets
from functools import lru_cache
from typing import Any
from xml.sax.saxutils import escape, quoteattr

import msgspec
from saml2 import BINDING_HTTP_POST, BINDING_HTTP_REDIRECT
from saml2.client import Saml2Client
from saml2.config import SPConfig
from saml2.saml import NAMEID_FORMAT_UNSPECIFIED
from saml2.xmldsig import DIGEST_SHA256, SIG_RSA_SHA256

from web.auth.saml_response import Form, refuse

REQUEST_CACHE = 64


class ServiceProvider(msgspec.Struct, frozen=True):
    """Us, to the providers of one tenant."""

    entity_id: str
    acs_url: str
    xmlsec1: str


class IdentityProvider(msgspec.Struct, frozen=True):
    """One provider, as its connection pins it; `certificates` are DER in base64."""

    entity_id: str
    sso_url: str
    certificates: tuple[str, ...]
    requires_signed_response: bool


def request_to(provider: ServiceProvider, idp: IdentityProvider, relay_state: str) -> tuple[str, str]:
    """A new request's id, and where the browser is sent with it (Bindings, 3.4)."""
    request_id, how = _client(provider, idp).prepare_for_authenticate(
        entityid=idp.entity_id, relay_state=relay_state, binding=BINDING_HTTP_REDIRECT, sign=False,
        nameid_format=NAMEID_FORMAT_UNSPECIFIED, message_id=f"id-{secrets.token_hex(20)}",
    )  # fmt: skip
    return str(request_id), str(dict(how["headers"])["Location"])


def verify(provider: ServiceProvider, idp: IdentityProvider, document: bytes, form: Form, request_id: str) -> None:
    """Has the signatures of a response of good form verified, and its documents held against their schemas.

    Raises:
        InvalidRequest: 403 `saml_invalid_signature`: whatever the library does not like.
    """
    client = _client(provider, idp)
    try:
        parsed = client.parse_authn_request_response(
            base64.b64encode(document).decode(), BINDING_HTTP_POST, outstanding={request_id: "/"}
        )
        read = parsed.assertion.id if parsed is not None and parsed.assertion is not None else None
    except MemoryError:
        raise
    except Exception:  # The library raises some thirty kinds; none of them lets anybody in.
        refuse("saml_invalid_signature", "has no good signature of the provider's pinned certificates")
    # The library read the node that our checks read, and no other.
    if read != form.assertion_id or parsed.name_id is None or len(parsed.assertions) != 1:
        refuse("saml_invalid_signature", "was read in two ways")


@lru_cache(maxsize=REQUEST_CACHE)
def _client(provider: ServiceProvider, idp: IdentityProvider) -> Saml2Client:
    return Saml2Client(config=_config(provider, idp))


def _config(provider: ServiceProvider, idp: IdentityProvider) -> SPConfig:
    service: dict[str, Any] = {
        "endpoints": {"assertion_consumer_service": [(provider.acs_url, BINDING_HTTP_POST)]},
        "allow_unsolicited": False,
        "authn_requests_signed": False,
        "want_assertions_signed": True,
        "want_response_signed": idp.requires_signed_response,
        "want_assertions_or_response_signed": False,
        "only_use_keys_in_metadata": True,
        "name_id_policy_format": NAMEID_FORMAT_UNSPECIFIED,
    }
    config = {
        "entityid": provider.entity_id,
        "service": {"sp": service},
        "metadata": {"inline": [_pinned(idp)]},
        "xmlsec_binary": provider.xmlsec1,
        "signing_algorithm": SIG_RSA_SHA256,
        "digest_algorithm": DIGEST_SHA256,
        "accepted_time_diff": 60,
        "allow_unknown_attributes": True,
        "delete_tmpfiles": True,
    }
    return SPConfig().load(config)


def _pinned(idp: IdentityProvider) -> str:
    """Metadata of what was read from the provider's own and nothing else of it."""
    keys = "".join(
        '<md:KeyDescriptor use="signing"><ds:KeyInfo xmlns:ds="http://www.w3.org/2000/09/xmldsig#"><ds:X509Data>'
        f"<ds:X509Certificate>{escape(text)}</ds:X509Certificate></ds:X509Data></ds:KeyInfo></md:KeyDescriptor>"
        for text in idp.certificates
    )
    return (
        '<md:EntityDescriptor xmlns:md="urn:oasis:names:tc:SAML:2.0:metadata" '
        f"entityID={quoteattr(idp.entity_id)}>"
        '<md:IDPSSODescriptor protocolSupportEnumeration="urn:oasis:names:tc:SAML:2.0:protocol">'
        f'{keys}<md:SingleSignOnService Binding="{BINDING_HTTP_REDIRECT}" Location={quoteattr(idp.sso_url)}/>'
        "</md:IDPSSODescriptor></md:EntityDescriptor>"
    )
