"""Which partition a record goes to. A key is a tenant's id, and one byte more where the tenant is spread."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from uuid import UUID

TENANT_BYTES = 16
MAX_SUB_KEYS = 256


def spread_key(tenant_id: UUID, request_id: str, sub_keys: int) -> bytes:
    """The key of a request: its tenant, and for one that is spread over `sub_keys` (2 to 256) which of them."""
    if sub_keys <= 1:
        return tenant_id.bytes
    return tenant_id.bytes + bytes([zlib.crc32(request_id.encode()) % sub_keys])


def tenant_part(key: bytes) -> bytes:
    """What of a key is the tenant, spread or not."""
    return key[:TENANT_BYTES]


def partition_of(key: bytes, count: int, hash_of: Callable[[bytes], int] = zlib.crc32) -> int:
    """The partition of a key. Sub-keys are neighbours, so that k of them are in min(k, count) partitions: hashed with
    the rest, some of a few would meet in one."""
    sub_key = key[TENANT_BYTES] if len(key) == TENANT_BYTES + 1 else 0
    return (hash_of(tenant_part(key)) + sub_key) % count
