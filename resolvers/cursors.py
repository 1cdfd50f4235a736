"""Cursors: places in a tenant's lists, signed, so that nobody else's place can be made up."""

from __future__ import annotations

import base64
import binascii
import hmac

from core.errors import BadInput

MAC_BYTES = 12
MAX_CURSOR_LENGTH = 512


def write_place(place: str, secret: bytes) -> str:
    """A place as the cursor of one connection; each has a secret of its own."""
    data = place.encode()
    return base64.urlsafe_b64encode(hmac.digest(secret, data, "sha256")[:MAC_BYTES] + data).decode().rstrip("=")


def read_place(text: str, secret: bytes) -> str:
    """The place of a cursor.

    Raises:
        BadInput: not one of this connection and tenant.
    """
    try:
        padded = text + "=" * (-len(text) % 4)
        data = base64.b64decode(padded, altchars=b"-_", validate=True) if len(text) < MAX_CURSOR_LENGTH else b""
    except (binascii.Error, ValueError):
        data = b""
    mac, place = data[:MAC_BYTES], data[MAC_BYTES:]
    if not place or not hmac.compare_digest(mac, hmac.digest(secret, place, "sha256")[:MAC_BYTES]):
        raise BadInput("after must be a cursor of this connection, unchanged.", code="invalid_cursor", field="after")
    return place.decode()
