"""Which passwords are accepted, and that verifying is the same work for everybody, off the loop, and bounded."""

from __future__ import annotations

import asyncio

import pytest
from argon2 import PasswordHasher

from core import passwords
from core.errors import BadInput, Unavailable
from core.passwords import Passwords, checked_password, hash_password, is_common, verify_password

GOOD = "correct horse battery staple"


def refused(password: str, email: str = "ada@shop.example", name: str = "Ada Lovelace") -> str:
    with pytest.raises(BadInput) as refusal:
        checked_password(password, email=email, name=name)
    assert refusal.value.field == "password"
    return refusal.value.code


def test_a_good_password_is_accepted_as_it_is_typed() -> None:
    assert checked_password(GOOD, email="ada@shop.example", name="Ada") == GOOD


@pytest.mark.parametrize("password", ["", "short", "elevenchars", "x7#" * 86, "a1!b2?" * 100_000])
def test_short_and_over_long_passwords_are_refused(password: str) -> None:
    assert refused(password) == "password_length"


@pytest.mark.parametrize("password", ["with\x00nul and more", "a bell\x07 and more", "\ud800 lone surrogate"])
def test_control_characters_are_refused(password: str) -> None:
    assert refused(password) == "password_characters"


@pytest.mark.parametrize(
    "password", ["my-lovelace-secret", "LoveLace!2938x", "the shop at the corner", "cloudmetrics-9!x"]
)
def test_parts_of_the_email_the_name_or_ours_are_refused(password: str) -> None:
    assert refused(password) == "password_own"


@pytest.mark.parametrize(
    "password",
    [
        "1qaz2wsx3edc", "Password1234", "P@ssw0rd1234!", "!!!monkey!!!!", "qwerty7391840", "Letmein!2026!",
        "aaaaaaaaaaaa", "abababababab", "abcdefghijklmn", "1234567890123", "lkjhgfdsapoiuy", "zyxwvutsrqpo",
    ],
)  # fmt: skip
def test_what_is_tried_first_is_refused(password: str) -> None:
    assert is_common(password)
    assert refused(password, "x@y.example", "") == "password_breached"


@pytest.mark.parametrize("password", [GOOD, "7w-monkey-vRq2#tl", "Grüne Bäume am Fluß", "δέκα πέντε ναύτες"])
def test_long_passwords_that_nobody_tries_are_accepted(password: str) -> None:
    assert not is_common(password)


def test_composed_and_decomposed_letters_are_one_password() -> None:
    kept = hash_password("Grüne Bäume am Fluß")
    assert verify_password("Gru\u0308ne Ba\u0308ume\u00a0am Fluß", kept).is_good


def test_a_hash_is_argon2id_salted_and_of_the_parameters_told() -> None:
    one, other = hash_password(GOOD), hash_password(GOOD)
    assert one != other and one.startswith("$argon2id$v=19$m=47104,t=2,p=1$")
    assert verify_password(GOOD, one) == passwords.Verified(True)
    assert not verify_password(GOOD + "!", one).is_good


def test_a_hash_of_lesser_parameters_is_replaced_at_the_next_sign_in() -> None:
    old = PasswordHasher(time_cost=1, memory_cost=1024, parallelism=1).hash(GOOD)
    verified = verify_password(GOOD, old)
    assert verified.is_good and verified.better_hash is not None
    assert verify_password(GOOD, verified.better_hash) == passwords.Verified(True)


def test_nobodys_password_costs_one_verification_of_the_same_parameters(monkeypatch: pytest.MonkeyPatch) -> None:
    """Equal time is equal work: the same function over a hash of the same cost, whoever is asked for."""
    asked: list[str] = []
    verify = PasswordHasher.verify

    def counted(self: PasswordHasher, kept: str, password: str) -> bool:
        asked.append(kept.split("$")[3])
        return verify(self, kept, password)

    monkeypatch.setattr(PasswordHasher, "verify", counted)
    known = verify_password("not the one", hash_password(GOOD))
    nobody = verify_password("not the one", None)
    assert known == nobody == passwords.Verified(False)
    assert asked == ["m=47104,t=2,p=1"] * 2


def test_what_stands_in_for_nobodys_hash_lets_nobody_in() -> None:
    assert not verify_password("", None).is_good
    assert not verify_password(GOOD, "not a hash").is_good
    assert not verify_password("x" * 100_000, None).is_good


async def test_a_flood_waits_in_a_bounded_row_and_the_rest_is_told_to_come_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(passwords, "WAIT_SECONDS", 300.0)
    hashing = Passwords()
    try:
        kept = await hashing.hashed(GOOD)
        tried = [hashing.verified("wrong one", kept) for _ in range(passwords.MOST_WAITING + 5)]
        answers = await asyncio.gather(*tried, return_exceptions=True)
    finally:
        await hashing.close()
    refusals = [answer for answer in answers if isinstance(answer, Unavailable)]
    assert len(refusals) == 5 and {refusal.code for refusal in refusals} == {"sign_in_busy"}
    assert [answer for answer in answers if not isinstance(answer, Unavailable)] == [
        passwords.Verified(False)
    ] * passwords.MOST_WAITING


async def test_who_waited_too_long_is_told_to_come_back_and_its_place_is_free_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hashing = Passwords()
    try:
        monkeypatch.setattr(passwords, "WAIT_SECONDS", 0.001)
        tried = [hashing.verified("wrong one", None) for _ in range(passwords.MOST_WAITING)]
        answers = await asyncio.gather(*tried, return_exceptions=True)
        assert all(isinstance(answer, Unavailable) and answer.code == "sign_in_busy" for answer in answers)
        monkeypatch.setattr(passwords, "WAIT_SECONDS", 300.0)
        assert await hashing.verified("wrong one", None) == passwords.Verified(False)
    finally:
        await hashing.close()
