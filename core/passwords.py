"""Passwords: which are accepted, and how they are kept (argon2id, RFC 9106), hashed off the event loop.

A hash costs about 0.1 s of a core and 46 MiB, so a process makes two at a time, in threads that yield to everything
else, and lets only so many wait: a flood of sign-ins neither stalls queries nor takes memory.
"""

from __future__ import annotations

import asyncio
import gzip
import os
import re
import threading
import unicodedata
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import ParamSpec, TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from core.errors import BadInput, Unavailable

MIN_LENGTH = 12
MAX_LENGTH = 256
# OWASP's first choice for argon2id (46 MiB, one pass, one lane) with one pass more. Salt and tag are RFC 9106's.
MEMORY_KIB = 47_104
PASSES = 2
LANES = 1
SALT_BYTES, TAG_BYTES = 16, 32
HASHING_AT_ONCE = 2
# A second's worth on an idle machine; who comes then is told to come back, and so is who waited too long on a busy one.
MOST_WAITING = 20
WAIT_SECONDS = 8.0
NICENESS = 5
# Shorter ones are within too many good passwords.
LEAST_PART = 4
LEAST_DIFFERENT = 5
COMMON_PASSWORDS = Path(__file__).parent / "data" / "common_passwords.txt.gz"

_HASHER = PasswordHasher(
    time_cost=PASSES, memory_cost=MEMORY_KIB, parallelism=LANES, hash_len=TAG_BYTES, salt_len=SALT_BYTES
)
_WALKS = ("abcdefghijklmnopqrstuvwxyz" * 2, "1234567890" * 26, "qwertyuiopasdfghjklzxcvbnm" * 2, "1qaz2wsx3edc4rfv5tgb")
_UNDISGUISED = str.maketrans("@4310$5!7", "aaeiossit")
_AROUND = re.compile(r"^[\W\d_]+|[\W\d_]+$")
_AFTER = re.compile(r"[\W\d_]+$")
T = TypeVar("T")
P = ParamSpec("P")


@dataclass(frozen=True, slots=True)
class Verified:
    """Whether a password was right, and the hash to keep from now on where the parameters have risen."""

    is_good: bool
    better_hash: str | None = None


def checked_password(password: str, *, email: str, name: str) -> str:
    """A password that may be kept for a person, as it is hashed: spaces and composition made one (RFC 8265, 4.2).

    Raises:
        BadInput: too short or long, with control characters, with a part of the e-mail or the name, or common.
    """
    if any(unicodedata.category(character) in ("Cc", "Cs", "Cn") for character in password[: MAX_LENGTH + 1]):
        raise _refused("A password has no control characters; leave them out.", "characters")
    text = _prepared(password[: 4 * MAX_LENGTH])
    if not MIN_LENGTH <= len(text) <= MAX_LENGTH:
        raise _refused(
            f"A password has {MIN_LENGTH} to {MAX_LENGTH} characters; this one has {len(password)}.", "length"
        )
    folded = text.casefold()
    for part in _own_parts(email, name):
        if part in folded:
            raise _refused("A password must not have a part of the e-mail or the name in it; choose another.", "own")
    if is_common(text):
        raise _refused(
            "This password is among those that are tried first (published breaches, rows of keys, repetitions); "
            "choose another, such as four words at random.",
            "breached",
        )
    return text


def is_common(password: str) -> bool:
    """Whether it is in the list of common ones, as it is, undisguised (p@ssw0rd) or with digits and signs around it;
    or repeats itself, has few different characters, or walks along the alphabet or the keys."""
    text = unicodedata.normalize("NFKC", password).casefold()
    common = _common_passwords()
    bare = (text, _AFTER.sub("", text), _AROUND.sub("", text))
    if any(form in common or form.translate(_UNDISGUISED) in common for form in bare):
        return True
    if len(set(text)) < LEAST_DIFFERENT or text in (text + text)[1:-1]:
        return True
    return any(text in walk or text[::-1] in walk for walk in _WALKS)


def hash_password(password: str) -> str:
    """The encoded hash ($argon2id$…) with a salt of its own; takes 0.1 s, so in a server by `Passwords.hashed`."""
    return _HASHER.hash(_prepared(password))


def verify_password(password: str, password_hash: str | None) -> Verified:
    """Whether it is the password of that hash; for None as much work, and no."""
    if len(password) > 2 * MAX_LENGTH:
        # Nobody has one as long, known or not.
        return Verified(False)
    text = _prepared(password)
    try:
        _HASHER.verify(password_hash or _nobodys_hash(), text)
    except (VerificationError, InvalidHashError):
        return Verified(False)
    if password_hash is None:
        return Verified(False)
    return Verified(True, _HASHER.hash(text) if _HASHER.check_needs_rehash(password_hash) else None)


class Passwords:
    """Hashes and verifies off the event loop; one a process."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(HASHING_AT_ONCE, "passwords", initializer=_yield_to_others)
        self._waiting = 0

    async def hashed(self, password: str) -> str:
        """The hash to keep.

        Raises:
            Unavailable: too many wait already.
        """
        return await self._run(hash_password, password)

    async def verified(self, password: str, password_hash: str | None) -> Verified:
        """As `verify_password`. Same error."""
        return await self._run(verify_password, password, password_hash)

    async def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        if self._waiting >= MOST_WAITING:
            raise _busy()
        self._waiting += 1
        try:
            # One that has not begun is taken out of the row when its time is over; one that has goes on to its end.
            async with asyncio.timeout(WAIT_SECONDS):
                return await asyncio.get_running_loop().run_in_executor(self._threads, partial(work, *args, **kwargs))
        except TimeoutError:
            raise _busy() from None
        finally:
            self._waiting -= 1


def _busy() -> Unavailable:
    return Unavailable("Too many sign-ins at once; try again in a moment.", retry_after=2.0, code="sign_in_busy")


def _prepared(password: str) -> str:
    spaced = "".join(" " if unicodedata.category(character) == "Zs" else character for character in password)
    # A lone surrogate has no bytes that could be hashed; checked_password refuses it, and nobody has one.
    return unicodedata.normalize("NFC", spaced).encode("utf-8", "replace").decode()


def _own_parts(email: str, name: str) -> set[str]:
    words = re.split(r"[\W_]+", f"{email} {name} cloudmetrics".casefold())
    return {word for word in words if len(word) >= LEAST_PART}


def _refused(message: str, reason: str) -> BadInput:
    return BadInput(message, code=f"password_{reason}", field="password")


def _yield_to_others() -> None:
    """On Linux a thread has a niceness of its own: the event loop goes first."""
    with suppress(OSError, AttributeError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)


@cache
def _common_passwords() -> frozenset[str]:
    return frozenset(gzip.decompress(COMMON_PASSWORDS.read_bytes()).decode().splitlines())


@cache
def _nobodys_hash() -> str:
    """What is verified for a person who is not there or has no password; of today's parameters."""
    return _HASHER.hash(os.urandom(16).hex())
