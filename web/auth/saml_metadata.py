"""Us, to the SAML providers of a tenant: what their administrators upload. Pure; no I/O. (SAML 2.0 Metadata, 2.4.4)

By hand and not by the library, which would name every algorithm that xmlsec1 knows, SHA-1 and MD5 among them.
"""

from __future__ import annotations

from xml.sax.saxutils import quoteattr

MEDIA_TYPE = "application/samlmetadata+xml"
_POST = "urn:oasis:names:tc:SAML:2.0:bindings:HTTP-POST"
_PROTOCOL = "urn:oasis:names:tc:SAML:2.0:protocol"


def metadata_of(entity_id: str, acs_url: str) -> str:
    """An `EntityDescriptor`: assertions are wanted signed, by POST; requests are not signed, so it has no key."""
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f'<md:EntityDescriptor xmlns:md="urn:oasis:names:tc:SAML:2.0:metadata" entityID={quoteattr(entity_id)}>\n'
        f'  <md:SPSSODescriptor AuthnRequestsSigned="false" WantAssertionsSigned="true" '
        f'protocolSupportEnumeration="{_PROTOCOL}">\n'
        "    <md:NameIDFormat>urn:oasis:names:tc:SAML:2.0:nameid-format:persistent</md:NameIDFormat>\n"
        f'    <md:AssertionConsumerService Binding="{_POST}" Location={quoteattr(acs_url)} index="0" '
        'isDefault="true"/>\n'
        "  </md:SPSSODescriptor>\n"
        "</md:EntityDescriptor>\n"
    )
