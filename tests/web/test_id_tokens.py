"""ID tokens by themselves: each provider's own rules."""

from __future__ import annotations

import json
from typing import Any

import pytest
from joserfc import jws, jwt
from joserfc.jwk import ECKey, OctKey, RSAKey

from core.errors import CloudMetricsError
from core.sign_in_rules import Preset, Vouched
from web.auth.id_tokens import MAX_TOKEN_LENGTH, Expected, kid_of, read_id_token

NOW = 1_800_000_000
KEY = RSAKey.generate_key(2048, {"kid": "k"})
DIRECTORY, OBJECT = "72f988bf-86f1-41af-91ab-2d7cd011db47", "00000000-0000-0000-66f3-3332eca7ea81"
GOOGLE = Expected("https://accounts.google.com", "us", "n", Preset.GOOGLE_WORKSPACE, ("example.com",))
ENTRA = Expected(f"https://login.microsoftonline.com/{DIRECTORY}/v2.0", "us", "n", Preset.ENTRA_OIDC, ())
PLAIN = Expected("https://login.example.com", "us", "n", Preset.OIDC, ())


def read(expected: Expected, claims: dict[str, Any], key: Any = KEY, alg: str = "RS256") -> Vouched:
    whole = {
        "iss": expected.issuer, "aud": "us", "sub": "s", "iat": NOW, "exp": NOW + 300, "nonce": "n", **claims,
    }  # fmt: skip
    # In ASCII, so that a provider may say also what is no text.
    token = jws.serialize_compact({"alg": alg, "kid": "k"}, json.dumps(whole).encode(), key)
    return read_id_token(token, [key.as_dict(private=False)], expected, NOW)


def refusal(expected: Expected, claims: dict[str, Any]) -> tuple[int, str]:
    with pytest.raises(CloudMetricsError) as refused:
        read(expected, claims)
    return refused.value.status, refused.value.code


def test_a_token_signed_by_a_curve_is_taken_as_one_by_rsa() -> None:
    assert read(PLAIN, {}, ECKey.generate_key("P-256", {"kid": "k"}), "ES256").subject == "s"


@pytest.mark.parametrize("hosted", [None, "other.example", "example.com.other.example", ["example.com"]])
def test_o6_google_takes_only_accounts_of_the_tenants_workspace(hosted: Any) -> None:
    claims = {"hd": hosted, "email": "ada@example.com", "email_verified": True}
    assert refusal(GOOGLE, claims) == (403, "domain_not_allowed")


def test_o6_google_takes_an_account_of_the_workspace_with_a_verified_address() -> None:
    claims = {"hd": "example.com", "email": "ada@example.com"}
    assert read(GOOGLE, {**claims, "email_verified": True}).subject == "s"
    assert refusal(GOOGLE, claims) == (403, "domain_not_allowed")


def test_o6_entra_knows_people_by_directory_and_object_and_verifies_no_address_by_itself() -> None:
    claims = {"tid": DIRECTORY, "oid": OBJECT, "email": "owner@example.com"}
    vouched = read(ENTRA, claims)
    assert (vouched.subject, vouched.is_email_verified) == (f"{DIRECTORY}/{OBJECT}", False)
    # Entra's own word for it; and no e-mail_verified of anybody's choice.
    assert read(ENTRA, {**claims, "xms_edov": True}).is_email_verified
    assert not read(ENTRA, {**claims, "email_verified": True}).is_email_verified


@pytest.mark.parametrize("claims", [{"oid": OBJECT}, {"tid": "another", "oid": OBJECT}, {"tid": DIRECTORY},
                                    {"tid": "login.microsoftonline.com", "oid": OBJECT}])  # fmt: skip
def test_o6_entra_of_another_directory_or_without_object_is_refused(claims: dict[str, Any]) -> None:
    assert refusal(ENTRA, claims) == (401, "invalid_id_token")


@pytest.mark.parametrize("name", ["exp", "iat", "nbf"])
@pytest.mark.parametrize(
    "value",
    [float("nan"), float("inf"), float("-inf"), 10**400, -(10**400), "1", None, True],
    ids=["nan", "inf", "-inf", "huge", "-huge", "text", "null", "true"],
)
def test_a_time_that_is_none_is_refused(name: str, value: Any) -> None:
    assert refusal(PLAIN, {name: value}) == (401, "invalid_id_token")


@pytest.mark.parametrize("nonce", ["\ud800", "é", "", None, ["n"]])
def test_a_nonce_that_is_no_text_of_ours_is_refused(nonce: Any) -> None:
    assert refusal(PLAIN, {"nonce": nonce}) == (401, "invalid_id_token")


def test_claims_that_are_texts_or_lists_of_them_are_attributes() -> None:
    vouched = read(PLAIN, {"groups": ["a", "b", 7], "department": "x", "level": 3, "address": {"a": "b"}})
    assert (vouched.attributes["groups"], vouched.attributes["department"]) == (("a", "b"), ("x",))
    assert not {"level", "address"} & vouched.attributes.keys()


@pytest.mark.parametrize(
    "token",
    ["", "a.b", "a.b.c.d.e", "." * 3, "a" * (MAX_TOKEN_LENGTH + 1), "e30.e30.", "!!.e30.e30", "bnVsbA.e30.e30",
     "W10.e30.e30", "e30.e30.\ud800"],
)  # fmt: skip
def test_what_is_no_token_is_refused_as_that(token: str) -> None:
    with pytest.raises(CloudMetricsError) as refused:
        kid_of(token)
    assert (refused.value.status, refused.value.code) == (401, "invalid_id_token")


@pytest.mark.parametrize("keys", [[], [KEY.as_dict(private=False)] * 2, [{"kty": "RSA", "kid": "k"}],
                                  [OctKey.import_key("secret-of-somebody").as_dict() | {"kid": "k"}]])  # fmt: skip
def test_no_key_two_keys_half_a_key_or_a_shared_secret_verify_nothing(keys: list[dict[str, Any]]) -> None:
    token = jwt.encode({"alg": "RS256", "kid": "k"}, {"iss": PLAIN.issuer}, KEY)
    with pytest.raises(CloudMetricsError) as refused:
        read_id_token(token, keys, PLAIN, NOW)
    assert refused.value.code == "invalid_id_token"
