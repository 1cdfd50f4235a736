"""SAML documents that were forged, each with the real checks, library and xmlsec1: the table's rows S1 to S10."""

from __future__ import annotations

import base64
import gc
import re
import warnings
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from core.strict_xml import parse_strictly
from tests.web.saml_documents import (
    ASSERTION,
    ENVELOPED,
    EXCLUSIVE,
    PROTOCOL,
    Answer,
    Signer,
    make_signer,
    moment,
    signature,
)
from web.auth import saml_worker
from web.auth.saml_client import IdentityProvider, ServiceProvider
from web.auth.saml_metadata import metadata_of
from web.auth.saml_worker import Job, Outcome, done

IDP, AUDIENCE, ACS = (
    "https://idp.example/7",
    "https://us.example/auth/saml/t/metadata",
    "https://us.example/auth/saml/t/acs",
)
REQUEST = "id-1234567890"
SIGNATURE = (403, "saml_invalid_signature")
DOCUMENT = (400, "saml_invalid_document")


@pytest.fixture(scope="module")
def signer(tmp_path_factory: pytest.TempPathFactory, xmlsec1: str) -> Signer:
    return make_signer(tmp_path_factory.mktemp("idp") / "own", xmlsec1)


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory, xmlsec1: str) -> Signer:
    """Another tenant's provider, or somebody who made himself a certificate."""
    return make_signer(tmp_path_factory.mktemp("idp") / "other", xmlsec1)


@pytest.fixture
def answer(signer: Signer) -> Answer:
    return Answer(signer=signer, idp=IDP, audience=AUDIENCE, acs_url=ACS, request_id=REQUEST)


def checked(signer: Signer, document: str | bytes, **idp: Any) -> Outcome:
    """What the worker says of a document, for a provider whose certificate is pinned."""
    pinned = {"requires_signed_response": False, "certificates": (signer.certificate,), **idp}
    job = Job(
        does="verify",
        provider=ServiceProvider(AUDIENCE, ACS, signer.xmlsec1),
        idp=IdentityProvider(entity_id=IDP, sso_url="https://idp.example/sso", **pinned),
        request_id=REQUEST,
        document=document.encode() if isinstance(document, str) else document,
    )
    with warnings.catch_warnings():
        # The library leaves its temporary files to the collector; in a worker process nobody minds.
        warnings.simplefilter("ignore", ResourceWarning)
        outcome = done(job)
        gc.collect()
    return outcome


def refusal(signer: Signer, document: str | bytes, **idp: Any) -> tuple[int, str]:
    outcome = checked(signer, document, **idp)
    assert outcome.said is None
    return outcome.status, outcome.code


def split(document: str) -> tuple[str, str, str]:
    """Before the assertion, the assertion, and after it."""
    found = re.search(r"<saml:Assertion .*</saml:Assertion>", document, re.DOTALL)
    assert found
    return document[: found.start()], found[0], document[found.end() :]


def test_a_good_answer_is_read(signer: Signer, answer: Answer) -> None:
    said = checked(signer, answer.document()).said
    assert said is not None and said.name_id == "ada-7" and said.attributes == {"email": ("ada@example.com",)}
    assert (said.expires_at - datetime.now(UTC)).total_seconds() > 300


def test_an_answer_that_is_signed_twice_is_read_and_may_be_asked_for(signer: Signer, answer: Answer) -> None:
    both = replace(answer, signs_response=True).document()
    assert checked(signer, both).said and checked(signer, both, requires_signed_response=True).said


# S1: who signed.
def test_s1_nobody_signed(signer: Signer, answer: Answer) -> None:
    assert refusal(signer, replace(answer, signs_assertion=False).document()) == SIGNATURE


def test_s1_the_signature_was_removed(signer: Signer, answer: Answer) -> None:
    assert refusal(signer, re.sub(r"<ds:Signature .*?</ds:Signature>", "", answer.document(), flags=re.S)) == SIGNATURE


