"""Refresh tokens: their text and what is kept of it. Pure; no I/O.

A token is 16 bytes that its whole family shares and 32 of its own, all random. Kept are hashes alone: of the family, of
the current token and of the one before it. So any token of a family that is neither is known to be a used one, without
a row for each; and only who had a token of the family can name it.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import re
from dataclasses import dataclass

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from core.errors import Unauthenticated

PREFIX = "cm_rt_"
FAMILY_BYTES, OWN_BYTES = 16, 32
_FORM = re.compile(r"cm_rt_[A-Za-z0-9_-]{64}")
_NONCE_BYTES = 12


@dataclass(frozen=True, slots=True)
class RefreshToken:
    """One token in the clear."""

    family: bytes
    own: bytes

    @classmethod
    def new(cls) -> RefreshToken:
        """The first of a family of its own."""
        return cls(os.urandom(FAMILY_BYTES), os.urandom(OWN_BYTES))

    @classmethod
    def parse(cls, text: str) -> RefreshToken:
        """A token from its text.

        Raises:
            Unauthenticated: it is none.
        """
        try:
            whole = base64.urlsafe_b64decode(text.removeprefix(PREFIX)) if _FORM.fullmatch(text) else b""
        except binascii.Error:
            whole = b""
        if len(whole) != FAMILY_BYTES + OWN_BYTES:
            raise Unauthenticated("The refresh token is missing or is none; sign in again.", code="invalid_token")
        return cls(whole[:FAMILY_BYTES], whole[FAMILY_BYTES:])

    @property
    def text(self) -> str:
        return PREFIX + base64.urlsafe_b64encode(self.family + self.own).decode()

    @property
    def family_hash(self) -> bytes:
        return hashlib.sha256(self.family).digest()

    @property
    def hash(self) -> bytes:
        return hashlib.sha256(self.family + self.own).digest()

    def successor(self) -> RefreshToken:
        return RefreshToken(self.family, os.urandom(OWN_BYTES))

    def seal(self, successor: RefreshToken) -> bytes:
        """The successor, for nobody but who has this token: its key is kept nowhere. AES-256-GCM, nonce first."""
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + AESGCM(self._sealing_key()).encrypt(nonce, successor.own, self.family)

    def unseal(self, sealed: bytes) -> RefreshToken:
        """The successor that `seal` was given."""
        own = AESGCM(self._sealing_key()).decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], self.family)
        return RefreshToken(self.family, own)

    def _sealing_key(self) -> bytes:
        return hmac.digest(self.own, b"successor:" + self.family, "sha256")
