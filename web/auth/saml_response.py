"""A SAML response, by checks of our own around the library's: what it may look like before its signature is looked at,
and what the one signed assertion must say. Nothing is read that is not within it. Pure; no I/O. (SAML 2.0 Core;
Profiles, 4.1.4)
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import NoReturn
from xml.etree.ElementTree import Element

from core.errors import InvalidRequest
from core.idp_metadata import DS
from core.strict_xml import parse_strictly
from web.auth.saml_signature import check_signed_form

MAX_RESPONSE_BYTES = 192 * 1024
SKEW = timedelta(seconds=60)
LAST_YEAR = 9000
MAX_ATTRIBUTES = 500
MAX_TEXT = 1024
SAML = "{urn:oasis:names:tc:SAML:2.0:assertion}"
SAMLP = "{urn:oasis:names:tc:SAML:2.0:protocol}"
SUCCESS = "urn:oasis:names:tc:SAML:2.0:status:Success"
BEARER = "urn:oasis:names:tc:SAML:2.0:cm:bearer"
TRANSIENT = "urn:oasis:names:tc:SAML:2.0:nameid-format:transient"
_IN_RESPONSE = {f"{SAML}Issuer", f"{DS}Signature", f"{SAMLP}Status", f"{SAML}Assertion"}
_IN_ASSERTION = {f"{SAML}{name}" for name in ("Issuer", "Subject", "Conditions", "AuthnStatement",
                                              "AttributeStatement")} | {f"{DS}Signature"}  # fmt: skip
_CONDITIONS = {f"{SAML}{name}" for name in ("AudienceRestriction", "OneTimeUse", "ProxyRestriction")}


@dataclass(frozen=True, slots=True)
class Expected:
    """What a response must be: to which request, of whom, for whom, where."""

    request_id: str
    idp: str
    audience: str
    acs_url: str
    now: datetime


@dataclass(frozen=True, slots=True)
class Form:
    """A response whose form is good; its signatures are still to be checked."""

    response: Element
    assertion: Element

    @property
    def assertion_id(self) -> str:
        return self.assertion.get("ID", "")


@dataclass(frozen=True, slots=True)
class Said:
    """What a checked assertion says."""

    assertion_id: str
    name_id: str
    name_id_format: str
    attributes: dict[str, tuple[str, ...]]
    expires_at: datetime


def request_id_of(document: bytes) -> str:
    """Which request a response says it answers; not to be believed before it is checked, only to be looked up.

    Raises:
        InvalidRequest: `saml_invalid_document`, or `saml_in_response_to` where it answers none.
    """
    root = parse_strictly(document, most_bytes=MAX_RESPONSE_BYTES, code="saml_invalid_document")
    request_id = root.get("InResponseTo", "")
    if root.tag != f"{SAMLP}Response" or not 1 <= len(request_id) <= 256:
        refuse("saml_in_response_to", "answers no request of ours: sign-in begins at our sign-in page")
    return request_id


def check_form(document: bytes, requires_signed_response: bool) -> Form:
    """Exactly one assertion, signed, directly within one response; each signature over the element that it stands in,
    and nothing that nobody signed and somebody could read.

    Raises:
        InvalidRequest: `saml_invalid_document` (400), `saml_invalid_signature` or `saml_status` (403).
    """
    response = parse_strictly(document, most_bytes=MAX_RESPONSE_BYTES, code="saml_invalid_document")
    if response.tag != f"{SAMLP}Response" or response.get("Version") != "2.0":
        refuse("saml_invalid_document", "is no SAML 2.0 response", status=400)
    _check_status(response)
    assertions = list(response.iter(f"{SAML}Assertion"))
    if next(response.iter(f"{SAML}EncryptedAssertion"), None) is not None:
        refuse(
            "saml_invalid_document", "is encrypted, which is not taken here: let the provider sign alone", status=400
        )
    if len(assertions) != 1 or assertions[0] not in list(response):
        refuse("saml_invalid_signature", "must have exactly one assertion, directly within the response")
    assertion = assertions[0]
    if {child.tag for child in response} - _IN_RESPONSE or {child.tag for child in assertion} - _IN_ASSERTION:
        refuse("saml_invalid_signature", "has a part that no provider sends at a sign-in")
    if assertion.get("Version") != "2.0" or len(response.findall(f"{SAML}Issuer")) > 1:
        refuse("saml_invalid_document", "has no assertion of SAML 2.0, or several issuers", status=400)
    signatures = len(list(response.iter(f"{DS}Signature")))
    of_response = len(response.findall(f"{DS}Signature"))
    if len(assertion.findall(f"{DS}Signature")) != 1 or of_response > 1 or signatures != 1 + of_response:
        refuse("saml_invalid_signature", "must have one signature of the assertion, and at most one of the response")
    if requires_signed_response and not of_response:
        refuse("saml_invalid_signature", "must be signed as a whole too: let the provider sign response and assertion")
    for element in (response, assertion) if of_response else (assertion,):
        check_signed_form(element)
    return Form(response, assertion)


def check_said(form: Form, expected: Expected) -> Said:
    """What the assertion says, once its signature was verified.

    Raises:
        InvalidRequest: 403 with `saml_issuer`, `saml_recipient`, `saml_in_response_to`, `saml_audience`,
            `saml_expired` or `saml_subject`.
    """
    response, assertion = form.response, form.assertion
    own_issuer = response.find(f"{SAML}Issuer")
    issuers = [_only(assertion, f"{SAML}Issuer", "saml_issuer"), *([own_issuer] if own_issuer is not None else [])]
    if any((issuer.text or "").strip() != expected.idp or len(issuer) for issuer in issuers):
        refuse("saml_issuer", "is of another identity provider than was asked")
    if response.get("Destination") != expected.acs_url:
        refuse("saml_recipient", f"must have the Destination {expected.acs_url}")
    if response.get("InResponseTo") != expected.request_id:
        refuse("saml_in_response_to", "answers another request")
    _check_conditions(assertion, expected)
    subject = _only(assertion, f"{SAML}Subject", "saml_subject")
    ends = _check_confirmation(subject, expected)
    _check_statements(assertion, expected)
    name_id = _only(subject, f"{SAML}NameID", "saml_subject")
    text, kind = name_id.text or "", name_id.get("Format", "")
    if len(name_id) or not 1 <= len(text) <= MAX_TEXT or not text.isprintable() or text != text.strip():
        refuse("saml_subject", "has no usable NameID")
    return Said(form.assertion_id, text, kind, _attributes(assertion), ends)


def _check_status(response: Element) -> None:
    status = _only(response, f"{SAMLP}Status", "saml_status")
    code = _only(status, f"{SAMLP}StatusCode", "saml_status")
    if code.get("Value") != SUCCESS:
        refuse("saml_status", "says that the provider did not sign you in")


def _check_conditions(assertion: Element, expected: Expected) -> None:
    conditions = _only(assertion, f"{SAML}Conditions", "saml_audience")
    if {child.tag for child in conditions} - _CONDITIONS:
        refuse("saml_audience", "has a condition that is not known here")
    restrictions = conditions.findall(f"{SAML}AudienceRestriction")
    if not restrictions:
        refuse("saml_audience", f"must be restricted to the audience {expected.audience}")
    # Several restrictions hold together; of the audiences of one, one is enough (Core, 2.5.1.4).
    for restriction in restrictions:
        if expected.audience not in [audience.text for audience in restriction.findall(f"{SAML}Audience")]:
            refuse("saml_audience", f"is for another audience than {expected.audience}")
    _check_window(conditions, expected.now)


def _check_confirmation(subject: Element, expected: Expected) -> datetime:
    """The bearer's confirmation; until when it holds."""
    confirmation = _only(subject, f"{SAML}SubjectConfirmation", "saml_in_response_to")
    if confirmation.get("Method") != BEARER:
        refuse("saml_in_response_to", "must be confirmed by the method bearer alone")
    data = _only(confirmation, f"{SAML}SubjectConfirmationData", "saml_recipient")
    if data.get("Recipient") != expected.acs_url:
        refuse("saml_recipient", f"must have the Recipient {expected.acs_url}")
    if data.get("InResponseTo") != expected.request_id:
        refuse("saml_in_response_to", "answers another request within its assertion")
    if data.get("NotBefore") is not None:
        refuse("saml_expired", "has a NotBefore where none may be (Profiles, 4.1.4.2)")
    return _check_window(data, expected.now) + SKEW