def test_s1_only_the_response_is_signed(signer: Signer, answer: Answer) -> None:
    assert refusal(signer, replace(answer, signs_assertion=False, signs_response=True).document()) == SIGNATURE


def test_s1_only_the_assertion_is_signed_where_the_response_must_be_too(signer: Signer, answer: Answer) -> None:
    assert refusal(signer, answer.document(), requires_signed_response=True) == SIGNATURE


def test_s1_the_response_was_changed_under_its_signature(signer: Signer, answer: Answer) -> None:
    document = replace(answer, signs_response=True, response_id="r1").document()
    changed = document.replace("</samlp:Status>", "<samlp:StatusMessage>x</samlp:StatusMessage></samlp:Status>")
    assert changed != document and refusal(signer, changed) == SIGNATURE


def test_s1_another_provider_signed(stranger: Signer, signer: Signer, answer: Answer) -> None:
    assert refusal(signer, replace(answer, signer=stranger).document()) == SIGNATURE


@pytest.mark.parametrize("old, new", [("ada-7", "eve-7"), ("ada@example.com", "eve@example.com"),
                                      ("nameid-format:persistent", "nameid-format:emailAddress")])  # fmt: skip
def test_s1_what_was_signed_was_changed(signer: Signer, answer: Answer, old: str, new: str) -> None:
    document = answer.document()
    assert old in document and refusal(signer, document.replace(old, new)) == SIGNATURE


# S2: signature wrapping (Somorovsky et al., On Breaking SAML, 2012), with the forged assertion in each place.
def forged(assertion: str, id: str = "aforged") -> str:
    """The same assertion of somebody else, without a signature."""
    bare = re.sub(r"<ds:Signature .*?</ds:Signature>", "", assertion, flags=re.S)
    return re.sub(r' ID="[^"]*"', f' ID="{id}"', bare, count=1).replace("ada-7", "owner-1").replace("ada@", "owner@")


def _own_id(document: str) -> str:
    return document.partition(' ID="')[2].partition('"')[0]


def xsw1(document: str) -> str:
    """A forged response around the signed one, which hangs in the response's own signature."""
    _, _, rest = document.partition(">")
    inner = document.replace(re.search(r"<ds:Signature .*?</ds:Signature>", document, re.S)[0], "", 1)  # type: ignore[index]
    forged_response = document.replace(f'ID="{_own_id(document)}"', 'ID="rforged"', 1)
    return forged_response.replace("</ds:Signature>", f"{inner}</ds:Signature>", 1).replace("ada-7", "owner-1", 1)


def xsw2(document: str) -> str:
    """A forged response, before which the signed one is put as a whole."""
    signed = re.search(r"<ds:Signature .*?</ds:Signature>", document, re.S)[0]  # type: ignore[index]
    inner = document.replace(signed, "", 1)
    head, _, tail = document.replace(f'ID="{_own_id(document)}"', 'ID="rforged"', 1).partition(signed)
    return f"{head}{inner}{signed}{tail}".replace("ada-7", "owner-1", 1)


def xsw3(document: str) -> str:
    """The forged assertion before the signed one."""
    before, assertion, after = split(document)
    return before + forged(assertion) + assertion + after


def xsw4(document: str) -> str:
    """The signed assertion within the forged one."""
    before, assertion, after = split(document)
    return before + forged(assertion).replace("</saml:Assertion>", f"{assertion}</saml:Assertion>") + after


def xsw5(document: str) -> str:
    """The forged assertion has the signature; the signed one is put behind it."""
    before, assertion, after = split(document)
    signed = re.search(r"<ds:Signature .*?</ds:Signature>", assertion, re.S)[0]  # type: ignore[index]
    fake = forged(assertion).replace("</saml:Issuer>", f"</saml:Issuer>{signed}", 1)
    return before + fake + assertion.replace(signed, "") + after


