"""Global ids: `Type:local` in base64. They name; they do not allow."""

from __future__ import annotations

import base64
import binascii
from uuid import UUID

from core.errors import NotFound

MAX_ID_LENGTH = 256


def global_id(kind: str, local: str) -> str:
    return base64.urlsafe_b64encode(f"{kind}:{local}".encode()).decode().rstrip("=")


def parse_global_id(text: str) -> tuple[str, str]:
    """Type and local id; ('', '') of what is none."""
    try:
        padded = text + "=" * (-len(text) % 4)
        kind, _, local = base64.b64decode(padded, altchars=b"-_", validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError, ValueError):
        return "", ""
    return (kind, local) if len(text) <= MAX_ID_LENGTH else ("", "")


def uuid_of(text: str, kind: str, *, field: str = "id") -> UUID:
    """The UUID that a global id of one kind names.

    Raises:
        NotFound: it names none; the same words as for one that is missing.
    """
    found, local = parse_global_id(text)
    try:
        if found == kind:
            return UUID(local)
    except ValueError:
        pass
    raise missing(kind, field=field)


def missing(kind: str, *, field: str = "id") -> NotFound:
    """What is answered for an id that names nothing of the caller's tenant, for whatever reason."""
    return NotFound(f"There is no {kind} with that id.", field=field)
