"""The form of a signature within SAML: enveloped, over the element that it stands in and nothing else, by algorithms
that hold. Whether it is good is for xmlsec1 to say. Pure; no I/O. (SAML 2.0 Core, 5.4; XML Signature 1.1)"""

from __future__ import annotations

from typing import NoReturn
from xml.etree.ElementTree import Element

from core.errors import InvalidRequest
from core.idp_metadata import DS

EXCLUSIVE = "http://www.w3.org/2001/10/xml-exc-c14n#"
ENVELOPED = "http://www.w3.org/2000/09/xmldsig#enveloped-signature"
_MORE = "http://www.w3.org/2001/04/xmldsig-more#"
METHODS = {f"{_MORE}{kind}-sha{bits}" for kind in ("rsa", "ecdsa") for bits in (256, 384, 512)}
DIGESTS = {"http://www.w3.org/2001/04/xmlenc#sha256", "http://www.w3.org/2001/04/xmlenc#sha512", f"{_MORE}sha384"}
SAML_ISSUER = "{urn:oasis:names:tc:SAML:2.0:assertion}Issuer"
_PARTS = ([f"{DS}SignedInfo", f"{DS}SignatureValue"], [f"{DS}SignedInfo", f"{DS}SignatureValue", f"{DS}KeyInfo"])


def check_signed_form(element: Element) -> None:
    """Refuses a signature of another form than every provider's.

    Raises:
        InvalidRequest: 403 `saml_invalid_signature`.
    """
    signature = element.find(f"{DS}Signature")
    assert signature is not None
    children = list(element)
    # Where the schemas have it: behind the issuer. An Id of its own is like no other of the document: strict_xml.py.
    if children.index(signature) > 1 or (children.index(signature) == 1 and children[0].tag != SAML_ISSUER):
        _refuse("stands in another place than behind the issuer")
    if [child.tag for child in signature] not in _PARTS:
        _refuse("has parts that no provider sends")
    info = signature[0]
    tags = [child.tag for child in info]
    if tags != [f"{DS}CanonicalizationMethod", f"{DS}SignatureMethod", f"{DS}Reference"]:
        _refuse("must be over exactly one reference")
    canonical, method, reference = info
    if canonical.get("Algorithm") != EXCLUSIVE:
        _refuse("must be canonical by exclusive C14N without comments")
    if method.get("Algorithm") not in METHODS or len(method):
        _refuse("must be of RSA or ECDSA with SHA-256 or more")
    if not element.get("ID") or reference.get("URI") != f"#{element.get('ID')}":
        _refuse("is over another element than the one that it stands in")
    _check_reference(reference)


def _check_reference(reference: Element) -> None:
    if [child.tag for child in reference] != [f"{DS}Transforms", f"{DS}DigestMethod", f"{DS}DigestValue"]:
        _refuse("has a reference of another form")
    transforms, digest, _ = reference
    if [transform.get("Algorithm") for transform in transforms] != [ENVELOPED, EXCLUSIVE]:
        _refuse("must have the transforms enveloped-signature and exclusive C14N")
    if any(part.tag != f"{{{EXCLUSIVE}}}InclusiveNamespaces" for transform in transforms for part in transform):
        _refuse("has a transform with parts that are not taken")
    if digest.get("Algorithm") not in DIGESTS or len(digest):
        _refuse("must have a digest of SHA-256 or more")


def _refuse(what: str) -> NoReturn:
    raise InvalidRequest(
        f"A signature of the identity provider's SAML response {what}.", code="saml_invalid_signature", status=403
    )