def xsw6(document: str) -> str:
    """The same, the signed assertion within the signature."""
    before, assertion, after = split(document)
    signed = re.search(r"<ds:Signature .*?</ds:Signature>", assertion, re.S)[0]  # type: ignore[index]
    around = signed.replace("</ds:Signature>", f"{assertion.replace(signed, '')}</ds:Signature>")
    return before + forged(assertion).replace("</saml:Issuer>", f"</saml:Issuer>{around}", 1) + after


def xsw7(document: str) -> str:
    """The forged assertion in Extensions."""
    before, assertion, after = split(document)
    extensions = f"<samlp:Extensions>{forged(assertion)}</samlp:Extensions><samlp:Status>"
    return before.replace("<samlp:Status>", extensions) + assertion + after


def xsw8(document: str) -> str:
    """The forged assertion has the signature; the signed one is in an Object of it."""
    before, assertion, after = split(document)
    signed = re.search(r"<ds:Signature .*?</ds:Signature>", assertion, re.S)[0]  # type: ignore[index]
    bare = assertion.replace(signed, "")
    around = signed.replace("</ds:Signature>", f"<ds:Object>{bare}</ds:Object></ds:Signature>")
    return before + forged(assertion).replace("</saml:Issuer>", f"</saml:Issuer>{around}", 1) + after


@pytest.mark.parametrize("wrap", [xsw1, xsw2, xsw3, xsw4, xsw5, xsw6, xsw7, xsw8])
def test_s2_a_signed_assertion_wrapped_around_a_forged_one(
    signer: Signer, answer: Answer, wrap: Callable[[str], str]
) -> None:
    for given in (answer, replace(answer, signs_response=True)):
        if not given.signs_response and wrap in (xsw1, xsw2):
            continue
        document = wrap(given.document())
        assert "owner-1" in document and refusal(signer, document)[1] in ("saml_invalid_signature", DOCUMENT[1])


def test_s2_the_unsigned_twin_has_the_same_id(signer: Signer, answer: Answer) -> None:
    before, assertion, after = split(replace(answer, assertion_id="same").document())
    assert refusal(signer, before + forged(assertion, "same") + assertion + after) == DOCUMENT


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("</samlp:Status>", "</samlp:Status><samlp:Extensions/>"),
        lambda text: text.replace("</saml:Subject>", "</saml:Subject><saml:Advice/>"),
        lambda text: text.replace("<samlp:Response ", '<samlp:Response Id="x" ').replace("<samlp:Status>",
                                                                                        '<samlp:Status id="x">'),
        lambda text: text.replace("<samlp:Status>", '<samlp:Status xml:id="a1">'),
        lambda text: text.replace("samlp:Response", "samlp:ArtifactResponse"),
        lambda text: text.replace('Version="2.0"', 'Version="1.1"', 1),
        lambda text: text.replace("</saml:Assertion>", "</saml:Assertion><saml:EncryptedAssertion "
                                  f'xmlns:saml="{ASSERTION}"/>'),
        lambda text: f'<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/">{text}</s:Envelope>',
    ],
)  # fmt: skip
def test_s2_other_forms_of_response_are_none(signer: Signer, answer: Answer, change: Callable[[str], str]) -> None:
    document = answer.document()
    assert change(document) != document and refusal(signer, change(document)) in (SIGNATURE, DOCUMENT)


# S3: with what it was signed.
def test_s3_a_key_within_the_document_is_not_believed(stranger: Signer, signer: Signer, answer: Answer) -> None:
    document = replace(answer, signer=stranger).document()
    assert stranger.certificate[:60] in "".join(document.split()) and refusal(signer, document) == SIGNATURE


_SIG11, _MORE = "http://www.w3.org/2000/09/xmldsig#", "http://www.w3.org/2001/04/xmldsig-more#"


