"""Where a reader of a live stream stopped: `<epoch>.<seq>`. An epoch names its tenant and its stream under a signature,
so that nobody else's can be made up, and one of another question is known for one."""

from __future__ import annotations

import hmac
import os
import re
from dataclasses import dataclass
from hashlib import sha256

from core.errors import BadInput
from core.tenancy import TenantId
from resolvers.live_stream import LiveKey

MAX_LENGTH = 64
_FORM = re.compile(r"([0-9a-f]{12})([0-9a-f]{12})([0-9a-f]{16})\.([0-9]{1,15})")


@dataclass(frozen=True, slots=True)
class Cursor:
    """A place in an epoch; `digest` says of which stream."""

    epoch: str
    digest: str
    seq: int


def new_epoch(key: LiveKey, secret: bytes) -> str:
    """The name of a stream's new epoch."""
    name = os.urandom(6).hex() + digest_of(key)
    return name + _signature(key.tenant_id, name, secret)


def digest_of(key: LiveKey) -> str:
    """Which stream it is, in every process alike."""
    return sha256(repr(key).encode()).hexdigest()[:12]


def read_cursor(text: str, tenant_id: TenantId, secret: bytes) -> Cursor:
    """The place of a cursor.

    Raises:
        BadInput: `invalid_cursor`: none that this tenant was ever sent.
    """
    found = _FORM.fullmatch(text) if len(text) <= MAX_LENGTH else None
    if found is None or not hmac.compare_digest(found[3], _signature(tenant_id, found[1] + found[2], secret)):
        raise BadInput(
            "resumeFrom must be the `cursor` of a frame, unchanged; leave it out to begin with a SNAPSHOT.",
            code="invalid_cursor",
            field="resumeFrom",
        )
    return Cursor(found[1] + found[2] + found[3], found[2], int(found[4]))


def _signature(tenant_id: TenantId, name: str, secret: bytes) -> str:
    return hmac.digest(secret, f"live.{tenant_id}.{name}".encode(), "sha256")[:8].hex()
