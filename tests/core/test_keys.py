"""Keys and signatures."""

from __future__ import annotations

import pytest

from core.errors import Misconfigured, Unauthenticated
from core.keys import check_signature, parse_signature, seal, sign, unseal

REQUEST = {"method": "POST", "path": "/v1/events", "body": b"{}"}


def test_a_good_signature_passes_with_either_live_secret() -> None:
    digest = sign("new", timestamp=1000, **REQUEST)  # type: ignore[arg-type]
    signature = parse_signature(f"t=1000,v1={digest}")
    check_signature(signature, ("old", "new"), now=1100, **REQUEST)  # type: ignore[arg-type]


@pytest.mark.parametrize("changed", [{"method": "PUT"}, {"path": "/v1/other"}, {"body": b"{} "}])
def test_a_changed_request_does_not_pass(changed: dict[str, object]) -> None:
    signature = parse_signature(f"t=1000,v1={sign('s', timestamp=1000, **REQUEST)}")  # type: ignore[arg-type]
    with pytest.raises(Unauthenticated) as refusal:
        check_signature(signature, ("s",), now=1000, **{**REQUEST, **changed})  # type: ignore[arg-type]
    assert refusal.value.code == "invalid_signature"


@pytest.mark.parametrize("now", [1301, 699])
def test_an_old_or_early_signature_does_not_pass(now: int) -> None:
    signature = parse_signature(f"t=1000,v1={sign('s', timestamp=1000, **REQUEST)}")  # type: ignore[arg-type]
    with pytest.raises(Unauthenticated) as refusal:
        check_signature(signature, ("s",), now=now, **REQUEST)  # type: ignore[arg-type]
    assert refusal.value.code == "timestamp_out_of_window"


@pytest.mark.parametrize(
    "header",
    [
        "",
        "t=1",
        "v1=" + "a" * 64,
        "t=x,v1=" + "a" * 64,
        "t=1,v1=",
        "t=1,v1=" + "A" * 64,
        "t=1,t=2,v1=" + "a" * 64,
        "a" * 1000,
    ],
)
def test_a_malformed_header_is_said_so(header: str) -> None:
    with pytest.raises(Unauthenticated) as refusal:
        parse_signature(header)
    assert refusal.value.code == "malformed_signature"


def test_a_sealed_secret_opens_with_its_key_and_id_only() -> None:
    sealed = seal("cm_sk_x", key_id="key_a", master_key=b"k" * 32)
    assert b"cm_sk_x" not in sealed
    assert unseal(sealed, key_id="key_a", master_key=b"k" * 32) == "cm_sk_x"
    for key_id, master_key in (("key_b", b"k" * 32), ("key_a", b"l" * 32)):
        with pytest.raises(Misconfigured):
            unseal(sealed, key_id=key_id, master_key=master_key)