@pytest.mark.parametrize(
    "form",
    [
        {"method": f"{_SIG11}rsa-sha1"},
        {"digest": f"{_SIG11}sha1"},
        {"canonical": "http://www.w3.org/TR/2001/REC-xml-c14n-20010315"},
        {"canonical": f"{EXCLUSIVE}WithComments"},
        {"transforms": (ENVELOPED,)},
        {"transforms": (ENVELOPED, EXCLUSIVE, EXCLUSIVE)},
        {"transforms": (ENVELOPED, "http://www.w3.org/TR/2001/REC-xml-c14n-20010315")},
        {"extra": "<ds:Object>x</ds:Object>"},
    ],
)
def test_s3_weak_or_other_forms_of_signature_are_refused_though_they_are_good(
    signer: Signer, answer: Answer, form: dict[str, Any]
) -> None:
    weak = replace(answer, assertion_id="a1", assertion_signature=signature("a1", **form))
    assert refusal(signer, weak.document()) == SIGNATURE


@pytest.mark.parametrize("method", [f"{_SIG11}hmac-sha1", f"{_MORE}hmac-sha256", f"{_SIG11}dsa-sha1", "x"])
def test_s3_a_signature_by_a_shared_secret_is_none(signer: Signer, answer: Answer, method: str) -> None:
    document = answer.document().replace(f"{_MORE}rsa-sha256", method)
    assert refusal(signer, document) == SIGNATURE


@pytest.mark.parametrize("uri", ["", "#other", "https://evil.example/", "#xpointer(/)", "#xpointer(id('a1'))"])
def test_s3_a_signature_over_something_else_is_none(signer: Signer, answer: Answer, uri: str) -> None:
    document = replace(answer, assertion_id="a1").document().replace('URI="#a1"', f'URI="{uri}"')
    assert refusal(signer, document) == SIGNATURE


# S4: documents that are none.
@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("ada-7", "ada-7<!---->.evil"),
        lambda text: text.replace("ada-7", "ada-7<?x y?>.evil"),
        lambda text: text.replace("ada-7", "<![CDATA[ada-7]]>"),
        lambda text: '<!DOCTYPE r [<!ENTITY e "owner-1">]>' + text.replace("ada-7", "&e;"),
        lambda text: '<!DOCTYPE r SYSTEM "http://127.0.0.1:1/dtd">' + text,
        lambda text: '<!DOCTYPE r [<!ENTITY e SYSTEM "file:///etc/passwd">]>' + text.replace("ada-7", "&e;"),
        lambda text: '<!DOCTYPE r [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;"><!ENTITY c "&b;&b;&b;">]>'
        + text.replace("ada-7", "&c;"),
        lambda text: '<!DOCTYPE r [<!ATTLIST saml:Assertion ID2 ID #IMPLIED>]>' + text,
        lambda text: '<?xml version="1.1"?>' + text,
        lambda text: '<?xml version="1.0" encoding="iso-8859-1"?>' + text,
        lambda text: text.replace("ada-7", "\x00"),
        lambda text: text[:-20],
        lambda text: text + text,
        lambda text: text.replace("ada-7", "<x>" * 50 + "</x>" * 50),
        lambda text: "",
        lambda text: "PHNhbWw+",
    ],
)  # fmt: skip
def test_s4_documents_of_more_than_one_meaning_are_refused_unread(
    signer: Signer, answer: Answer, change: Callable[[str], str]
) -> None:
    document = answer.document()
    assert change(document) != document and refusal(signer, change(document)) == DOCUMENT


@pytest.mark.parametrize("encoding", ["utf-16", "utf-7", "utf-8-sig"])
def test_s4_other_encodings_are_refused_or_read_as_what_they_are(signer: Signer, answer: Answer, encoding: str) -> None:
    outcome = checked(signer, answer.document().encode(encoding))
    assert outcome.said is None or outcome.said.name_id == "ada-7"
    assert encoding == "utf-8-sig" or outcome.code in ("saml_invalid_document", "saml_invalid_signature")


