"""Tokens that travel in links: made at random, kept as hashes, each kind with a prefix by which scanners of leaked
secrets know it and which no other door takes."""

from __future__ import annotations

import hashlib
import re
import secrets
from enum import StrEnum


class LinkKind(StrEnum):
    """What a link lets do; the prefix of its token."""

    INVITATION = "cm_inv_"
    PASSWORD_RESET = "cm_rst_"


def new_token(kind: LinkKind) -> str:
    """256 random bits; in a message they stand once, in the database never."""
    return kind.value + secrets.token_urlsafe(32)


def hash_of(token: str, kind: LinkKind) -> bytes | None:
    """What is kept of a token; None of a text that can be none of this kind."""
    if not re.fullmatch(re.escape(kind.value) + r"[A-Za-z0-9_-]{43}", token):
        return None
    return hashlib.sha256(token.encode()).digest()
