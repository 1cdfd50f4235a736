"""SAML documents as a provider could make them, and as no provider would: any part may be another, and what is signed
is signed by xmlsec1 itself."""

from __future__ import annotations

import base64
import subprocess
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

ASSERTION = "urn:oasis:names:tc:SAML:2.0:assertion"
PROTOCOL = "urn:oasis:names:tc:SAML:2.0:protocol"
RSA_SHA256 = "http://www.w3.org/2001/04/xmldsig-more#rsa-sha256"
SHA256 = "http://www.w3.org/2001/04/xmlenc#sha256"
EXCLUSIVE = "http://www.w3.org/2001/10/xml-exc-c14n#"
ENVELOPED = "http://www.w3.org/2000/09/xmldsig#enveloped-signature"


def moment(seconds: float = 0) -> str:
    return (datetime.now(UTC) + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass(frozen=True, slots=True)
class Signer:
    """A key and its certificate, in a folder."""

    folder: Path
    xmlsec1: str

    @property
    def key(self) -> Path:
        return self.folder / "key.pem"

    @property
    def certificate(self) -> str:
        """DER in base64."""
        text = (self.folder / "cert.pem").read_text()
        return "".join(text.splitlines()[1:-1])

    def signed(self, document: str, element: str, id: str) -> str:
        """The document with the empty signature of one element filled in."""
        with tempfile.NamedTemporaryFile("w", suffix=".xml", encoding="utf-8") as file:
            file.write(document)
            file.flush()
            done = subprocess.run(
                [self.xmlsec1, "--sign", "--privkey-pem", f"{self.key},{self.folder / 'cert.pem'}", "--id-attr:ID",
                 element, "--node-id", id, file.name],
                capture_output=True, text=True, check=False, timeout=30,
            )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout.removeprefix('<?xml version="1.0"?>\n').removeprefix("<?xml version='1.0'?>\n")

    def metadata(self, entity_id: str, sso_url: str) -> str:
        """This provider's metadata, to be uploaded."""
        return (
            f'<md:EntityDescriptor xmlns:md="urn:oasis:names:tc:SAML:2.0:metadata" entityID="{entity_id}">'
            f'<md:IDPSSODescriptor protocolSupportEnumeration="{PROTOCOL}"><md:KeyDescriptor use="signing">'
            '<ds:KeyInfo xmlns:ds="http://www.w3.org/2000/09/xmldsig#"><ds:X509Data><ds:X509Certificate>'
            f"{self.certificate}</ds:X509Certificate></ds:X509Data></ds:KeyInfo></md:KeyDescriptor>"
            '<md:SingleSignOnService Binding="urn:oasis:names:tc:SAML:2.0:bindings:HTTP-Redirect" '
            f'Location="{sso_url}"/></md:IDPSSODescriptor></md:EntityDescriptor>'
        )


def make_signer(folder: Path, xmlsec1: str, *, begins: float = -86_400, ends: float = 86_400 * 365,
                bits: int = 2048) -> Signer:  # fmt: skip
    """A new key with a certificate of its own making, valid from and until so many seconds from now."""
    folder.mkdir(parents=True, exist_ok=True)
    key = rsa.generate_private_key(public_exponent=65537, key_size=bits)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "idp")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + timedelta(seconds=begins))
        .not_valid_after(now + timedelta(seconds=ends))
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    (folder / "key.pem").write_bytes(private)
    (folder / "cert.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
    return Signer(folder, xmlsec1)


def signature(id: str, *, method: str = RSA_SHA256, digest: str = SHA256, canonical: str = EXCLUSIVE,
              transforms: tuple[str, ...] = (ENVELOPED, EXCLUSIVE), extra: str = "") -> str:  # fmt: skip
    """An empty signature over the element with that id."""
    steps = "".join(f'<ds:Transform Algorithm="{step}"/>' for step in transforms)
    return (
        '<ds:Signature xmlns:ds="http://www.w3.org/2000/09/xmldsig#"><ds:SignedInfo>'
        f'<ds:CanonicalizationMethod Algorithm="{canonical}"/><ds:SignatureMethod Algorithm="{method}"/>'
        f'<ds:Reference URI="#{id}"><ds:Transforms>{steps}</ds:Transforms><ds:DigestMethod Algorithm="{digest}"/>'
        "<ds:DigestValue/></ds:Reference></ds:SignedInfo><ds:SignatureValue/>"
        f"<ds:KeyInfo><ds:X509Data/></ds:KeyInfo>{extra}</ds:Signature>"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A provider's answer, part by part; what is here is good, and each test has one that is not."""

    signer: Signer
    idp: str
    audience: str
    acs_url: str
    request_id: str
    name_id: str = '<saml:NameID Format="urn:oasis:names:tc:SAML:2.0:nameid-format:persistent">ada-7</saml:NameID>'
    attributes: str = (
        '<saml:Attribute Name="email"><saml:AttributeValue>ada@example.com</saml:AttributeValue></saml:Attribute>'
    )
    assertion_id: str = ""
    response_id: str = ""
    destination: str | None = ""
    recipient: str | None = ""
    in_response_to: str | None = ""
    confirmed_in_response_to: str | None = ""
    method: str = "urn:oasis:names:tc:SAML:2.0:cm:bearer"
    confirmed_until: str | None = ""
    confirmed_from: str | None = None
    conditions: str | None = ""
    valid_from: str = ""
    valid_until: str = ""
    audiences: str | None = ""
    session_until: str | None = None
    status: str = "urn:oasis:names:tc:SAML:2.0:status:Success"
    issuer: str = ""
    assertion_signature: str | None = ""
    signs_assertion: bool = True
    signs_response: bool = False

    def assertion(self) -> str:
        """The assertion, not signed yet."""
        id = self.assertion_id or f"a{uuid4().hex}"
        empty = signature(id) if self.assertion_signature == "" else self.assertion_signature or ""
        data = attributes(
            Recipient=self.acs_url if self.recipient == "" else self.recipient,
            InResponseTo=self.request_id if self.confirmed_in_response_to == "" else self.confirmed_in_response_to,
            NotOnOrAfter=moment(300) if self.confirmed_until == "" else self.confirmed_until,
            NotBefore=self.confirmed_from,
        )
        audiences = (
            f"<saml:AudienceRestriction><saml:Audience>{self.audience}</saml:Audience></saml:AudienceRestriction>"
            if self.audiences == ""
            else self.audiences or ""
        )
        conditions = (
            f'<saml:Conditions NotBefore="{self.valid_from or moment(-30)}" '
            f'NotOnOrAfter="{self.valid_until or moment(300)}">{audiences}</saml:Conditions>'
            if self.conditions == ""
            else self.conditions or ""
        )
        session = attributes(SessionNotOnOrAfter=self.session_until)
        return (
            f'<saml:Assertion xmlns:saml="{ASSERTION}" ID="{id}" Version="2.0" IssueInstant="{moment()}">'
            f"<saml:Issuer>{self.issuer or self.idp}</saml:Issuer>{empty if self.signs_assertion else ''}"
            f'<saml:Subject>{self.name_id}<saml:SubjectConfirmation Method="{self.method}">'
            f"<saml:SubjectConfirmationData{data}/></saml:SubjectConfirmation></saml:Subject>{conditions}"
            f'<saml:AuthnStatement AuthnInstant="{moment()}"{session}><saml:AuthnContext><saml:AuthnContextClassRef>'
            "urn:oasis:names:tc:SAML:2.0:ac:classes:Password</saml:AuthnContextClassRef></saml:AuthnContext>"
            f"</saml:AuthnStatement><saml:AttributeStatement>{self.attributes}</saml:AttributeStatement></saml:Assertion>"
        )

    def document(self, inside: str | None = None) -> str:
        """The whole answer, signed as it says; `inside` stands in the place of the assertion."""
        assertion = self.assertion() if inside is None else inside
        id = self.response_id or f"r{uuid4().hex}"
        head = attributes(
            Destination=self.acs_url if self.destination == "" else self.destination,
            InResponseTo=self.request_id if self.in_response_to == "" else self.in_response_to,
        )
        document = (
            f'<samlp:Response xmlns:samlp="{PROTOCOL}" ID="{id}" Version="2.0" IssueInstant="{moment()}"{head}>'
            f'<saml:Issuer xmlns:saml="{ASSERTION}">{self.idp}</saml:Issuer>'
            f"{signature(id) if self.signs_response else ''}"
            f'<samlp:Status><samlp:StatusCode Value="{self.status}"/></samlp:Status>{assertion}</samlp:Response>'
        )
        if inside is None and self.signs_assertion:
            document = self.signer.signed(document, f"{ASSERTION}:Assertion", _id_of(assertion))
        if self.signs_response:
            document = self.signer.signed(document, f"{PROTOCOL}:Response", id)
        return document


def attributes(**given: str | None) -> str:
    """XML attributes; None is left out."""
    return "".join(f' {name}="{value}"' for name, value in given.items() if value is not None)


def _id_of(assertion: str) -> str:
    return assertion.partition(' ID="')[2].partition('"')[0]


def in_base64(document: str | bytes) -> str:
    return base64.b64encode(document.encode() if isinstance(document, str) else document).decode()