def test_s4_a_large_document_is_refused_by_its_size(signer: Signer) -> None:
    assert refusal(signer, b"<a>" + b" " * 10_000_000 + b"</a>") == (413, "saml_invalid_document")


# S5: for whom.
@pytest.mark.parametrize(
    "part",
    [
        {"conditions": None},
        {"audiences": None},
        {"audience": "https://us.example/auth/saml/other/metadata"},
        {"audience": AUDIENCE + "/x"},
        {"audience": AUDIENCE[:-1]},
        {"audience": f" {AUDIENCE}"},
        {"audiences": "<saml:AudienceRestriction/>"},
        {"audiences": f"<saml:AudienceRestriction><saml:Audience>{AUDIENCE}</saml:Audience></saml:AudienceRestriction>"
         "<saml:AudienceRestriction><saml:Audience>https://other.example</saml:Audience></saml:AudienceRestriction>"},
        {"audiences": f"<saml:AudienceRestriction><saml:Audience>{AUDIENCE}</saml:Audience></saml:AudienceRestriction>"
         '<saml:Condition xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:type="x"/>'},
    ],
)  # fmt: skip
def test_s5_an_assertion_for_another_audience_or_for_none(signer: Signer, answer: Answer, part: dict[str, Any]) -> None:
    assert refusal(signer, replace(answer, **part).document()) == (403, "saml_audience")


# S6: where.
@pytest.mark.parametrize(
    "part",
    [
        {"destination": None},
        {"destination": "https://us.example/auth/saml/other/acs"},
        {"destination": ACS + "/"},
        {"recipient": None},
        {"recipient": "https://us.example/auth/saml/other/acs"},
        {"recipient": AUDIENCE},
    ],
)
def test_s6_an_assertion_for_another_place(signer: Signer, answer: Answer, part: dict[str, Any]) -> None:
    assert refusal(signer, replace(answer, **part).document()) == (403, "saml_recipient")


# S7: to which request.
@pytest.mark.parametrize(
    "part",
    [
        {"in_response_to": None},
        {"in_response_to": "id-of-another"},
        {"confirmed_in_response_to": None},
        {"confirmed_in_response_to": "id-of-another"},
        {"in_response_to": None, "confirmed_in_response_to": None},
        {"method": "urn:oasis:names:tc:SAML:2.0:cm:sender-vouches"},
        {"method": "urn:oasis:names:tc:SAML:2.0:cm:holder-of-key"},
    ],
)
def test_s7_an_assertion_that_answers_another_request_or_none(
    signer: Signer, answer: Answer, part: dict[str, Any]
) -> None:
    assert refusal(signer, replace(answer, **part).document()) == (403, "saml_in_response_to")


def test_s7_a_wrapper_around_an_old_assertion_answers_no_request(signer: Signer, answer: Answer) -> None:
    old = replace(answer, request_id="id-of-last-year").document()
    assert refusal(signer, old.replace("id-of-last-year", REQUEST, 1)) == (403, "saml_in_response_to")


# S9: when.
@pytest.mark.parametrize(
    "part",
    [
        {"valid_until": moment(-120)},
        {"valid_from": moment(3600)},
        {"conditions": f"<saml:Conditions><saml:AudienceRestriction><saml:Audience>{AUDIENCE}</saml:Audience>"
         "</saml:AudienceRestriction></saml:Conditions>"},
        {"confirmed_until": moment(-120)},
        {"confirmed_until": None},
        {"confirmed_until": "tomorrow"},
        {"confirmed_until": "2999-01-01T00:00:00"},
        {"confirmed_from": moment(-60)},
        {"session_until": moment(-120)},
        # Times to which nothing can be added, signed by nobody's clock.
        {"confirmed_until": "9999-12-31T23:59:59Z"},
        {"confirmed_until": "0001-01-01T00:00:00Z"},
    ],
)  # fmt: skip
def test_s9_an_assertion_that_is_too_old_or_of_tomorrow_or_has_no_end(
    signer: Signer, answer: Answer, part: dict[str, Any]
) -> None:
    assert refusal(signer, replace(answer, **part).document()) == (403, "saml_expired")


