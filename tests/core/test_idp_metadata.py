"""A provider's metadata: what is believed of it, and what is refused."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from core.errors import BadInput
from core.idp_metadata import MAX_METADATA_BYTES, described, read_metadata, valid_certificates
from tests.web.saml_documents import Signer, make_signer

NOW = datetime.now(UTC)
SSO = "https://idp.example/sso?a=b"


@pytest.fixture(scope="module")
def signer(tmp_path_factory: pytest.TempPathFactory) -> Signer:
    return make_signer(tmp_path_factory.mktemp("idp") / "key", "")


def metadata(signer: Signer) -> str:
    return signer.metadata("https://idp.example/7", SSO.replace("&", "&amp;"))


def test_a_name_a_place_and_certificates_are_read_and_nothing_else(signer: Signer) -> None:
    text = metadata(signer)
    noted = '<?xml version="1.0" encoding="UTF-8"?>\n' + text.replace("<md:IDPSSO", "<!-- ours --><md:IDPSSO")
    for given in (text, noted):
        read = read_metadata(given, NOW)
        assert (read.entity_id, read.sso_url, read.certificates) == (
            "https://idp.example/7", SSO, (signer.certificate,))  # fmt: skip
    shown = described(signer.certificate)
    assert re.fullmatch(r"[0-9A-F]{2}(:[0-9A-F]{2}){31}", shown.fingerprint) and shown.expires_at > NOW


@pytest.mark.parametrize(
    "change",
    [
        lambda text: "",
        lambda text: text[:-10],
        lambda text: text.replace("\u0065ntityID", "name"),
        lambda text: text.replace('entityID="https://idp.example/7"', 'entityID=""'),
        lambda text: text.replace('entityID="https://idp.example/7"', f'entityID="{"x" * 1025}"'),
        lambda text: text.replace("IDPSSODescriptor", "SPSSODescriptor"),
        lambda text: text.replace("HTTP-Redirect", "SOAP"),
        lambda text: text.replace('use="signing"', 'use="encryption"'),
        lambda text: re.sub(r"(<ds:X509Certificate>)[^<]*", r"\1AAAA", text),
        lambda text: re.sub(r"(<ds:X509Certificate>)[^<]*", r"\1%%%", text),
        lambda text: '<!DOCTYPE x [<!ENTITY e "1">]>' + text.replace("/7", "/&e;"),
        lambda text: '<!DOCTYPE x SYSTEM "file:///etc/passwd">' + text,
        lambda text: text.replace("<md:IDPSSO", "<?php x?><md:IDPSSO"),
        lambda text: text.replace("EntityDescriptor", "EntitiesDescriptor"),
        lambda text: text.replace("</md:EntityDescriptor>", " " * MAX_METADATA_BYTES + "</md:EntityDescriptor>"),
        lambda text: text + "\ud800",
    ],
)  # fmt: skip
def test_what_is_no_metadata_of_one_provider_is_refused_with_the_reason(
    signer: Signer, change: Callable[[str], str]
) -> None:
    changed = change(metadata(signer))
    assert changed != metadata(signer)
    with pytest.raises(BadInput) as refusal:
        read_metadata(changed, NOW)
    assert refusal.value.code == "saml_invalid_metadata"


@pytest.mark.parametrize(
    "made", [{"bits": 1024}, {"ends": -60.0}, {"begins": 3600.0}], ids=["weak", "ended", "not begun"]
)  # fmt: skip
def test_s3_certificates_that_are_weak_or_not_valid_now_are_not_pinned(tmp_path: Path, made: dict[str, float]) -> None:
    bad = make_signer(tmp_path / "key", "", **made)  # type: ignore[arg-type]
    with pytest.raises(BadInput, match="no certificate"):
        read_metadata(metadata(bad), datetime.now(UTC))


def test_s3_a_pinned_certificate_that_ends_is_not_valid_any_more(signer: Signer) -> None:
    assert valid_certificates([signer.certificate, "AAAA"], NOW) == [signer.certificate]
    assert valid_certificates([signer.certificate], NOW + timedelta(days=366)) == []
