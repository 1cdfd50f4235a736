"""Access tokens: every way to make one that is not ours is refused, with one answer. Rows J1 to J5."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from typing import Any
from uuid import uuid4

import pytest
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st
from joserfc import jwt
from joserfc.jwk import ECKey, OctKey, RSAKey

from core.errors import Unauthenticated
from core.tenancy import PersonId, SessionId, TenantId
from core.tokens import AccessToken, issue, kid_of, looks_like_token, new_key, verified

ISSUER = "https://cm.example"
KEY, OTHER = new_key(), new_key()
NOW = int(time.time())
WHO: dict[str, Any] = {
    "person_id": PersonId(uuid4()), "session_id": SessionId(uuid4()), "tenant_id": TenantId(uuid4()),
}  # fmt: skip
GOOD = issue(KEY, issuer=ISSUER, now=NOW, **WHO)
HEADER = {"alg": "RS256", "typ": "at+jwt", "kid": KEY.kid}
CLAIMS = {
    "iss": ISSUER, "aud": f"{ISSUER}/graphql", "client_id": "cloudmetrics", "sub": str(WHO["person_id"]),
    "sid": str(WHO["session_id"]), "tid": str(WHO["tenant_id"]), "iat": NOW, "exp": NOW + 600, "jti": "x",
}  # fmt: skip


def read(text: str, now: int = NOW) -> AccessToken:
    """As the door does: a key by its name among those we know, then the rest."""
    known = {KEY.kid: KEY, OTHER.kid: OTHER}
    kid = kid_of(text)
    if kid not in known:
        raise Unauthenticated(code="invalid_token")
    return verified(text, known[kid], issuer=ISSUER, now=now)


def refusal(text: str, now: int = NOW) -> str:
    with pytest.raises(Unauthenticated) as refused:
        read(text, now)
    return refused.value.code


def part(value: Any) -> str:
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def signed(header: dict[str, Any], claims: Any = None, key: RSAKey = KEY) -> str:
    """A token with a good RS256 signature, whatever its header and claims say."""
    head, body = part(header), part(CLAIMS if claims is None else claims)
    signature = key.private_key.sign(f"{head}.{body}".encode(), PKCS1v15(), SHA256())  # type: ignore[union-attr]
    return f"{head}.{body}.{part(signature)}"


def with_claims(**changes: Any) -> str:
    """A token of ours with other claims; None leaves one out."""
    claims = {name: value for name, value in {**CLAIMS, **changes}.items() if value is not None}
    return signed(HEADER, claims)


def test_a_token_of_ours_says_who_asks_where_and_by_which_session() -> None:
    assert read(GOOD) == AccessToken(WHO["person_id"], WHO["session_id"], WHO["tenant_id"], NOW, NOW + 600)
    assert read(signed(HEADER)) == read(GOOD)
    assert looks_like_token(GOOD)
    claims = json.loads(base64.urlsafe_b64decode(GOOD.split(".")[1] + "=="))
    assert claims.keys() == CLAIMS.keys()
    assert not {"role", "scope", "email", "name"} & claims.keys()


@pytest.mark.parametrize("alg", ["none", "None", "NONE", "", None, "HS256", "ES256", "RS384", "PS256", "rs256", 5])
def test_another_algorithm_is_refused_whatever_its_signature(alg: Any) -> None:
    header = {**HEADER, "alg": alg}
    assert refusal(signed(header)) == "invalid_token"
    assert refusal(f"{part(header)}.{part(CLAIMS)}.") == "invalid_token"
    assert refusal(f"{part(header)}.{part(CLAIMS)}.{part(b'x')}") == "invalid_token"


def test_a_public_key_is_no_shared_secret() -> None:
    """HS256 with what everybody can read: as PEM, as DER, as the JSON Web Key (CVE-2026-48526)."""
    public = KEY.public_key
    secrets = [
        public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        json.dumps(KEY.as_dict(private=False)).encode(),
    ]
    for secret in secrets:
        for alg in ("HS256", "RS256"):
            text = f"{part({**HEADER, 'alg': alg})}.{part(CLAIMS)}"
            forged = hmac.digest(secret, text.encode(), hashlib.sha256)
            assert refusal(f"{text}.{part(forged)}") == "invalid_token"


def test_other_kinds_of_keys_are_refused() -> None:
    for key, alg in ((ECKey.generate_key("P-256"), "ES256"), (OctKey.generate_key(256), "HS256")):
        text = jwt.encode({"alg": alg, "typ": "at+jwt", "kid": KEY.kid}, CLAIMS, key, algorithms=[alg])
        assert refusal(text) == "invalid_token"


@pytest.mark.parametrize(
    "kid", ["../../etc/passwd", "' OR 1=1 --", "https://evil.example/key", "unknown", "x" * 10_000, "", None, 5, [], {}]
)
def test_a_key_that_is_not_one_of_ours_is_refused(kid: Any) -> None:
    header = {name: value for name, value in {**HEADER, "kid": kid}.items() if value is not None}
    assert refusal(signed(header)) == "invalid_token"


@pytest.mark.parametrize(
    "more",
    [
        {"jwk": OTHER.as_dict(private=False)}, {"jku": "https://evil.example/keys"}, {"x5u": "https://evil.example/c"},
        {"x5c": ["MIIB"]}, {"x5t": "x"}, {"crit": ["exp"]}, {"crit": []}, {"crit": ["b64"], "b64": False},
        {"b64": False}, {"zip": "DEF"}, {"cty": "JWT"}, {"enc": "A256GCM"},
    ],
)  # fmt: skip
def test_a_header_with_anything_more_is_refused_though_its_signature_is_good(more: dict[str, Any]) -> None:
    assert refusal(signed({**HEADER, **more})) == "invalid_token"


@pytest.mark.parametrize("typ", ["JWT", "at+JWT", "application/at+jwt", "rt+jwt", "id_token", "", None, 1])
def test_another_type_of_token_is_refused(typ: Any) -> None:
    header = {name: value for name, value in {**HEADER, "typ": typ}.items() if value is not None}
    assert refusal(signed(header)) == "invalid_token"


@pytest.mark.parametrize(
    "changes",
    [
        {"iss": None}, {"iss": "https://evil.example"}, {"iss": [ISSUER]}, {"iss": ISSUER + "/"},
        {"aud": None}, {"aud": ISSUER}, {"aud": "other-client"}, {"aud": []}, {"aud": f"{ISSUER}/graphql/x"},
        {"exp": None}, {"exp": "tomorrow"}, {"exp": str(NOW + 600)}, {"exp": NOW + 600.5}, {"exp": True}, {"exp": []},
        {"iat": None}, {"iat": NOW + 86_400}, {"iat": "now"}, {"nbf": NOW + 3600}, {"nbf": "later"},
        {"sub": None}, {"sub": "ada"}, {"sub": 5}, {"sid": None}, {"sid": "x"}, {"tid": None}, {"tid": "x"},
        {"tid": [str(uuid4())]}, {"jti": None}, {"exp": 10**30}, {"exp": float("inf")},
    ],
)  # fmt: skip
def test_a_claim_that_is_missing_or_wrong_is_refused(changes: dict[str, Any]) -> None:
    assert refusal(with_claims(**changes)) == "invalid_token"


@pytest.mark.parametrize("claims", [[], "x", 5, None, b"not json", b'{"a":' * 50_000])
def test_claims_of_another_shape_are_refused(claims: Any) -> None:
    text = signed(HEADER, b"null" if claims is None else claims)
    assert refusal(text) == "invalid_token"


def test_a_token_is_good_for_ten_minutes_and_the_clocks_minute() -> None:
    assert read(GOOD, NOW + 659).expires_at == NOW + 600
    assert refusal(GOOD, NOW + 661) == "token_expired"
    assert read(GOOD, NOW - 59).issued_at == NOW
    assert refusal(GOOD, NOW - 61) == "invalid_token"


def test_a_signature_of_another_key_or_over_other_claims_is_refused() -> None:
    assert refusal(signed(HEADER, key=OTHER)) == "invalid_token"
    head, body, signature = GOOD.split(".")
    other = part({**CLAIMS, "tid": str(uuid4())})
    assert refusal(f"{head}.{other}.{signature}") == "invalid_token"
    assert refusal(f"{head}.{body}.{signature[:-8]}AAAAAAAA") == "invalid_token"


def test_what_has_not_three_parts_or_is_too_long_is_refused() -> None:
    head, body, signature = GOOD.split(".")
    for text in (
        f"{head}.{body}", f"{head}.{body}.{body}.{signature}", f"{head}..{signature}", "..", "...", "",
        f"{GOOD}.", f".{GOOD}", GOOD + " ", GOOD + "=", f"{head}.{body}.{signature}\n", "e30.e30.e30", "x" * 8193,
        part({**HEADER, "pad": "x" * 8192}) + f".{body}.{signature}",
    ):  # fmt: skip
        assert refusal(text) == "invalid_token"
    assert looks_like_token("x" * 8193) and not looks_like_token("cm_sk_" + "x" * 43)


@given(st.text(max_size=300) | st.from_regex(r"[A-Za-z0-9_-]{0,80}\.[A-Za-z0-9_-]{0,80}\.[A-Za-z0-9_-]{0,80}"))
def test_no_text_makes_anything_but_the_one_refusal(text: str) -> None:
    assert refusal(text) == "invalid_token"


@given(st.integers(0, len(GOOD) - 1), st.sampled_from("AZaz09-_.="))
def test_no_changed_character_is_overlooked(place: int, character: str) -> None:
    changed = GOOD[:place] + character + GOOD[place + 1 :]
    # The last character of a part has bits that stand for nothing.
    if changed != GOOD and place not in (GOOD.find(".") - 1, GOOD.rfind(".") - 1, len(GOOD) - 1):
        assert refusal(changed) == "invalid_token"