def test_what_nobody_foresaw_of_a_document_is_a_refusal_and_our_own_trouble_is_not(
    signer: Signer, answer: Answer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for trouble in (OverflowError(), RecursionError(), KeyError("x")):
        monkeypatch.setattr(saml_worker, "check_said", _raising(trouble))
        assert refusal(signer, answer.document()) == DOCUMENT
    for ours in (MemoryError(), OSError()):
        monkeypatch.setattr(saml_worker, "check_said", _raising(ours))
        with pytest.raises(type(ours)):
            refusal(signer, answer.document())


def _raising(error: Exception) -> Callable[..., Any]:
    def fail(*_: Any) -> Any:
        raise error

    return fail


def test_s9_clocks_may_differ_by_less_than_a_minute(signer: Signer, answer: Answer) -> None:
    close = replace(answer, valid_from=moment(45), valid_until=moment(300), confirmed_until=moment(-45))
    assert checked(signer, close.document()).said is not None


def test_an_answer_of_another_issuer_is_refused(signer: Signer, answer: Answer) -> None:
    assert refusal(signer, replace(answer, issuer="https://evil.example").document()) == (403, "saml_issuer")


def test_what_the_provider_refused_is_no_sign_in(signer: Signer, answer: Answer) -> None:
    failed = replace(answer, status="urn:oasis:names:tc:SAML:2.0:status:Responder")
    assert refusal(signer, failed.document()) == (403, "saml_status")


@pytest.mark.parametrize("name_id", ["", "<saml:NameID/>", "<saml:NameID> </saml:NameID>",
                                     "<saml:NameID>a</saml:NameID><saml:NameID>b</saml:NameID>",
                                     f"<saml:NameID>{'x' * 1025}</saml:NameID>"])  # fmt: skip
def test_a_subject_that_is_nobody_is_refused(signer: Signer, answer: Answer, name_id: str) -> None:
    assert refusal(signer, replace(answer, name_id=name_id).document()) == (403, "saml_subject")


def test_many_groups_are_read_and_more_than_a_document_holds_are_refused(signer: Signer, answer: Answer) -> None:
    groups = "".join(f"<saml:AttributeValue>g{n}</saml:AttributeValue>" for n in range(3000))
    many = replace(answer, attributes=f'<saml:Attribute Name="groups">{groups}</saml:Attribute>')
    said = checked(signer, many.document()).said
    assert said is not None and len(said.attributes["groups"]) == 3000
    more = replace(answer, attributes=f'<saml:Attribute Name="groups">{groups * 3}</saml:Attribute>')
    assert refusal(signer, more.document())[1] == "saml_invalid_document"


def test_a_request_goes_to_the_provider_and_our_metadata_says_what_we_want(signer: Signer) -> None:
    provider = ServiceProvider(AUDIENCE, ACS, signer.xmlsec1)
    idp = IdentityProvider(IDP, "https://idp.example/sso?a=b", (signer.certificate,), False)
    asked = done(Job(does="request", provider=provider, idp=idp, relay_state="r"))
    assert asked.url.startswith("https://idp.example/sso?a=b&SAMLRequest=") and len(asked.request_id) > 20
    metadata = metadata_of('https://us.example/"<&', ACS)
    parsed = parse_strictly(metadata.encode(), most_bytes=10_000, code="x")
    assert parsed.get("entityID") == 'https://us.example/"<&' and 'WantAssertionsSigned="true"' in metadata
    assert PROTOCOL in metadata and "sha1" not in metadata


def test_nothing_of_a_document_is_left_in_a_file(signer: Signer, answer: Answer, tmp_path: Path) -> None:
    assert checked(signer, answer.document()).said is not None
    assert base64.b64decode(signer.certificate) and not list(tmp_path.iterdir())