def _check_statements(assertion: Element, expected: Expected) -> None:
    statements = assertion.findall(f"{SAML}AuthnStatement")
    if not statements:
        refuse("saml_subject", "does not say that anybody was signed in")
    for statement in statements:
        if _moment(statement.get("AuthnInstant")) > expected.now + SKEW:
            refuse("saml_expired", "says that you will be signed in later")
        ends = statement.get("SessionNotOnOrAfter")
        if ends is not None and _moment(ends) <= expected.now - SKEW:
            refuse("saml_expired", "is of a session that has ended")


def _check_window(element: Element, now: datetime) -> datetime:
    begins, ends = element.get("NotBefore"), element.get("NotOnOrAfter")
    if ends is None or (begins is not None and _moment(begins) > now + SKEW) or _moment(ends) <= now - SKEW:
        refuse("saml_expired", "is not good now: it is too old, is from the future, or has no end")
    return _moment(ends)


def _moment(text: str | None) -> datetime:
    """A time of SAML: UTC, with a Z (Core, 1.3.3)."""
    try:
        if text is not None and text.endswith("Z") and len(text) <= 40:
            moment = datetime.fromisoformat(text).astimezone(UTC)
            # Beyond it there is no room for what is added.
            if moment.year <= LAST_YEAR:
                return moment
    except (ValueError, OverflowError):
        pass
    refuse("saml_expired", "has a time that is none")


def _attributes(assertion: Element) -> dict[str, tuple[str, ...]]:
    """Attributes by name, their values that are text."""
    found: dict[str, tuple[str, ...]] = {}
    for attribute in list(assertion.iter(f"{SAML}Attribute"))[:MAX_ATTRIBUTES]:
        values = [value.text or "" for value in attribute.findall(f"{SAML}AttributeValue") if not len(value)]
        name = attribute.get("Name", "")
        found[name] = (*found.get(name, ()), *values)
    return found


def _only(parent: Element, tag: str, code: str) -> Element:
    children = parent.findall(tag)
    if len(children) != 1:
        refuse(code, f"must have exactly one {tag.rpartition('}')[2]}")
    return children[0]


def refuse(code: str, what: str, *, status: int = 403) -> NoReturn:
    """The one way in which a response is refused."""
    raise InvalidRequest(f"The identity provider's SAML response {what}.", code=code, status=status)
